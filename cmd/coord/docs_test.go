package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestManPages: every command has a page, the first one has the exit codes, and tables stay tables.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if r := execute(t.Context(), "", "docs", "man", dir); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	visit(newRoot(stdio{strings.NewReader(""), io.Discard, io.Discard}), func(c *cobra.Command) {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		page, err := os.ReadFile(filepath.Join(dir, name+".1"))
		switch {
		case c.IsAdditionalHelpTopicCommand():
		case err != nil:
			t.Error(err)
		case !strings.Contains(string(page), `.TH "`+strings.ToUpper(name)+`" "1"`):
			t.Errorf("the page of %s is another one's:\n%.200s", c.CommandPath(), page)
		}
		table := ".EX\nCOORD_LOCK            the name of the lock\nCOORD_FENCING_TOKEN   a number"
		if name == "coord-lock" && !strings.Contains(string(page), table) {
			t.Errorf("the table is none any more:\n%s", page)
		}
		if name == "coord" && !strings.Contains(string(page), "history gone: a watch can") {
			t.Errorf("there are no exit codes:\n%s", page)
		}
	})
}
