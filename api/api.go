// Package api is the HTTP door: nodes, transactions, sessions, leases, watches, the state of the cluster, health and
// metrics, as JSON, raw bytes and server-sent events. It knows views and streams, and nothing of consensus or disks: a
// [Backend] is all that it needs of the member behind it.
//
// A [Server] is made by New and served by Serve, or mounted by Handler. Each request becomes a call: it is checked as
// far as a door can check it (host, origin, size, shape, session secret), turned into one op.Op or one read of a view,
// and its result is written in one form. Whether something may be done is decided by the state machine alone.
//
// What a caller may rely on: docs/api.md and openapi.yaml, which the tests hold against every answer that they get.
// Every error is a problem document with a closed code, an outcome (refused, decided or unknown) and a hint.
//
// What hurts: what a handler reads it must read from one view, because two views may be two states. Query parameters,
// JSON fields and headers must be taken through the readers of this package, or the strictness has a hole.
package api

import (
	"context"
	"log/slog"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Backend is the member behind the door. Its methods may be called concurrently.
type Backend interface {
	// Do has the request decided, and returns when this member has applied it, so that its caller reads its own writes
	// here. Result.Err says what came of it: refused, decided, or unknown when ctx ended first, which abandons the wait
	// and not the request. The Backend sets the Tag.
	Do(ctx context.Context, r *op.Request) *op.Result
	// View returns a state that is as fresh as o asks, waiting for it as long as ctx lets. It must be cheap for Eventual.
	View(ctx context.Context, o op.ReadOptions) (*fsm.View, op.ReadInfo, error)
	// Watch returns the changes after from that match f. It never blocks.
	Watch(f watch.Filter, from op.Zxid) (*watch.Stream, error)
	// KeepAlive reports that the session's owner is alive and returns once the leader has confirmed it. The session then
	// lives at least that timeout, counted from when KeepAlive was called: one that was in force after the confirmation.
	KeepAlive(ctx context.Context, id op.SessionID) (timeout time.Duration, err error)
	// TimeLeft returns how long the session has to live as the leader counts, if nothing is heard of it.
	TimeLeft(ctx context.Context, id op.SessionID) (time.Duration, error)
	// DoLater is Do without the wait: done is called once, by a goroutine that must not be held up, perhaps before DoLater
	// returns. Abandon gives up the wait; true says that the request surely has not been and will not be done, and done
	// not called. Requests of one caller enter the log in the order of their calls, as far as they do.
	DoLater(r *op.Request, done func(*op.Result)) (abandon func() bool)
	// ViewLater is View without the wait. It must be done at once for Eventual. Abandon is nil if done was called before
	// ViewLater returned, and else true, as for DoLater.
	ViewLater(o op.ReadOptions, done func(*fsm.View, op.ReadInfo, error)) (abandon func() bool)
	// ViewNow is View as far as it needs no wait: ok is false if it does. It isn't for Eventual,
	// unless the member doesn't serve yet.
	ViewNow(o op.ReadOptions) (v *fsm.View, info op.ReadInfo, err error, ok bool)
	// Drive has what was handed to DoLater and ViewLater done now, on the caller's goroutine if it must be: without it
	// that is done with what others ask for, or a moment later. The caller must hold no lock that done takes.
	Drive()
	// KeepAliveLater is KeepAlive without the wait, for as long as it takes. After done without an error the timeout is told
	// as soon as it is known, unless that is nil.
	KeepAliveLater(id op.SessionID, done func(error), timeout func(time.Duration, error))
	// FollowSession has told called with how the session stands, and then whenever it has been attached, given another
	// timeout, or ended, as this member applies that, until stop is called. Told must not block.
	FollowSession(id op.SessionID, told func(fsm.SessionChange)) (stop func())
	// Status returns what the member knows of itself. It is asked for a few times a second, and by probes.
	Status() op.Status
}

// Config is what a Server is made of. Only Backend and Name must be given.
type Config struct {
	Backend Backend
	Name    string           // of this member, in Coord-Served-By
	Version string           // of the program, in /version
	Logger  *slog.Logger     // nil for slog.DiscardHandler
	Metrics *Metrics         // of this member, for this one server; nil for new ones
	Now     func() time.Time // nil for time.Now

	// AllowedHosts are the names, besides loopback ones and the address that the connection arrived at, that a request
	// may give as its Host. A page on the web can give its own name any address (DNS rebinding), and its requests carry
	// that name. "*" allows all.
	AllowedHosts []string
	// AllowedOrigins are the origins ("https://console.example.com"), besides the server's own, whose pages may change
	// something.
	AllowedOrigins []string
	// Super is the digest identity ("user:base64(sha1(user:password))") that may do everything; "" for none.
	Super string

	// Endpoints are the URLs at which clients reach the members, told to those on WebSocket connections. Nil for none.
	Endpoints []string

	// Settings are what the member is configured with, for /v1/cluster/config. Nil for nothing to show.
	Settings []Setting

	Limits Limits
}

// Limits are those of one door: what it holds in memory and for how long. A zero field means the default of DefaultLimits.
type Limits struct {
	Conns       int   // connections at once
	ConnsPerIP  int   // connections at once from one address
	Requests    int   // requests being served at once, waiting ones excluded
	Watches     int   // long polls and event streams at once
	BodyBytes   int64 // bodies of requests, and messages, held in memory at once, together
	AnswerBytes int64 // large answers held in memory at once, together, while clients take them

	ConnRequests  int // requests under way on one WebSocket connection
	ConnWatches   int // watches of one WebSocket connection
	Subscriptions int // watches of all WebSocket connections

	HeaderBytes    int           // of one request
	HeaderTimeout  time.Duration // to read the header, and the TLS handshake
	BodyTimeout    time.Duration // to read the body
	IdleTimeout    time.Duration // of a kept-alive connection
	RequestTimeout time.Duration // to decide a write or reach a consistency
	WriteTimeout   time.Duration // to write an answer, or one message of a stream
	PollMax        time.Duration // that a long poll may ask for
	Bookmark       time.Duration // of silence, after which an event stream tells its position
	DrainTimeout   time.Duration // for requests to end when the server stops
}

// DefaultLimits are those of a server whose configuration doesn't say otherwise.
func DefaultLimits() Limits {
	return Limits{
		Conns: 16_384, ConnsPerIP: 4096, Requests: 4096, Watches: 10_000, BodyBytes: 64 << 20, AnswerBytes: 64 << 20,
		ConnRequests: 1024, ConnWatches: 10_000, Subscriptions: 250_000,
		HeaderBytes: 16 << 10, HeaderTimeout: 5 * time.Second, BodyTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		RequestTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, PollMax: 10 * time.Minute,
		Bookmark: 5 * time.Second, DrainTimeout: 10 * time.Second,
	}
}

func orDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	orDefault(&l.Conns, d.Conns)
	orDefault(&l.ConnsPerIP, d.ConnsPerIP)
	orDefault(&l.Requests, d.Requests)
	orDefault(&l.Watches, d.Watches)
	orDefault(&l.BodyBytes, d.BodyBytes)
	orDefault(&l.AnswerBytes, d.AnswerBytes)
	orDefault(&l.ConnRequests, d.ConnRequests)
	orDefault(&l.ConnWatches, d.ConnWatches)
	orDefault(&l.Subscriptions, d.Subscriptions)
	orDefault(&l.HeaderBytes, d.HeaderBytes)
	orDefault(&l.HeaderTimeout, d.HeaderTimeout)
	orDefault(&l.BodyTimeout, d.BodyTimeout)
	orDefault(&l.IdleTimeout, d.IdleTimeout)
	orDefault(&l.RequestTimeout, d.RequestTimeout)
	orDefault(&l.WriteTimeout, d.WriteTimeout)
	orDefault(&l.PollMax, d.PollMax)
	orDefault(&l.Bookmark, d.Bookmark)
	orDefault(&l.DrainTimeout, d.DrainTimeout)
	return l
}
