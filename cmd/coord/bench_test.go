package main

import (
	"encoding/json"
	"testing"
)

// TestBench: each benchmark measures something, nothing fails, and nothing is left behind.
func TestBench(t *testing.T) {
	url := startMember(t)
	for _, what := range []string{"write", "read", "watch", "lock", "handover"} {
		r := execute(t.Context(), "", "bench", what, "-e", url, "-o", "json", "-q", "--duration", "50ms",
			"--connections", "2", "--in-flight", "3", "--keys", "10", "--consistency", "bounded:1m")
		var got struct {
			What       string
			Operations int
			Failed     int
			PerSecond  float64 `json:"per_second"`
		}
		if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != 0 {
			t.Fatalf("bench %s: %v\n%s", what, err, r.show())
		}
		if got.What != what || got.Operations == 0 || got.Failed != 0 || got.PerSecond <= 0 {
			t.Errorf("bench %s: %+v", what, got)
		}
		if r := execute(t.Context(), "", "stat", "/coord-bench", "-e", url); r.code != exitNotFound {
			t.Errorf("bench %s left something behind:\n%s", what, r.show())
		}
	}
}
