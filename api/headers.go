package api

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coord-kv/coord/internal/near"
	"github.com/coord-kv/coord/op"
)

// maxKeyBytes is the longest Idempotency-Key.
const maxKeyBytes = 255

// header returns the value of a header that may be sent once, "" if it was not.
func (c *call) header(name string) string {
	v := c.r.Header[name]
	switch len(v) {
	case 0:
		return ""
	case 1:
		return strings.TrimSpace(v[0])
	}
	c.q.faults.add(name, "is sent more than once")
	return v[0]
}

// ownHeaders are the headers of requests that coord has for itself.
var ownHeaders = []string{
	"Coord-Consistency", "Coord-Min-Zxid", "Coord-Session", "Coord-Session-Secret", "Coord-Fencing-Token",
}

// checkHeaders refuses headers that look like coord's and are not: a misspelt Coord-Fencing-Token guards nothing.
func (c *call) checkHeaders() {
	for name := range c.r.Header {
		if strings.HasPrefix(name, "Coord-") && !slices.Contains(ownHeaders, name) {
			reason := "there is no such header in requests"
			if meant := near.Nearest(name, ownHeaders); meant != "" {
				reason += "; did you mean " + meant + "?"
			}
			c.q.faults.unknown(name, "%s", reason)
		}
	}
}

// readOptions returns how fresh the caller wants what it reads: Coord-Consistency or ?consistency=, and Coord-Min-Zxid.
//
// Sequential means "not older than what this caller has seen", and over HTTP it is the caller who carries what it has
// seen: without a Coord-Min-Zxid nothing is known of that, so the read is linearizable, which is stronger, and the answer
// says so.
func (c *call) readOptions() op.ReadOptions {
	var o op.ReadOptions
	if s := c.header("Coord-Min-Zxid"); s != "" && o.MinZxid.UnmarshalText([]byte(s)) != nil {
		c.q.faults.add("Coord-Min-Zxid", "must be a zxid: a decimal number")
	}
	o.Level, o.Max = c.consistency()
	if o.Level == op.Sequential && o.MinZxid == 0 {
		o.Level = op.Linearizable
	}
	return o
}

func (c *call) consistency() (op.Level, time.Duration) {
	from, s := "Coord-Consistency", c.header("Coord-Consistency")
	if c.q.has("consistency") {
		if s != "" {
			c.q.faults.add("consistency", "is given both as a header and in the query")
		}
		from, s = "consistency", c.q.text("consistency")
		if age, ok := c.q.take("max"); ok {
			s += "; max=" + age
		}
	}
	if s == "" {
		return op.Linearizable, 0
	}
	level, age, why := parseConsistency(s)
	if why == noLevel && from == "consistency" {
		why = noLevelInQuery
	}
	if why != "" {
		c.q.faults.add(from, "%s", why)
	}
	return level, age
}

const (
	noLevel        = "must be linearizable, sequential, eventual, or bounded with an age, as in bounded; max=500ms"
	noLevelInQuery = "must be linearizable, sequential, eventual, or bounded with an age, as in consistency=bounded&max=500ms"
)

// parseConsistency reads a level in any form that op.CutLevel knows. It returns why it can't.
func parseConsistency(s string) (op.Level, time.Duration, string) {
	level, age, ok := op.CutLevel(s)
	switch {
	case !ok:
		return 0, 0, noLevel
	case age == "":
		return level, 0, ""
	}
	d, why := parseDuration(age)
	return level, d, why
}

// Preconditions.

// parseETag reads "mzxid.version" as a condition.
func parseETag(s string) (op.Cond, bool) {
	mzxid, version, ok := strings.Cut(s, ".")
	z, err := strconv.ParseUint(mzxid, 10, 63)
	v, err2 := strconv.ParseInt(version, 10, 32)
	c := op.Cond{Version: int32(v), Mzxid: op.Zxid(z)}
	return c, ok && err == nil && err2 == nil && (&op.Stat{Mzxid: c.Mzxid, Version: c.Version}).ETag() == s
}

