package recipe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// A line is a directory of ephemeral sequence nodes, one for each contender, in the order of their coming. The state
// machine keeps that order; a line only asks it. Both locks and elections stand on it.
type line struct {
	conn  Conn
	dir   string
	data  []byte        // of the contender's node
	delay time.Duration // how long that outlives its session; see op.Create.Lingering
}

// place is where one contender stands, as of zxid.
type place struct {
	path   string
	token  op.Zxid // the node's czxid
	record string  // of the tenure, if there is one
	rank   op.RankInfo
	kept   bool // the minimum hold of an earlier holder is not over
	zxid   op.Zxid
	legacy legacy // what is known of the first in line, if anything
	told   int    // how many must leave first, as the caller was told last; -1 for not yet
}

func (p *place) name() string { return op.Base(p.path) }

// contender is the data of a contender's node.
type contender struct {
	Owner    string `json:"owner"`
	Metadata string `json:"metadata,omitempty"`
	Priority int    `json:"priority,omitempty"`
}

// remakeFrom is the sequence number from which on a line that is empty is deleted and made anew, which begins at 0
// again: clients of ZooKeeper keep the number in 32 bits. It is changed by tests only.
var remakeFrom uint64 = op.HighSequence

// keeper is the node that keeps a lock after its holder: no sequence node, so it is in nobody's way but ours, and its
// name sorts behind all numbers, so that clients which sort names take it for the last.
func (l *line) keeper() string { return l.dir + "/at-least" }

// do has o decided however long the caller is willing to wait for something else: only so is it known what became of
// it. It ends with the session, which takes with it all that o may have made.
func (l *line) do(o op.Op) (*op.Result, error) { return l.conn.Do(l.conn.Context(), o) }

// enter puts a node whose name begins with prefix at the end of the line, and learns where it stands, in one
// transaction. Those of before, which leave an older place, are done first, in the same one; if somebody else has taken
// that out of the line, the error is a not_holder. A directory that isn't there is made as a container, which goes when it
// is empty; that of the history along with it.
func (l *line) enter(prefix string, tenure []byte, before ...op.Op) (*place, error) {
	o := l.entering(prefix, tenure, before)
	res, err := l.do(o)
	if errors.Is(err, &op.Error{Code: op.SequenceExhausted}) {
		return l.remake(prefix, tenure, before...)
	}
	if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
		return nil, takenOut(e.Path) // making makes all else that can be missing
	}
	if err != nil {
		return nil, l.sweep(prefix, err)
	}
	p := l.entered(o, res)
	if seq, _ := seqOf(p.name()); seq >= remakeFrom && p.rank.Len == 1 && !p.kept {
		if q, err := l.remake(prefix, tenure, l.leaving(p)...); err == nil {
			return q, nil
		}
	}
	return p, nil
}

func (l *line) entering(prefix string, tenure []byte, before []op.Op) *op.Txn {
	return &op.Txn{
		If:   []op.Op{&op.Check{Path: l.dir, If: op.Always}},
		Then: l.standing(prefix, tenure, before),
		Else: l.standing(prefix, tenure, slices.Concat(before, l.making())),
	}
}

// making are the operations that make the directories.
func (l *line) making() []op.Op {
	return []op.Op{
		&op.Create{Path: historyOf(l.dir), Kind: op.Container, Parents: true, Replace: true},
		&op.Create{Path: l.dir, Kind: op.Container, Parents: true},
	}
}

// standing are the operations that stand in line, behind those of before. The last ones are always the same.
func (l *line) standing(prefix string, tenure []byte, before []op.Op) []op.Op {
	ops := slices.Concat(before, []op.Op{
		&op.Create{Path: op.Join(l.dir, prefix), Data: l.data, Kind: op.Ephemeral, TTL: l.delay, Sequence: true},
		&op.Rank{Of: int32(len(before) + 1)},
		&op.Exists{Path: l.keeper()},
	})
	if tenure != nil {
		ops = append(ops, l.recording(tenure))
	}
	return ops
}

// entered reads what standing has answered.
func (l *line) entered(o *op.Txn, res *op.Result) *place {
	list := o.Then
	if res.Else {
		list = o.Else
	}
	i := slices.IndexFunc(list, func(o op.Op) bool { return o.Verb() == op.VerbRank })
	r := res.Results
	p := &place{path: r[i-1].Path, rank: *r[i].Rank, kept: r[i+1].Stat != nil, zxid: res.Zxid, told: -1}
	p.token = p.rank.Token
	if len(r) > i+2 {
		p.record = r[i+2].Path
	}
	return p
}

