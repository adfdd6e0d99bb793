package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/coord-kv/coord/op"
)

// TestMeanings walks every code through the table: each has a status, says what it is and what to do next, and no two
// have the same title.
func TestMeanings(t *testing.T) {
	titles := map[string]op.Code{}
	for _, code := range op.Codes() {
		m, ok := meanings[code]
		if !ok {
			t.Errorf("%s is not in the table", code)
			continue
		}
		if m.status < 400 || http.StatusText(m.status) == "" {
			t.Errorf("%s has status %d", code, m.status)
		}
		if m.zk > 0 {
			t.Errorf("%s has ZooKeeper code %d, which is no error", code, m.zk)
		}
		if !strings.HasSuffix(m.hint, ".") || strings.HasSuffix(m.title, ".") || m.title == "" {
			t.Errorf("%s: title %q, hint %q", code, m.title, m.hint)
		}
		if twin, taken := titles[m.title]; taken {
			t.Errorf("%s and %s have the same title", code, twin)
		}
		titles[m.title] = code
		if unavailable := m.status == 429 || m.status == 503; unavailable && !m.retry {
			t.Errorf("%s is answered %d and can't be retried", code, m.status)
		}
	}
	if len(meanings) != len(op.Codes()) {
		t.Errorf("the table has %d codes, there are %d", len(meanings), len(op.Codes()))
	}
}

// TestProblems shows what becomes of what an error carries.
func TestProblems(t *testing.T) {
	stat := &op.Stat{Mzxid: 9, Version: 3}
	for _, test := range []struct {
		err  error
		want problem
	}{
		{&op.Error{Code: op.BadVersion, Outcome: op.Decided, Path: "/a", Zxid: 12, Stat: stat},
			problem{Status: 412, Code: "bad_version", Outcome: "decided", Path: "/a", Zxid: 12, Current: &current{"9.3", 3, 9},
				Detail: `/a is at version 3, ETag "9.3"`}},
		{&op.Error{Code: op.HistoryGone, Oldest: 5},
			problem{Status: 410, Code: "history_gone", Outcome: "refused", Oldest: 5, Detail: "the oldest position kept is 5"}},
		{&op.Error{Code: op.TooLarge, Limit: 10, Have: 11},
			problem{Status: 413, Code: "too_large", Outcome: "refused", Limit: 10, Have: 11, Detail: "it comes to 11, the limit is 10"}},
		{&op.Error{Code: op.OutcomeUnknown, Outcome: op.Unknown},
			problem{Status: 504, Code: "outcome_unknown", Outcome: "unknown", Detail: "It is not known whether this took effect"}},
		{&op.Error{Code: op.NoLeader},
			problem{Status: 503, Code: "no_leader", Outcome: "refused", Retryable: true, RetryAfter: 1, Detail: "The cluster has no leader just now"}},
		{&op.Error{Code: op.BadPath, Path: strings.Repeat("/a", op.MaxPathBytes), Detail: "too long"},
			problem{Status: 400, Code: "bad_path", Outcome: "refused", Detail: "too long"}},
		{errors.New("disk on fire at /secret/place"),
			problem{Status: 500, Code: "internal", Outcome: "unknown", Detail: "see the log"}},
		{statusError(418, op.Unsupported, "short and %s", "stout"),
			problem{Status: 418, Code: "unsupported", Outcome: "refused", Detail: "short and stout"}},
	} {
		got := newProblem(test.err, false)
		if got.Hint == "" || got.Title == "" || got.Type != "urn:coord:error:"+got.Code {
			t.Errorf("%v: %+v", test.err, got)
		}
		got.Type, got.Title, got.Hint, got.ZKCode = "", "", "", 0
		if string(marshal(got)) != string(marshal(test.want)) {
			t.Errorf("%v:\n got %s\nwant %s", test.err, marshal(got), marshal(test.want))
		}
	}
}

// TestUnknownOutcome: only a key makes it safe to repeat what may have happened.
func TestUnknownOutcome(t *testing.T) {
	err := &op.Error{Code: op.OutcomeUnknown, Outcome: op.Unknown}
	if newProblem(err, false).Retryable || !newProblem(err, true).Retryable {
		t.Error("an unknown outcome is retryable if and only if the request has a key")
	}
}

// TestLostQuorum: where members are known to be down, the hint names them instead of an election.
func TestLostQuorum(t *testing.T) {
	f := newFixture(t)
	f.m.tell(func() {
		f.m.refuse = op.Errorf(op.NoLeader, "for now")
		f.m.status.Members = append(f.m.status.Members, op.MemberStatus{ID: 3, Name: "n3"}, op.MemberStatus{ID: 4, Name: "n4", Learner: true})
	})
	if got := lostQuorum(f.s.status.get(f.s)); got != "" {
		t.Errorf("with two of three up it says %s", got)
	}
	f.m.tell(func() { f.m.status.Members[1].Up = false })
	const want = "Start n2 and n3: this member can't reach them, and 2 of 3 are needed. Reads with ?consistency=eventual still work."
	f.s.status.last.Store(nil)
	if r := f.send("PUT", "/v1/nodes/a", "x"); r.StatusCode != 503 || !strings.Contains(string(r.body), want) {
		t.Errorf("%s\n%s", r.Status, r.body)
	}
	f.m.tell(func() { f.m.status.Ready = false })
	f.s.status.last.Store(nil)
	if got := lostQuorum(f.s.status.get(f.s)); !strings.Contains(got, "nothing is read here") {
		t.Errorf("of a member that doesn't serve yet it says %s", got)
	}
}

// TestHints fills in the node that a hint is about.
func TestHints(t *testing.T) {
	for _, test := range []struct{ path, want string }{
		{"/a b/c", "List what is there with GET /v1/nodes/a%20b?children, or create it with PUT; ?parents makes missing parents."},
		{"/a", "List what is there with GET /v1/nodes/?children, or create it with PUT; ?parents makes missing parents."},
		{"", "List what is there with GET /v1/nodes/{parent}?children, or create it with PUT; ?parents makes missing parents."},
		{"bad", "List what is there with GET /v1/nodes/{parent}?children, or create it with PUT; ?parents makes missing parents."},
	} {
		if got := meanings[op.NoNode].hintFor(test.path); got != test.want {
			t.Errorf("hint for %q:\n got %s\nwant %s", test.path, got, test.want)
		}
	}
}
