package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/configuration.md anew")

const page = "../../docs/configuration.md"

// TestPage: docs/configuration.md has the table as it is.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- made from the table: go test ./internal/config -run TestPage -update -->\n", "<!-- end -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost its marks", page)
	}
	want := before + begin + tables() + end + after
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: go test ./internal/config -run TestPage -update", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func tables() string {
	var b strings.Builder
	group := ""
	for _, o := range New().Options() {
		if o.FlagOnly {
			continue
		}
		if o.Group != group {
			group = o.Group
			fmt.Fprintf(&b, "\n## %s\n\n| option | default | type | |\n|---|---|---|---|\n", group)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", o.Name, code(o.Value.String()), kind(o), o.Help)
	}
	return b.String() + "\n"
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// kind describes the type with its range.
func kind(o Option) string {
	if o.Range == "" {
		return o.Value.Type()
	}
	return o.Value.Type() + ": " + o.Range
}