// remake deletes the directory, which fails unless it is empty then, and enters it anew.
func (l *line) remake(prefix string, tenure []byte, before ...op.Op) (*place, error) {
	again := append(before, &op.Delete{Path: l.dir, If: op.Always})
	o := &op.Txn{Then: l.standing(prefix, tenure, append(again, l.making()...))}
	res, err := l.do(o)
	if err != nil {
		return nil, err
	}
	return l.entered(o, res), nil
}

// sweep deletes what an entry of unknown outcome may have made, found by the id in its name. It returns the error.
func (l *line) sweep(prefix string, err error) error {
	if e, ok := errors.AsType[*op.Error](err); !ok || e.Outcome != op.Unknown {
		return err
	}
	for n, readErr := range children(l.conn.Context(), l.conn, l.dir, false) {
		if readErr == nil && strings.HasPrefix(op.Base(n.Path), prefix) {
			l.do(&op.Delete{Path: n.Path, If: op.Always})
		}
	}
	return err
}

// leave takes the node out of the line, and with it the record of a tenure that never was. A node that is gone already
// is no error.
func (l *line) leave(p *place) error {
	_, err := l.do(&op.Txn{Then: l.leaving(p)})
	if errors.Is(err, &op.Error{Code: op.NoNode}) {
		return nil
	}
	return err
}

func (l *line) leaving(p *place) []op.Op {
	ops := []op.Op{exactly(p.path, p.token)}
	if p.record != "" {
		ops = append(ops, &op.Delete{Path: p.record, If: op.Always})
	}
	return ops
}

// exactly deletes the node that token created and no later one: what is repeated late harms nobody.
func exactly(path string, token op.Zxid) *op.Delete {
	return &op.Delete{Path: path, If: op.Cond{Version: op.AnyVersion, Mzxid: token}}
}

// stand finds out again where the node stands. A node that has gone although its session lives was deleted by somebody
// else: not_holder.
func (l *line) stand(ctx context.Context, p *place) error {
	res, err := l.conn.Read(ctx, &op.Rank{Path: p.path}, op.ReadOptions{Level: op.Linearizable})
	return p.stands(res, err)
}

// await is stand once something within f has happened after p.zxid.
func (l *line) await(ctx context.Context, p *place, f watch.Filter) error {
	res, err := await(ctx, l.conn, f, p.zxid, &op.Rank{Path: p.path})
	return p.stands(res, err)
}

// stands takes in where the node stands.
func (p *place) stands(res *op.Result, err error) error {
	switch {
	case errors.Is(err, &op.Error{Code: op.NoNode}):
		return takenOut(p.path)
	case err != nil:
		return err
	}
	p.rank, p.zxid = *res.Rank, res.Zxid
	p.kept, p.legacy = false, legacy{} // were known as of the zxid before
	return nil
}

func takenOut(path string) error {
	return &op.Error{Code: op.NotHolder, Outcome: op.Decided, Path: path, Detail: "somebody else took it out of the line"}
}

// gone waits until enough says so, which is called with each node that is deleted within f after p.zxid, or until
// changes may have been missed; p.zxid moves on.
func (l *line) gone(ctx context.Context, p *place, f watch.Filter, enough func(op.Event) bool) error {
	f.Types = watch.TypesOf(op.Deleted)
	return l.until(ctx, p, f, func(list []op.Event) bool { return slices.ContainsFunc(list, enough) })
}

// until waits until enough says so, which is called with all that has happened within f after p.zxid, or until changes
// may have been missed; p.zxid moves on.
func (l *line) until(ctx context.Context, p *place, f watch.Filter, enough func([]op.Event) bool) error {
	events, err := l.conn.Watch(ctx, f, p.zxid)
	if err != nil {
		return ignoreGap(err)
	}
	defer events.Close()
	for {
		list, at, err := events.Next(ctx)
		if err != nil {
			return ignoreGap(err)
		}
		p.zxid = at
		if enough(list) {
			return nil
		}
	}
}

// ignoreGap forgives history_gone: whoever waits looks at the state afterwards in any case.
func ignoreGap(err error) error {
	if errors.Is(err, &op.Error{Code: op.HistoryGone}) {
		return nil
	}
	return err
}

// during returns a context that ends with ctx and with the session.
func (l *line) during(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.conn.Context(), cancel)
	return ctx, func() { stop(); cancel() }
}

// lost returns the error that a session's end is, if that is why err came; else err.
func (l *line) lost(err error) error {
	if l.conn.Context().Err() == nil || err == nil {
		return err
	}
	return &op.Error{
		Code: op.SessionExpired, Outcome: op.Unknown, Path: l.dir,
		Detail: "the session ended, or can't be proven alive: " + context.Cause(l.conn.Context()).Error(),
	}
}

