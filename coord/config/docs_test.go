package config_test

import (
	"os"
	"strings"
	"testing"
)

// Every block of Go on the page about configuration stands in the examples, line by line.
func TestTour(t *testing.T) {
	page, err := os.ReadFile("../../docs/app-config.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "\n```go\n")[1:]
	if len(blocks) < 3 {
		t.Errorf("the page has %d blocks of Go", len(blocks))
	}
	for _, b := range blocks {
		code, _, _ := strings.Cut(b, "```")
		if !strings.Contains(string(examples), "\n"+code) {
			t.Errorf("this is in no example:\n%s", code)
		}
	}
}