// condition returns what If-Match and ?version ask of the node, and whether either was sent.
func (c *call) condition() (op.Cond, bool) {
	c.tested = true
	tag, hasVersion := c.header("If-Match"), c.q.has("version")
	version := c.q.number("version", -1, 1<<31-1, -1)
	switch {
	case tag != "" && hasVersion:
		c.q.faults.add("version", "can't be given together with If-Match, which has it")
	case tag == "*":
		return op.Always, true
	case tag != "":
		cond, ok := parseETag(strings.Trim(tag, `"`))
		if !ok || len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
			c.q.faults.add("If-Match", `must be * or one ETag as an answer had it, such as "4294967311.0" with its quotes`)
		}
		return cond, true
	}
	return op.Cond{Version: int32(version)}, hasVersion
}

// refuseConditions refuses conditions of HTTP on a write that doesn't test them: to carry it out all the same would be
// what its sender wanted to prevent.
func (c *call) refuseConditions() {
	for _, name := range [...]string{"If-Match", "If-None-Match", "If-Unmodified-Since"} {
		if len(c.r.Header[name]) > 0 && (!c.tested || name == "If-Unmodified-Since") {
			c.q.faults.add(name, "can't be a condition of this request; a transaction can check any node")
		}
	}
}

// createOnly reports whether If-None-Match: * was sent.
func (c *call) createOnly() bool {
	tag := c.header("If-None-Match")
	if tag != "" && tag != "*" {
		c.q.faults.add("If-None-Match", "must be * with this method: the node must not exist")
	}
	return tag == "*"
}

// unchanged reports whether If-None-Match has the ETag of that stat, so that the caller has what it asks for already.
func (c *call) unchanged(s *op.Stat) bool {
	for _, line := range c.r.Header["If-None-Match"] {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == "*" || tag == quotedETag(s) {
				return true
			}
		}
	}
	return false
}

// Fencing.

// fence returns the checks that Coord-Fencing-Token asks for. Each element, separated by commas or sent in headers of its
// own, is name=token, for the exclusive lock in the directory /locks/name, or term:name=token, for the election in
// /elections/name. A name that begins with a slash is the directory itself. Names may be percent-encoded.
func (c *call) fence() []op.Op {
	var checks []op.Op
	for _, line := range c.r.Header["Coord-Fencing-Token"] {
		for s := range strings.SplitSeq(line, ",") {
			check, why := parseFence(strings.TrimSpace(s))
			if why != "" {
				c.q.faults.add("Coord-Fencing-Token", "%s", why)
				return nil
			}
			checks = append(checks, check)
		}
	}
	return checks
}

func parseFence(s string) (op.Op, string) {
	at := strings.LastIndexByte(s, '=')
	if at < 0 {
		return nil, "must be name=token, such as nightly=41, or term:name=token for an election"
	}
	var token op.Zxid
	if token.UnmarshalText([]byte(s[at+1:])) != nil || token == 0 {
		return nil, "has a token that is not a positive decimal number"
	}
	name, isTerm := strings.CutPrefix(s[:at], "term:")
	name, err := url.PathUnescape(name)
	if err != nil {
		return nil, "has a name whose percent-encoding is broken"
	}
	base := locksDir
	if isTerm {
		base = electionsDir
	}
	dir, err := recipeDir(base, name)
	if err != nil {
		return nil, "has a name that can't be a path: " + detail(err.(*op.Error))
	}
	if isTerm {
		return &op.Term{Dir: dir, Token: token}, ""
	}
	return &op.Holder{Dir: dir, Token: token}, ""
}

// fenced puts the checks before what is to be done, in both branches of a transaction: an else branch must not be a way
// around the fence. How many operations stand before the caller's own is len(checks).
func fenced(checks []op.Op, o op.Op) op.Op {
	if len(checks) == 0 {
		return o
	}
	txn, ok := o.(*op.Txn)
	if !ok {
		return &op.Txn{Then: append(checks[:len(checks):len(checks)], o)}
	}
	out := &op.Txn{If: txn.If, Then: behind(checks, txn.Then)}
	if len(txn.Else) > 0 {
		out.Else = behind(checks, txn.Else)
	}
	return out
}

// behind returns ops after checks; what refers to another operation by its place is moved with it.
func behind(checks, ops []op.Op) []op.Op {
	out := append(make([]op.Op, 0, len(checks)+len(ops)), checks...)
	for _, o := range ops {
		if rank, ok := o.(*op.Rank); ok && rank.Of > 0 {
			o = &op.Rank{Path: rank.Path, Of: rank.Of + int32(len(checks))}
		}
		out = append(out, o)
	}
	return out
}

