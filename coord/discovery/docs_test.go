package discovery_test

import (
	"os"
	"strings"
	"testing"
)

// Every block of Go in the tour stands in the examples, line by line.
func TestTour(t *testing.T) {
	page, err := os.ReadFile("../../docs/discovery.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := ""
	for _, name := range []string{"example_test.go", "grpcresolver/example_test.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		examples += string(text)
	}
	blocks := strings.Split(string(page), "\n```go\n")[1:]
	if len(blocks) < 5 {
		t.Errorf("the page has %d blocks of Go", len(blocks))
	}
	for _, b := range blocks {
		code, _, _ := strings.Cut(b, "```")
		if !strings.Contains(examples, "\n"+code) {
			t.Errorf("this is in no example:\n%s", code)
		}
	}
}
