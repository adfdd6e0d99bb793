package coord_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every block of Go in the documentation of the client stands in the examples, line by line.
func TestTour(t *testing.T) {
	page := ""
	for _, name := range []string{"../README.md", "../docs/go-client.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		page += string(text)
	}
	files, err := filepath.Glob("*/example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	examples := ""
	for _, name := range append(files, "example_test.go") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		examples += string(text)
	}
	blocks := strings.Split(page, "\n```go\n")[1:]
	if len(blocks) < 10 {
		t.Errorf("the pages have %d blocks of Go", len(blocks))
	}
	for _, b := range blocks {
		code, _, _ := strings.Cut(b, "```")
		if !strings.Contains(examples, "\n"+code) {
			t.Errorf("this is in no example:\n%s", code)
		}
	}
}
