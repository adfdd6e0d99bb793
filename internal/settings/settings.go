// Package settings is configuration: the values of an application, changed several at once, with a history that says
// who changed them, why, and what they were.
//
// A value is a node, /config/APP/KEY, so that everything that can read and watch nodes can have it. A commit changes the
// nodes of any number of keys in one transaction, and in the same one writes
//
//	/config/APP                       the version: its number, author and comment
//	/config/APP/.history/N            the same, kept
//	/config/APP/.history/N/values     all values as they are from this version on
//
// and deletes the oldest versions when there are more than are kept: 100, or 4 MiB of values. Each version has all of its
// values, not what has changed: so any of them can be read, compared and gone back to by itself, and to forget the oldest
// costs nothing. The history stands below the application because it is a part of it: who watches /config/APP and its
// children gets each commit as one transaction, without the history's own nodes; a quota of the application counts the
// history as well, and what a commit deletes of it makes room for what it adds; who deletes the application deletes both.
//
// Guarantees: commits of one application come one after the other. Whoever reads sees all of a commit or nothing. A commit
// that names the version it is based on fails if there has been another one since. A rollback is a commit.
//
// What it can't: notice in the history what is written around it, by way of the nodes themselves. Readers and watchers see
// that, the next version has it, but it has no version of its own and no author, and doesn't make a commit fail. New keys
// and versions get the access control list of the application's node, so its digest entries must be shown to whoever
// commits: that takes the permission to administer it.
package settings

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/follow"
	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Dir is where applications have their configuration.
const Dir = "/config"

// Bounds of one application.
const (
	MaxKeys     = 1000
	MaxBytes    = 256 << 10 // of all keys and values
	KeptCount   = 100       // versions
	KeptBytes   = 4 << 20   // of the values of all versions kept
	maxEncoded  = 1 << 20   // of all values as a version keeps them: what a node holds
	maxNote     = 512       // bytes of an author or a comment
	historyName = ".history"
	valuesName  = "values"
)

// Settings are the applications' configurations as one session sees them. They may be used concurrently.
type Settings struct{ conn recipe.Conn }

// New returns the configurations. A session is not needed.
func New(c recipe.Conn) *Settings { return &Settings{c} }

// Version says who made a version of a configuration, and why.
type Version struct {
	Number     int64 // from 1; 0 of a configuration that nobody has committed to
	Author     string
	Comment    string
	Set        int     // how many keys it has set, and
	Deleted    int     // deleted
	RolledBack int64   // which version it went back to; 0 if it is no rollback
	At         op.Time // by the wall clock of the leader then
	Written    op.Zxid // the one zxid at which all of it was written; 0 of a configuration that isn't there
}

// Config is a configuration at one version.
type Config struct {
	Version
	Values map[string]string
	Zxid   op.Zxid // of the state that it was read from
	Node   op.Stat // of the application's node: its ETag is for Change.If; zero if there is none, or of an older version
}

// record is a Version as nodes have it. The time is the node's.
type record struct {
	Version    int64  `json:"version"`
	Author     string `json:"author,omitempty"`
	Comment    string `json:"comment,omitempty"`
	Set        int    `json:"set,omitempty"`
	Deleted    int    `json:"deleted,omitempty"`
	RolledBack int64  `json:"rolled_back_to,omitempty"`
	Bytes      int64  `json:"bytes"` // of the values as they are kept
}

// parseRecord returns no version, number 0, for what a commit has not written.
func parseRecord(data []byte, at op.Time, written op.Zxid) (Version, int64) {
	var r record
	if json.Unmarshal(data, &r) != nil || r.Version < 1 {
		return Version{Written: written}, 0
	}
	return Version{r.Version, r.Author, r.Comment, r.Set, r.Deleted, r.RolledBack, at, written}, r.Bytes
}

// versionOf reads the version that an application's node has.
func versionOf(data []byte, s *op.Stat) Version {
	v, _ := parseRecord(data, s.Mtime, s.Mzxid)
	return v
}

func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("settings: couldn't encode %T: %v", v, err)) // the types here can't fail
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// CheckApp returns a bad_path error unless app is one segment of a path, of at most 255 bytes, without a dot in front.
func CheckApp(app string) error { return checkName(app) }

// CheckKey returns a bad_path error unless key is one, too.
func CheckKey(key string) error { return checkName(key) }

func checkName(name string) error {
	if err := group.CheckName(name); err != nil {
		return err
	}
	if name[0] == '.' {
		return op.Errorf(op.BadPath, "%.64q begins with a dot, as what isn't a value does", name)
	}
	return nil
}

// Filter matches every change of an application's configuration, and nothing of its history.
func Filter(app string) watch.Filter {
	return watch.Filter{Path: op.Join(Dir, app), Scope: watch.Children}
}

// Get reads the configuration as it is. One that isn't there is empty, at version 0; that is no error. Children that are
// no text, or have children of their own, are no values.
func (s *Settings) Get(ctx context.Context, app string, o op.ReadOptions) (Config, error) {
	if err := CheckApp(app); err != nil {
		return Config{}, err
	}
	all, err := s.read(ctx, op.Join(Dir, app), o)
	if err != nil {
		return Config{}, err
	}
	return all.Config, nil
}

// current is a configuration with the nodes that it was read from.
type current struct {
	Config
	keys   map[string]op.Cond // what the values were read from
	others map[string]bool    // children that are no values
	has    bool               // a history
}

