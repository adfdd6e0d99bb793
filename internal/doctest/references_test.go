package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// TestReferences: every file and heading that a page links to is there, and so is every test that it names.
func TestReferences(t *testing.T) {
	tests := testNames(t)
	for _, page := range pages(t) {
		text := readPage(t, page)
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(m[1], "://") && !resolves(t, page, m[1]) {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
		for _, name := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`).FindAllString(text, -1) {
			if !tests[name] {
				t.Errorf("%s names %s, and there is no such test", page, name)
			}
		}
	}
}

func pages(t *testing.T) (all []string) {
	for _, pattern := range []string{"/*.md", "/docs/*.md", "/docs/adr/*.md"} {
		found, err := filepath.Glob(root + pattern)
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		all = append(all, found...)
	}
	return all
}

func readPage(t *testing.T, name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func resolves(t *testing.T, page, link string) bool {
	file, anchor, _ := strings.Cut(link, "#")
	target := filepath.Join(filepath.Dir(page), file)
	if file == "" {
		target = page
	}
	if _, err := os.Stat(target); err != nil || anchor == "" {
		return err == nil
	}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(readPage(t, target), -1) {
		if slug(m[1]) == anchor {
			return true
		}
	}
	return false
}

// slug is the anchor of a heading, as GitHub makes it.
func slug(heading string) string {
	heading = regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(heading, " ", "-")
}

// testNames returns all tests and fuzz targets of the module.
func testNames(t *testing.T) map[string]bool {
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
