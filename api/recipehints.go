package api

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/coord-kv/coord/op"
)

// recipeHints say what to do next where an error of a recipe needs another thing than what its code needs elsewhere, by
// pattern or resource. {id} is the name in the request's path.
var recipeHints = map[string]map[op.Code]string{
	"/v1/locks": {
		op.NoLock:         "See GET /v1/locks for those in use; POST /v1/locks/{id} acquires one, whether anybody has before or not.",
		op.LockHeld:       "Wait for it with ?wait=30s, or try again later; GET /v1/locks/{id} shows who holds it and who waits.",
		op.NotHolder:      "See GET /v1/locks/{id} for who holds it; POST /v1/locks/{id} acquires it.",
		op.SessionExpired: "What it held is given back. Acquire it again with POST /v1/locks/{id}, without Coord-Session or in one that lives.",
		op.MixedDialect:   "Use another name, or what the lock is in use as: exclusive, ?shared, or ?limit; GET /v1/locks/{id} shows it.",
	},
	"/v1/elections": {
		op.NoLock:             "See GET /v1/elections for those in use; POST /v1/elections/{id} campaigns.",
		op.LockHeld:           "Wait to be elected with ?wait=30s, or try again later; GET /v1/elections/{id} shows who leads and who waits.",
		op.NotHolder:          "See GET /v1/elections/{id} for who leads; POST /v1/elections/{id} campaigns.",
		op.NotLeaderCandidate: "See GET /v1/elections/{id} for who is a candidate; POST /v1/elections/{id} makes one.",
		op.SessionExpired:     "What it led passes on. Campaign again with POST /v1/elections/{id}, without Coord-Session or in one that lives.",
	},
	"/v1/fence": {
		op.NoNode: "The first POST /v1/fence/{id}?token=N makes the register.",
	},
	"/v1/counters": {
		op.NoNode:             "See GET /v1/counters for those there are; POST /v1/counters/{id}?add=1 makes one.",
		op.PreconditionFailed: "Try again once it has moved, or with other bounds; GET /v1/counters/{id} has its value, and can wait for a change.",
	},
	"/v1/barriers/{id}/enter": {
		op.Timeout: "Enter again, with a longer ?wait; GET /v1/barriers/{id}/round shows who is there.",
	},
	"/v1/barriers": {
		op.SessionExpired: "Enter again with POST /v1/barriers/{id}/enter, without Coord-Session or in one that lives.",
	},
	"/v1/latches": {
		op.NoNode:     "See GET /v1/latches for those there are; PUT /v1/latches/{id}?count=N sets one.",
		op.NodeExists: "Count it down as it is, or remove it with DELETE /v1/latches/{id} and set it anew.",
	},
	"/v1/queues": {
		op.NoNode:         "See GET /v1/queues for those there are; POST /v1/queues/{id}/items pushes an item, and makes the queue.",
		op.NotHolder:      "Drop it: another consumer gets it, or has got it. POST /v1/queues/{id}/receive takes the next item.",
		op.SessionExpired: "What it had goes to others. Take an item with POST /v1/queues/{id}/receive, without Coord-Session or in one that lives.",
		op.QuotaExceeded:  "Push again once items were taken, or raise what the queue may hold with PUT /v1/queues/{id}?max_items=N.",
	},
	"/v1/groups": {
		op.NoNode:         "See GET /v1/groups/{id} for who is in it; PUT /v1/groups/{id}/members/NAME joins.",
		op.NodeExists:     "Join under another id, or take this one over with ?replace.",
		op.NotHolder:      "Only the session that joined can leave; GET /v1/groups/{id} shows it.",
		op.SessionExpired: "It has left the group. Join again with PUT, without Coord-Session or in one that lives.",
	},
	"/v1/once": {
		op.NotHolder:      "See GET /v1/once/{id} for who runs it and how the last run ended; POST /v1/once/{id}?every=24h asks for the next one.",
		op.SessionExpired: "Its run is lost, and may be somebody else's: stop it. POST /v1/once/{id} asks for the next one.",
	},
	"/v1/services": {
		op.NoNode:         "See GET /v1/services/{id} for the instances that it has; PUT registers one.",
		op.NodeExists:     "Register it under another id, or take this one over with ?replace.",
		op.NotHolder:      "Only the session that registered it can change it; GET /v1/services/{id} shows it.",
		op.SessionExpired: "Its instances are gone. Register again with PUT, without Coord-Session or in one that lives.",
	},
	configURL: {
		op.NoNode:     "See GET /v1/config/{id}/history for the versions that are kept.",
		op.NodeExists: "Leave out If-None-Match to replace the configuration, or send its ETag as If-Match to change what you have read.",
		op.BadVersion: "Read GET /v1/config/{id} again, decide again, and send the new ETag as If-Match; current has it.",
	},
	"/v1/leases": {
		op.NoSession:      "List them with GET /v1/leases, or grant one with POST /v1/leases.",
		op.SessionExpired: "Grant a new one with POST /v1/leases and create its nodes again.",
	},
}

// recipeHint returns what to do next after an error of that code, "" where the code's own hint fits.
func (c *call) recipeHint(code op.Code) string {
	if c.route == nil {
		return ""
	}
	resource, _ := splitResource(c.route.pattern)
	hint := cmp.Or(recipeHints[c.route.pattern][code], recipeHints[resource][code])
	id, _, _ := strings.Cut(c.arg, "/")
	if id == "" || len(id) > maxEcho {
		return hint
	}
	return strings.ReplaceAll(hint, "{id}", url.PathEscape(id))
}