// unfenced takes the results of n checks out of res again.
func unfenced(n int, o op.Op, res *op.Result) *op.Result {
	if len(res.Results) < n || n == 0 {
		return res
	}
	out := *res
	out.Results = res.Results[n:]
	if o.Verb() == op.VerbTxn {
		return &out
	}
	only := out.Results[0]
	only.Zxid, only.Err = out.Zxid, out.Err
	return &only
}

// Idempotency.

// key returns the request's Idempotency-Key, nil without one. It belongs to the session that the request acts in, else to
// the identity that its sender has proven, else to everybody. The hash covers all that decides what is done.
func (c *call) key(session op.SessionID) *op.Key {
	s := c.header("Idempotency-Key")
	if s == "" {
		return nil
	}
	if len(s) > maxKeyBytes || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		c.q.faults.add("Idempotency-Key", "must be 1 to %d visible ASCII characters", maxKeyBytes)
		return nil
	}
	return &op.Key{Principal: principalOf(session, c.auth), Key: s, Hash: c.requestHash()}
}

// principalOf returns to whom the key of a request belongs.
func principalOf(session op.SessionID, auth []op.Identity) string {
	if session != 0 {
		return "session:" + session.String()
	}
	for _, id := range auth {
		if id.Scheme != "ip" && id.Scheme != "super" {
			return label(id.Scheme + ":" + id.ID)
		}
	}
	return unproven
}

// unproven is the principal of those who haven't proven who they are.
const unproven = "world"

// label returns s if it may be a principal, else a hash of it: the subject of a certificate can be long.
func label(s string) string {
	if len(s) <= op.MaxLabel {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (c *call) requestHash() (h [16]byte) {
	sum := sha256.New()
	part := func(s string) {
		sum.Write(binary.AppendUvarint(nil, uint64(len(s))))
		sum.Write([]byte(s))
	}
	part(c.r.Method)
	part(sentPath(c.r.URL))
	part(c.r.URL.RawQuery)
	for _, name := range [...]string{"If-Match", "If-None-Match", "Coord-Fencing-Token"} {
		part(strings.Join(c.r.Header[name], ","))
	}
	part(string(c.body))
	copy(h[:], sum.Sum(nil))
	return h
}

// answer headers.

// setHeader sets a header, whose name must be in canonical form. The list of its one value is taken from those that the
// call has, since an answer has half a dozen.
func (c *call) setHeader(name, value string) {
	if c.ownValues == len(c.values) {
		c.w.Header()[name] = []string{value}
		return
	}
	at := c.ownValues
	c.ownValues++
	c.values[at] = value
	c.w.Header()[name] = c.values[at : at+1 : at+1]
}

func (c *call) setZxid(z op.Zxid) {
	c.setHeader("Coord-Zxid", strconv.FormatUint(uint64(z), 10))
}

func (c *call) setETag(s *op.Stat) {
	c.setHeader("Etag", quotedETag(s))
}

func quotedETag(s *op.Stat) string {
	return string(append(s.AppendETag(append(make([]byte, 0, 34), '"')), '"'))
}

// setFreshness says how fresh what is answered is.
func (c *call) setFreshness(info op.ReadInfo) {
	c.setHeader("Coord-Consistency", info.Level.String())
	if info.Staleness >= 0 {
		c.setHeader("Coord-Staleness", seconds(info.Staleness))
	}
	c.setZxid(info.Zxid)
}

// seconds formats a duration as decimal seconds, rounded up to the millisecond so that a bound stays one.
func seconds(d time.Duration) string {
	ms := int64((d + time.Millisecond - 1) / time.Millisecond)
	b := strconv.AppendInt(make([]byte, 0, 24), ms/1000, 10)
	return string(append(b, '.', '0'+byte(ms/100%10), '0'+byte(ms/10%10), '0'+byte(ms%10)))
}

// wantsRaw reports whether the caller asks for the bytes of a node alone: ?raw, or Accept: application/octet-stream.
func wantsRaw(q *query, h http.Header) bool {
	return q.flag("raw", false) || strings.HasPrefix(h.Get("Accept"), "application/octet-stream")
}