// mine reports whether the node called name is of the same session and owner.
func (l *line) mine(ctx context.Context, name string) (bool, error) {
	n, err := l.contender(ctx, name, 0)
	return err == nil && n != nil && l.owns(n), err
}

// owns reports whether a contender is of the same session and owner.
func (l *line) owns(n *op.Result) bool {
	return n.Stat.EphemeralOwner == l.conn.Session() && ownerOf(n.Data) == ownerOf(l.data)
}

// contender reads the node of that name, as of a state not older than min. It is nil if the node has gone.
func (l *line) contender(ctx context.Context, name string, min op.Zxid) (*op.Result, error) {
	res, err := l.conn.Read(ctx, &op.Get{Path: op.Join(l.dir, name)}, op.ReadOptions{Level: op.Sequential, MinZxid: min})
	if errors.Is(err, &op.Error{Code: op.NoNode}) {
		return nil, nil
	}
	return res, err
}

// ownerOf returns who a contender says it is. Curator writes an address there, kazoo an identifier: plain text.
func ownerOf(data []byte) string {
	c, _ := contenderOf(data)
	return c.Owner
}

// contenderOf reads the data of a contender's node, and whether it is one of coord's.
func contenderOf(data []byte) (c contender, ours bool) {
	if json.Unmarshal(data, &c) != nil || c.Owner == "" {
		return contender{Owner: printable(data)}, false
	}
	return c, true
}

func printable(data []byte) string {
	s := strings.ToValidUTF8(string(data[:min(len(data), op.MaxLabel)]), "\ufffd")
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// encode returns v as JSON. The forms of this package can't fail to encode.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("recipe: " + err.Error())
	}
	return b
}

// Tenures.
//
// Each grant has a record, a TTL node of its own in the history of the lock: a sequence node, because one can be
// appended without reading what is there, in the transaction of the grant. A grant at once writes it together with the
// contender's node; its czxid is the token then. One who has to wait takes it back and writes it when his turn comes.
// Whoever ends the tenure writes how. What has no end, and no contender in the line, has expired: for that nobody need
// be alive to write it down.

const (
	tenurePrefix = "t-"
	keepTenures  = 64                 // of one lock or election
	keepFor      = 7 * 24 * time.Hour // since it began or ended
)

// tenure is the data of a record.
type tenure struct {
	Token   op.Zxid      `json:"token,omitempty"` // if it isn't the record's czxid
	Owner   string       `json:"owner"`
	Session op.SessionID `json:"session,omitzero"`
	Ended   string       `json:"ended,omitempty"` // Released or Broken
	By      string       `json:"by,omitempty"`    // who broke it
}

// Why a tenure ended.
const (
	Released = "released"
	Expired  = "expired"
	Broken   = "broken"
)

func (l *line) recording(data []byte) *op.Create {
	return &op.Create{
		Path: op.Join(historyOf(l.dir), tenurePrefix), Data: data, Kind: op.TTL, TTL: keepFor, Sequence: true, Parents: true,
	}
}

// ended are the operations that end a tenure: they delete the node that czxid created, and record how it ended.
func ended(dir, path string, czxid op.Zxid, record string, t tenure) []op.Op {
	t.Token = cmp.Or(t.Token, czxid)
	if record == "" {
		l := line{dir: dir}
		return []op.Op{exactly(path, czxid), l.recording(encode(t))}
	}
	return []op.Op{exactly(path, czxid), &op.Create{
		Path: record, Data: encode(t), Kind: op.TTL, TTL: keepFor, Replace: true, Parents: true,
	}}
}

// ending is ended, and forgets the tenure that is keepTenures older.
func ending(dir, path string, czxid op.Zxid, record string, t tenure) *op.Txn {
	end := ended(dir, path, czxid, record, t)
	old := olderRecord(record)
	if old == "" {
		return &op.Txn{Then: end}
	}
	return &op.Txn{
		If:   []op.Op{&op.Check{Path: old, If: op.Always}},
		Then: append(end[:len(end):len(end)], &op.Delete{Path: old, If: op.Always}),
		Else: end,
	}
}

// olderRecord returns the path of the record that is keepTenures older; "" if there can be none.
func olderRecord(record string) string {
	n, ok := seqOf(record)
	if !ok || n < keepTenures {
		return ""
	}
	text := strconv.FormatUint(n-keepTenures, 10)
	return record[:len(record)-digits] + "0000000000"[:digits-len(text)] + text
}