// read reads a configuration from one state. One with so much beside it that it doesn't fit into an answer is too_large.
func (s *Settings) read(ctx context.Context, dir string, o op.ReadOptions) (*current, error) {
	res, err := s.conn.Read(ctx, &op.Subtree{Path: dir, Depth: 1}, o)
	c := &current{keys: make(map[string]op.Cond), others: make(map[string]bool)}
	c.Values = make(map[string]string)
	if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
		c.Zxid = e.Zxid
		return c, nil
	}
	switch {
	case err != nil:
		return nil, err
	case res.More:
		return nil, &op.Error{Code: op.TooLarge, Path: dir, Detail: "there is more below it than one answer takes"}
	}
	c.Zxid = res.Zxid
	c.Node = res.Nodes[0].Stat
	c.Version = versionOf(res.Nodes[0].Data, &c.Node)
	for _, n := range res.Nodes[1:] {
		c.add(&n)
	}
	return c, nil
}

func (c *current) add(n *op.Node) {
	name := op.Base(n.Path)
	switch {
	case name == historyName:
		c.has = true
	case name[0] == '.':
	case n.Stat.NumChildren == 0 && n.Stat.Czxid != 0 && utf8.Valid(n.Data):
		c.Values[name] = string(n.Data)
		c.keys[name] = op.Cond{Version: n.Stat.Version, Mzxid: n.Stat.Mzxid}
	default:
		c.others[name] = true
	}
}

// Watch returns the configuration as it is, and again whenever it has changed.
func (s *Settings) Watch(app string) *follow.Follower[Config] {
	read := func(ctx context.Context, o op.ReadOptions) (Config, op.Zxid, error) {
		c, err := s.Get(ctx, app, o)
		return c, c.Zxid, err
	}
	return follow.New(s.conn, Filter(app), read)
}

// Apps lists the applications that have a configuration, by name.
func (s *Settings) Apps(ctx context.Context, o op.ReadOptions) ([]string, error) {
	all := []string{}
	for after := ""; ; {
		res, err := s.conn.Read(ctx, &op.Children{Path: Dir, After: after}, o)
		if errors.Is(err, &op.Error{Code: op.NoNode}) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		for _, n := range res.Nodes {
			all = append(all, op.Base(n.Path))
		}
		if !res.More {
			return all, nil
		}
		after = all[len(all)-1]
		o = op.ReadOptions{Level: op.Eventual, MinZxid: res.Zxid}
	}
}

// History lists the versions that are kept, the newest first.
func (s *Settings) History(ctx context.Context, app string, o op.ReadOptions) ([]Version, error) {
	if err := CheckApp(app); err != nil {
		return nil, err
	}
	kept, err := s.kept(ctx, op.Join(Dir, app), o)
	list := make([]Version, 0, len(kept))
	for _, k := range slices.Backward(kept) {
		list = append(list, k.Version)
	}
	return list, err
}

// keptVersion is a version in the history.
type keptVersion struct {
	Version
	path  string
	bytes int64
}

// kept lists the versions that are kept, the oldest first. Their records are short enough for one answer.
func (s *Settings) kept(ctx context.Context, dir string, o op.ReadOptions) ([]keptVersion, error) {
	res, err := s.conn.Read(ctx, &op.Children{Path: historyOf(dir), WithData: true, WithStat: true}, o)
	if errors.Is(err, &op.Error{Code: op.NoNode}) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []keptVersion
	for _, n := range res.Nodes {
		if v, bytes := parseRecord(n.Data, n.Stat.Ctime, n.Stat.Czxid); v.Number > 0 {
			list = append(list, keptVersion{v, n.Path, bytes})
		}
	}
	return list, nil
}

func historyOf(dir string) string { return op.Join(dir, historyName) }

// versionPath returns where a version is kept: ten digits, so that names sort as numbers do.
func versionPath(dir string, number int64) string {
	return op.Join(historyOf(dir), fmt.Sprintf("%010d", number))
}

// At reads the configuration at a version. The error is no_node if it is not kept.
func (s *Settings) At(ctx context.Context, app string, number int64, o op.ReadOptions) (Config, error) {
	if err := CheckApp(app); err != nil {
		return Config{}, err
	}
	path := versionPath(op.Join(Dir, app), number)
	res, err := s.conn.Read(ctx, &op.Subtree{Path: path}, o)
	if err != nil {
		return Config{}, noVersion(err, app, number)
	}
	v, _ := parseRecord(res.Nodes[0].Data, res.Nodes[0].Stat.Ctime, res.Nodes[0].Stat.Czxid)
	c := Config{Version: v, Values: map[string]string{}, Zxid: res.Zxid}
	for _, n := range res.Nodes[1:] {
		if op.Base(n.Path) == valuesName && json.Unmarshal(n.Data, &c.Values) == nil {
			return c, nil
		}
	}
	return Config{}, noVersion(&op.Error{Code: op.NoNode, Outcome: op.Decided, Path: path}, app, number)
}

func noVersion(err error, app string, number int64) error {
	e, ok := errors.AsType[*op.Error](err)
	if !ok || e.Code != op.NoNode {
		return err
	}
	out := *e
	out.Detail = fmt.Sprintf("version %d of %s is not kept", number, app)
	return &out
}

// Difference is a key whose value is not the same in two configurations; nil is no value.
type Difference struct {
	Key      string
	From, To *string
}

// Diff returns what differs between two configurations, by key.
func Diff(from, to Config) []Difference {
	var list []Difference
	for key, v := range from.Values {
		if w, ok := to.Values[key]; !ok {
			list = append(list, Difference{key, &v, nil})
		} else if v != w {
			list = append(list, Difference{key, &v, &w})
		}
	}
	for key, w := range to.Values {
		if _, ok := from.Values[key]; !ok {
			list = append(list, Difference{key, nil, &w})
		}
	}
	slices.SortFunc(list, func(a, b Difference) int { return strings.Compare(a.Key, b.Key) })
	return list
}
