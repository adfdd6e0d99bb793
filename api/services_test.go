package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

// instancesIn returns those of an answer, as "id status".
func instancesIn(answer string) (all []string) {
	for _, part := range strings.Split(answer, `"service":"web","id":"`)[1:] {
		id, rest, _ := strings.Cut(part, `"`)
		_, rest, _ = strings.Cut(rest, `"status":"`)
		status, _, _ := strings.Cut(rest, `"`)
		all = append(all, id+" "+status)
	}
	return all
}

// TestServicePoll: who polls with the position of the last answer hears of each change as soon as it comes, of no
// other service's, and gets the state as it is when the wait is over.
func TestServicePoll(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		start, next := time.Now(), ""
		poll := func(after time.Duration, target, want string) {
			t.Helper()
			got := b.ask(target + next).body()
			if d := time.Since(start); d != after || !strings.HasPrefix(got, "200 ") || fmt.Sprint(instancesIn(got)) != want {
				t.Errorf("%s%s after %s, want %s:\n%s", target, next, d, after, got)
			}
			_, at, _ := strings.Cut(got, `"next":"`)
			at, _, _ = strings.Cut(at, `"`)
			next, start = "&since="+at, time.Now()
		}
		instance := func(service, id, status string) func() {
			return func() {
				data := `{"address":"10.0.0.1","port":80,"status":"` + status + `"}`
				b.write(set("/services/"+service+"/"+id, data))
			}
		}
		poll(0, "/v1/services/web?passing", "[]")
		time.AfterFunc(2*time.Second, instance("db", "x", "passing"))
		time.AfterFunc(3*time.Second, instance("web", "a", "passing"))
		poll(3*time.Second, "/v1/services/web?passing&wait=1m", "[a passing]")
		time.AfterFunc(time.Second, instance("web", "a", "critical"))
		poll(time.Second, "/v1/services/web?passing&wait=1m", "[]")
		poll(5*time.Second, "/v1/services/web?wait=5s", "[a critical]")
		instance("web", "b", "warning")() // between two polls
		poll(0, "/v1/services/web?wait=1m", "[a critical b warning]")
		time.AfterFunc(time.Second, func() { b.write(&op.Delete{Path: "/services/web/a", If: op.Always}) })
		poll(time.Second, "/v1/services/web?wait=1m", "[b warning]")
	})
}

// TestServicesPoll: the list of all services answers when any of them has changed.
func TestServicesPoll(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		b.write(set("/services/web/a", `{"address":"10.0.0.1","port":80,"status":"passing"}`))
		start := time.Now()
		time.AfterFunc(2*time.Second, func() {
			b.write(set("/services/db/x", `{"address":"10.0.0.2","port":81,"tags":["rw"],"status":"warning"}`))
		})
		got := b.ask("/v1/services?wait=1m&since=1").body()
		want := `200 {"services":[{"name":"db","passing":0,"warning":1,"critical":0,"tags":["rw"]},` +
			`{"name":"web","passing":1,"warning":0,"critical":0,"tags":[]}],"next":"2"}`
		if got != want || time.Since(start) != 2*time.Second {
			t.Errorf("after %s:\n got %s\nwant %s", time.Since(start), got, want)
		}
	})
}

// TestHoldInstance: an instance is there as long as its connection, whatever becomes of its status.
func TestHoldInstance(t *testing.T) {
	f := newFixture(t)
	put := func(target string) *holder {
		return f.followed(t, "PUT", target+"\n\n"+`{"address":"10.0.0.1","port":80}`)
	}
	a := put("/v1/services/web/instances/a?hold")
	a.want("registered")
	f.must("PATCH", "/v1/services/web/instances/a", `{"status":"critical"}`)
	f.until(t, "/v1/services/web", `"status":"critical"`)
	if r := f.send("PUT", "/v1/services/web/instances/a?hold", `{"address":"10.0.0.1","port":80}`); r.code() != "node_exists" {
		t.Errorf("%s", r.body)
	}
	b := put("/v1/services/web/instances/a?hold&replace")
	b.want("registered")
	a.want("lost broken")
	a.want("EOF")
	f.until(t, "/v1/services/web", `"status":"passing"`)
	b.conn.Close()
	f.until(t, "/v1/services/web", `"instances":[]`)
	f.until(t, "/v1/sessions", `"sessions":[]`)
	for body, field := range map[string]string{
		`{"address":"10.0.0.1","port":80,"secret":"AAAAAAAAAAAAAAAAAAAAAA"}`: "secret", `{"port":80}`: "address",
		`{"address":"10.0.0.1","port":80,"ttl":"0s"}`: "ttl",
	} {
		if r := f.send("PUT", "/v1/services/web/instances/a?hold", body); r.StatusCode != 400 || !strings.Contains(string(r.body), field) {
			t.Errorf("%s: %s", body, r.body)
		}
	}
}

// TestHoldTakesNoPlace: those who hold something are none of the requests that are served.
func TestHoldTakesNoPlace(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.Requests = 2 })
	for _, id := range []string{"a", "b", "c", "d"} {
		f.followed(t, "PUT", "/v1/services/web/instances/"+id+"?hold\n\n"+`{"address":"10.0.0.1","port":80}`).want("registered")
	}
}

// TestHoldInstanceInSession: with a session of the caller's own, the instance goes with the connection, and the session stays.
func TestHoldInstanceInSession(t *testing.T) {
	f := newFixture(t)
	f.must("POST", "/v1/sessions", `{"ttl":"30s","secret":"AAAAAAAAAAAAAAAAAAAAAA"}`)
	a := f.followed(t, "PUT", "/v1/services/web/instances/a?hold\nCoord-Session: s-1\nCoord-Session-Secret: AAAAAAAAAAAAAAAAAAAAAA\n\n"+
		`{"address":"10.0.0.1","port":80}`)
	a.want("registered")
	a.conn.Close()
	f.until(t, "/v1/services/web", `"instances":[]`)
	f.until(t, "/v1/sessions", `"id":"s-1"`)
}
