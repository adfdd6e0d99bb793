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
