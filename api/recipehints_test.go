package api

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestRecipeHints provokes what recipes refuse. What to do next is about the recipe, not about nodes or other recipes.
func TestRecipeHints(t *testing.T) {
	f := newFixture(t)
	session := func() []string {
		var s struct{ ID, Secret string }
		if err := json.Unmarshal(f.must("POST", "/v1/sessions", `{"ttl":"60s"}`).body, &s); err != nil {
			t.Fatal(err)
		}
		return []string{"Coord-Session: " + s.ID, "Coord-Session-Secret: " + s.Secret}
	}
	mine, theirs, ended := session(), session(), session()
	f.must("DELETE", "/v1/sessions/"+strings.TrimPrefix(ended[0], "Coord-Session: "), "", ended[1])
	for _, made := range [][2]string{
		{"POST", "/v1/locks/a"}, {"POST", "/v1/elections/e"}, {"PUT", "/v1/groups/g/members/w"}, {"POST", "/v1/queues/q/items"},
		{"PUT", "/v1/latches/l?count=1"}, {"PUT", "/v1/services/s/instances/i"}, {"POST", "/v1/once/o?every=1h"},
	} {
		body := map[string]string{"PUT /v1/services/s/instances/i": `{"address":"10.0.0.1","port":80}`, "POST /v1/queues/q/items": "x"}[made[0]+" "+made[1]]
		var as []string
		if !strings.Contains(made[1], "latches") && !strings.Contains(made[1], "queues") {
			as = mine
		}
		f.must(made[0], made[1], body, as...)
	}
	for _, test := range []struct {
		method, target, code, hint string
		as                         []string
	}{
		{"GET", "/v1/locks/none", "no_lock", "POST /v1/locks/none", nil},
		{"POST", "/v1/locks/a", "lock_held", "GET /v1/locks/a shows", theirs},
		{"POST", "/v1/locks/a?wait=1s", "lock_held", "Give it back before", mine},
		{"POST", "/v1/elections/e?wait=1s", "lock_held", "Give it back before", mine},
		{"POST", "/v1/locks/a?limit=3", "mixed_dialect", "GET /v1/locks/a shows", theirs},
		{"DELETE", "/v1/locks/a", "not_holder", "GET /v1/locks/a for who holds it", theirs},
		{"DELETE", "/v1/locks/b%20c", "session_expired", "Acquire it again with POST /v1/locks/b%20c", ended},
		{"POST", "/v1/locks/a/renew", "session_expired", "Acquire it again", ended},
		{"GET", "/v1/elections/none", "no_lock", "campaigns", nil},
		{"DELETE", "/v1/elections/e", "not_holder", "who leads", theirs},
		{"DELETE", "/v1/elections/e", "session_expired", "Campaign again", ended},
		{"POST", "/v1/elections/e/transfer?to=x", "not_leader_candidate", "GET /v1/elections/e for who is a candidate", nil},
		{"GET", "/v1/fence/none", "no_node", "POST /v1/fence/none?token=N", nil},
		{"DELETE", "/v1/counters/none", "no_node", "POST /v1/counters/none?add=1", nil},
		{"POST", "/v1/counters/c?add=5&max=1", "precondition_failed", "other bounds", nil},
		{"POST", "/v1/barriers/d/enter?count=2&wait=1ms", "timeout", "GET /v1/barriers/d/round", theirs},
		{"GET", "/v1/latches/none", "no_node", "PUT /v1/latches/none?count=N", nil},
		{"PUT", "/v1/latches/l?count=2", "node_exists", "DELETE /v1/latches/l", nil},
		{"GET", "/v1/queues/none", "no_node", "POST /v1/queues/none/items pushes", nil},
		{"DELETE", "/v1/queues/none", "no_node", "POST /v1/queues/none/items pushes", nil},
		{"DELETE", "/v1/queues/q/items/99-0000000000?token=7", "not_holder", "another consumer", theirs},
		{"PUT", "/v1/groups/g/members/w", "node_exists", "?replace", theirs},
		{"DELETE", "/v1/groups/g/members/w", "not_holder", "session that joined", theirs},
		{"DELETE", "/v1/groups/g/members/none", "no_node", "GET /v1/groups/g", theirs},
		{"POST", "/v1/once/o/end?token=7", "not_holder", "GET /v1/once/o", theirs},
		{"GET", "/v1/services/s/instances/none", "no_node", "GET /v1/services/s for the instances", nil},
		{"PUT", "/v1/services/s/instances/i", "node_exists", "?replace", theirs},
		{"DELETE", "/v1/services/s/instances/i", "not_holder", "registered it", theirs},
		{"GET", "/v1/config/shop?version=3", "no_node", "GET /v1/config/shop/history", nil},
		{"GET", "/v1/leases/s-7fff", "no_session", "POST /v1/leases", nil},
	} {
		body := ""
		if test.method == "PUT" && strings.Contains(test.target, "services") {
			body = `{"address":"10.0.0.1","port":80}`
		}
		r := f.send(test.method, test.target, body, test.as...)
		var p struct{ Code, Hint string }
		if err := json.Unmarshal(r.body, &p); err != nil || p.Code != test.code || !strings.Contains(p.Hint, test.hint) {
			t.Errorf("%s %s: want %s and %q\n%s", test.method, test.target, test.code, test.hint, r.body)
		}
	}
}
