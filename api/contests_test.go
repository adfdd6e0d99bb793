package api

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestContestMetrics: who holds and who waits is counted from the tree, whoever put it there.
func TestContestMetrics(t *testing.T) {
	f := newFixture(t)
	f.must("PUT", "/v1/nodes/locks/a?parents", "")
	f.must("PUT", "/v1/nodes/locks/rw?parents", "")
	f.must("PUT", "/v1/nodes/locks/empty?parents", "")
	f.must("PUT", "/v1/nodes/elections/e?parents", "")
	for _, contender := range []string{"locks/a?sequence=x-lock-", "locks/a?sequence=y-lock-", "locks/a?sequence=z-lock-",
		"locks/rw?sequence=x-__READ__", "locks/rw?sequence=y-__READ__", "locks/rw?sequence=z-__WRIT__", "locks/rw?sequence=w-__READ__",
		"elections/e?sequence=x-latch-"} {
		f.must("POST", "/v1/nodes/"+contender, "")
	}
	text := string(f.must("GET", "/metrics", "").body)
	for _, want := range []string{
		`coord_locks_held{mode="exclusive"} 1`, `coord_locks_held{mode="shared"} 2`, `coord_lock_waiters 4`, `coord_elections 1`,
		`coord_lock_oldest_waiter_seconds `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
}

var metricName = regexp.MustCompile(`\bcoord_[a-z0-9_]+`)

// TestAlertsAndDashboards: each metric that an alert or a dashboard names exists, each alert has its runbook, and promtool,
// where it is installed, accepts the rules, their tests, and every expression of the dashboards.
func TestAlertsAndDashboards(t *testing.T) {
	names := knownMetrics(t)
	var expressions []string
	for _, file := range glob(t, "../docs/grafana/*.json") {
		expressions = append(expressions, dashboardExpressions(t, file)...)
	}
	rules := read(t, "../docs/prometheus/alerts.yml")
	for _, name := range metricName.FindAllString(rules+strings.Join(expressions, "\n"), -1) {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if !names[name] && !names[base] {
			t.Errorf("%s is named, but there is no such metric", name)
		}
	}
	runbooks, tested := read(t, "../docs/runbooks.md"), read(t, "../docs/prometheus/alerts_test.yml")
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	for _, alert := range alerts {
		if !strings.Contains(tested, "alertname: "+alert[1]+"\n") {
			t.Errorf("%s is not seen to fire in docs/prometheus/alerts_test.yml", alert[1])
		}
		if !strings.Contains(runbooks, "\n## "+alert[1]+"\n") || !strings.Contains(rules, "runbooks.md#"+strings.ToLower(alert[1])+"\n") {
			t.Errorf("%s has no section in docs/runbooks.md, or doesn't point to it", alert[1])
		}
	}
	if n := strings.Count(runbooks, "\n## "); n != len(alerts) {
		t.Errorf("docs/runbooks.md has %d sections for %d alerts", n, len(alerts))
	}
	t.Run("promtool", func(t *testing.T) { checkWithPromtool(t, expressions) })
}

// knownMetrics are the names in the golden list, which TestMetricNames holds against the registry.
func knownMetrics(t *testing.T) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(read(t, "testdata/metrics.txt")) {
		names[metricName.FindString(line)] = true
	}
	return names
}

func dashboardExpressions(t *testing.T, file string) (all []string) {
	var board struct {
		UID, Title string
		Panels     []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, file)), &board); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if board.UID+".json" != filepath.Base(file) || len(board.Panels) == 0 {
		t.Errorf("%s has the uid %q and %d panels", file, board.UID, len(board.Panels))
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

// checkWithPromtool puts the dashboards' expressions into recording rules, with Grafana's variables filled in.
func checkWithPromtool(t *testing.T, expressions []string) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed; it is part of Debian's package prometheus")
	}
	fill := strings.NewReplacer("$job", "coord", "$__rate_interval", "1m")
	b := new(strings.Builder)
	b.WriteString("groups:\n- name: dashboards\n  rules:\n")
	for _, e := range expressions {
		quoted, _ := json.Marshal(fill.Replace(e)) // JSON's strings are YAML's
		b.WriteString("  - {record: 'coord:checked', expr: " + string(quoted) + "}\n")
	}
	recorded := filepath.Join(t.TempDir(), "dashboards.yml")
	if err := os.WriteFile(recorded, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "rules", "../docs/prometheus/alerts.yml"}, {"test", "rules", "../docs/prometheus/alerts_test.yml"},
		{"check", "rules", "--lint=none", recorded},
	} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(exposition(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func exposition(t *testing.T) string {
	f := newFixture(t)
	exercise(f)
	return string(f.must("GET", "/metrics", "").body)
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v %v", pattern, files, err)
	}
	return slices.Sorted(slices.Values(files))
}
