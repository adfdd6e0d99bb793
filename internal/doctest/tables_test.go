package doctest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of metrics in docs/operations.md anew")

const operations = "../../docs/operations.md"

// TestMetricsTable: docs/operations.md lists the metrics as they are. Their names come from the list that package api
// holds against its registry.
func TestMetricsTable(t *testing.T) {
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("../../api/testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "-run TestMetricsTable -update -->\n", "<!-- end -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost its marks", operations)
	}
	want := before + begin + metricsTable(string(list)) + end + after
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: go test ./internal/doctest -run TestMetricsTable -update", operations)
	}
	if err := os.WriteFile(operations, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

var metric = regexp.MustCompile(`(?m)^(\w+) (\w+)\{([^}]*)\} (.*)$`)

func metricsTable(list string) string {
	var b strings.Builder
	b.WriteString("\n| metric | type | labels | |\n|---|---|---|---|\n")
	for _, m := range metric.FindAllStringSubmatch(list, -1) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m[2], m[1], strings.ReplaceAll(m[3], ",", ", "), m[4])
	}
	return b.String() + "\n"
}

// TestExitCodes: docs/operations.md explains every exit code that a server can end with.
func TestExitCodes(t *testing.T) {
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	help, err := exec.Command(filepath.Join(binDir, "coord"), "exit-codes", "--help").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`(?m)^  +(\d+) {2,}`).FindAllStringSubmatch(string(help), -1)
	if len(codes) < 10 {
		t.Fatalf("found %q in\n%s", codes, help)
	}
	for _, m := range codes {
		if server := len(m[1]) == 2 || len(m[1]) == 1 && m[1] <= "2"; server != strings.Contains(string(text), "\n| "+m[1]+" | ") {
			t.Errorf("exit code %s is explained: %v; a server ends with it: %v", m[1], !server, server)
		}
	}
}

// TestOptionsExist: what the pages call by the form of an option is one.
func TestOptionsExist(t *testing.T) {
	help, err := exec.Command(filepath.Join(binDir, "coord"), "serve", "--help").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{operations, "../../docs/consistency.md", "../../docs/configuration.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("COORD_([A-Z_]+)").FindAllStringSubmatch(string(text), -1) {
			if flag := strings.ToLower(strings.ReplaceAll(m[1], "_", "-")); !strings.Contains(string(help), " --"+flag+" ") {
				t.Errorf("%s has %s, and there is no option %s", page, m[0], flag)
			}
		}
	}
}
