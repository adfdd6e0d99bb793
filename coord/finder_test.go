package coord

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestEndpoints(t *testing.T) {
	for text, want := range map[string]string{
		"localhost":              "http://localhost:7070",
		"10.0.0.1:80":            "http://10.0.0.1:80",
		"http://a.example/":      "http://a.example:7070",
		"https://a.example:7443": "https://a.example:7443",
		"http://[::1]:7071":      "http://[::1]:7071",
		"":                       "",
		"a b":                    "",
		"ws://a":                 "",
		"http://a/v1":            "",
		"http://u:p@a":           "",
	} {
		e, err := parseEndpoint(text, false)
		if want == "" && err == nil || want != "" && e.String() != want {
			t.Errorf("%q is %s, %v", text, e, err)
		}
	}
}

// Names are resolved for each round, and all addresses behind them are tried, the one that failed last.
func TestRoundsResolve(t *testing.T) {
	addrs := []string{"10.0.0.1", "10.0.0.2"}
	f := &finder{float: randomFloat, lookup: func(_ context.Context, host string) ([]string, error) {
		if host == "gone" {
			return nil, errors.New("no such host")
		}
		return addrs, nil
	}}
	for _, s := range []string{"members", "gone", "192.0.2.9"} {
		e, _ := parseEndpoint(s, false)
		f.configured = append(f.configured, e)
	}
	tried := func(failed string) (list []string, failures int) {
		for _, x := range f.round(t.Context(), failed) {
			if x.err != nil {
				failures++
				continue
			}
			list = append(list, x.addr)
		}
		return list, failures
	}
	for range 20 {
		list, failures := tried("10.0.0.1:7070")
		if len(list) != 3 || failures != 1 || list[2] != "10.0.0.1:7070" {
			t.Fatalf("it tries %q, and %d names fail", list, failures)
		}
	}
	addrs = []string{"10.0.0.3"}
	f.learn([]string{"http://10.0.0.4:7070", "http://10.0.0.4:7070", "nonsense://", "http://members"})
	list, _ := tried("")
	if slices.Sort(list[:2]); !slices.Equal(list, []string{"10.0.0.3:7070", "192.0.2.9:7070", "10.0.0.4:7070"}) {
		t.Errorf("it tries %q", list)
	}
}

// What is learned never lowers the guard.
func TestLearnsNoPlainEndpoints(t *testing.T) {
	e, _ := parseEndpoint("https://a", false)
	f := &finder{configured: []endpoint{e}, float: randomFloat}
	f.learn([]string{"http://b", "https://c"})
	if len(f.learned) != 1 || f.learned[0].host != "c" {
		t.Errorf("it learned %v", f.learned)
	}
}

func TestBackoff(t *testing.T) {
	full := func() float64 { return 1 }
	for _, test := range []struct {
		failures    int
		limit, want time.Duration
	}{
		{1, time.Hour, 50 * time.Millisecond},
		{2, time.Hour, 100 * time.Millisecond},
		{5, time.Hour, 800 * time.Millisecond},
		{1000, time.Hour, backoffCap},
		{1000, time.Second, time.Second},
	} {
		if got := backoff(test.failures, test.limit, full); got != test.want {
			t.Errorf("after %d failures the limit is %s, not %s", test.failures, got, test.want)
		}
	}
	if got := backoff(5, time.Hour, func() float64 { return 0 }); got != 0 {
		t.Errorf("the least pause is %s", got)
	}
}
