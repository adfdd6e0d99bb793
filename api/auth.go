package api

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"strings"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// authenticate finds out who the caller has proven to be: by its address, by its client certificate, and by Basic
// credentials, which are ZooKeeper's digest scheme: whoever knows "user:password" is the identity user:base64(sha1(it)).
func (c *call) authenticate() error {
	c.auth = byAddress(c.r)
	if t := c.r.TLS; t != nil && len(t.VerifiedChains) > 0 {
		c.auth = append(c.auth, op.Identity{Scheme: "x509", ID: t.PeerCertificates[0].Subject.String()})
	}
	if len(c.r.Header["Authorization"]) == 0 {
		return nil
	}
	user, password, ok := c.r.BasicAuth()
	if !ok || user == "" {
		c.s.metrics.authFailures.WithLabelValues("bad_credentials").Inc()
		return op.Errorf(op.Unauthenticated, "Authorization must be Basic with a user name and a password")
	}
	c.auth = append(c.auth, c.s.digestIdentities(user, password)...)
	return nil
}

// callerKey is for who the caller is by its address, in the contexts of connections: it is the same in all requests of one.
type callerKey struct{}

func withCaller(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, callerKey{}, identitiesOf(ipText(addrOf(conn.RemoteAddr()))))
}

// byAddress returns who the sender of a request is by its address.
func byAddress(r *http.Request) []op.Identity {
	if known, ok := r.Context().Value(callerKey{}).([]op.Identity); ok {
		return known
	}
	return identitiesOf(remoteIP(r))
}

func identitiesOf(ip string) []op.Identity {
	if ip == "" {
		return nil
	}
	return []op.Identity{{Scheme: "ip", ID: ip}}
}

// digestIdentities returns who somebody is who knows a user's password.
func (s *Server) digestIdentities(user, password string) []op.Identity {
	id := digestOf(user, password)
	all := []op.Identity{{Scheme: "digest", ID: id}}
	if s.super != "" && subtle.ConstantTimeCompare([]byte(id), []byte(s.super)) == 1 {
		all = append(all, op.Identity{Scheme: "super"})
	}
	return all
}

// digestOf returns the id of ZooKeeper's digest scheme. That SHA-1 is weak doesn't matter here more than there: it is a
// name of the pair, which the state stores, and it must be the same one.
func digestOf(user, password string) string {
	sum := sha1.Sum([]byte(user + ":" + password))
	return user + ":" + base64.StdEncoding.EncodeToString(sum[:])
}

// secretBytes is the length of a session's secret: that of a ZooKeeper session's password, so that a session opened at
// one door can be used at another.
const secretBytes = 16

// hashSecret returns the hash of a secret's text form.
func hashSecret(text string) (op.Hash, bool) {
	secret, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(secret) != secretBytes {
		return op.Hash{}, false
	}
	return sha256.Sum256(secret), true
}

// session returns the session that the request acts in, by Coord-Session and Coord-Session-Secret; 0 without them.
func (c *call) session() (op.SessionID, error) {
	text := c.header("Coord-Session")
	if text == "" {
		if c.header("Coord-Session-Secret") != "" {
			c.q.faults.add("Coord-Session", "is required with Coord-Session-Secret")
		}
		return 0, nil
	}
	var id op.SessionID
	if err := id.UnmarshalText([]byte(text)); err != nil {
		c.q.faults.add("Coord-Session", "must be a session id, such as s-10000002a")
		return 0, nil
	}
	_, err := c.owned(id, op.Eventual)
	return id, err
}

// owned returns the session, from a state that is as fresh as at asks, if the caller has sent its secret. Whether it is
// still alive when the request is decided is the state machine's business; here it only counts who the caller is.
func (c *call) owned(id op.SessionID, at op.Level) (fsm.Session, error) {
	if other := c.header("Coord-Session"); other != "" && !strings.EqualFold(other, id.String()) {
		return fsm.Session{}, op.Errorf(op.BadRequest, "Coord-Session names another session than the path")
	}
	s, err := c.findSession(id, at)
	if err != nil {
		return s, err
	}
	hash, ok := hashSecret(c.header("Coord-Session-Secret"))
	if !ok || subtle.ConstantTimeCompare(hash[:], s.Secret[:]) != 1 {
		c.s.metrics.authFailures.WithLabelValues("bad_session_secret").Inc()
		if c.header("Coord-Session-Secret") == "" {
			return fsm.Session{}, op.Errorf(op.Unauthenticated, "Coord-Session-Secret is missing: the secret of session %s", id)
		}
		return fsm.Session{}, op.Errorf(op.Unauthenticated, "Coord-Session-Secret is not the secret of session %s", id)
	}
	return s, nil
}

// findSession returns a live session. What this member doesn't know may have been opened at another one a moment ago, so
// only a linearizable view can say that there is none.
func (c *call) findSession(id op.SessionID, at op.Level) (fsm.Session, error) {
	v, err := c.viewFor(at)
	if err != nil {
		return fsm.Session{}, err
	}
	if s, ok := v.Session(id); ok {
		return s, nil
	}
	if at != op.Linearizable {
		return c.findSession(id, op.Linearizable)
	}
	return fsm.Session{}, op.Errorf(op.SessionExpired, "session %s has ended, or never was", id)
}

// viewFor returns a state for the door's own use, which doesn't show in the answer.
func (c *call) viewFor(level op.Level) (*fsm.View, error) {
	if v, _, err, ok := c.s.backend.ViewNow(op.ReadOptions{Level: level}); ok && err == nil {
		return v, nil
	}
	ctx, cancel := c.withTimeout()
	defer cancel()
	v, _, err := c.s.backend.View(ctx, op.ReadOptions{Level: level})
	if err != nil {
		return nil, readError(err)
	}
	return v, nil
}
