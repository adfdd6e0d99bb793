package config

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/settings"
	"github.com/coord-kv/coord/op"
)

// Source is through what configurations are read and written: a *coord.Client or a *coord.Session.
type Source interface{ Conn() recipe.Conn }

// Version says who made a version of a configuration, when and why.
type Version struct {
	Number       int64 // from 1; 0 of a configuration that nobody has written
	Author       string
	Comment      string
	Set          int        // how many keys it has set, and
	Deleted      int        // deleted
	RolledBackTo int64      // the version whose values it has taken up again; 0 if it is no rollback
	Time         time.Time  // by the wall clock of the leader then
	Zxid         coord.Zxid // at which all of it was written; 0 of a configuration that isn't there
}

// Config is a configuration at one version. Its Values are the caller's.
type Config struct {
	App string
	Version
	Values map[string]string
}

// Difference is a key whose value is not the same in two configurations; nil is no value.
type Difference struct {
	Key      string
	From, To *string
}

func version(v settings.Version) Version {
	out := Version{
		Number: v.Number, Author: v.Author, Comment: v.Comment, Set: v.Set, Deleted: v.Deleted, RolledBackTo: v.RolledBack,
		Zxid: v.Written,
	}
	if v.At != 0 {
		out.Time = v.At.Std()
	}
	return out
}

func configuration(app string, c settings.Config) Config {
	return Config{App: app, Version: version(c.Version), Values: c.Values}
}

// Get reads an application's configuration as it is. One that nobody has written is empty, at version 0; that is no
// error. The name of an application is one segment of a path, of at most 255 bytes, without a dot in front.
func Get(ctx context.Context, c Source, app string) (Config, error) {
	all, err := settings.New(c.Conn()).Get(ctx, app, op.ReadOptions{Level: op.Linearizable})
	return configuration(app, all), err
}

// At reads a configuration as it was at a version. The error is coord.ErrNoNode if that isn't kept any more: the last
// 100 are, and up to 4 MiB of their values.
func At(ctx context.Context, c Source, app string, number int64) (Config, error) {
	all, err := settings.New(c.Conn()).At(ctx, app, number, op.ReadOptions{Level: op.Linearizable})
	return configuration(app, all), err
}

// Apps lists the applications that have a configuration, by name.
func Apps(ctx context.Context, c Source) ([]string, error) {
	return settings.New(c.Conn()).Apps(ctx, op.ReadOptions{Level: op.Linearizable})
}

// History lists the versions that are kept, the newest first.
func History(ctx context.Context, c Source, app string) ([]Version, error) {
	list, err := settings.New(c.Conn()).History(ctx, app, op.ReadOptions{Level: op.Linearizable})
	if err != nil {
		return nil, err
	}
	all := make([]Version, len(list))
	for i, v := range list {
		all[i] = version(v)
	}
	return all, nil
}

// KeyVersion is a version that has changed a key, and the value that the key has had from then on; nil is none.
type KeyVersion struct {
	Version
	Value *string
}

// KeyHistory lists the versions that are kept and have changed a key, the newest first. The oldest one that is kept counts if
// the key has a value in it. It reads every version that is kept: it is for people, not for each request.
func KeyHistory(ctx context.Context, c Source, app, key string) ([]KeyVersion, error) {
	list, err := settings.New(c.Conn()).KeyHistory(ctx, app, key, op.ReadOptions{Level: op.Linearizable})
	if err != nil {
		return nil, err
	}
	all := make([]KeyVersion, len(list))
	for i, v := range list {
		all[i] = KeyVersion{version(v.Version), v.Value}
	}
	return all, nil
}

// Diff returns what differs between two configurations, by key.
func Diff(from, to Config) []Difference {
	var all []Difference
	for _, d := range settings.Diff(settings.Config{Values: from.Values}, settings.Config{Values: to.Values}) {
		all = append(all, Difference(d))
	}
	return all
}

// Watch yields a configuration as it is, and again whenever it has changed; what was replaced at once may be left out. It
// ends when the loop ends, or with an error: the context's, why the Client or the Session has ended, or why the
// configuration can't be read. While no member can be reached it waits.
func Watch(ctx context.Context, c Source, app string) iter.Seq2[Config, error] {
	return func(yield func(Config, error) bool) {
		conn := c.Conn()
		w := settings.New(conn).Watch(app)
		defer w.Close()
		for {
			all, _, err := w.Next(ctx)
			if err != nil {
				yield(Config{}, why(conn, err))
				return
			}
			if !yield(configuration(app, all), nil) {
				return
			}
		}
	}
}

// why returns what ended the Client or the Session, if that is what err comes from.
func why(c recipe.Conn, err error) error {
	if c.Context().Err() != nil {
		return context.Cause(c.Context())
	}
	return err
}

// CommitOption says something of a change.
type CommitOption func(*settings.Change)

// Author says who makes the change, for people: up to 512 bytes. Nobody proves it.
func Author(name string) CommitOption { return func(x *settings.Change) { x.Author = name } }

// Comment says why the change is made, for people: up to 512 bytes.
func Comment(text string) CommitOption { return func(x *settings.Change) { x.Comment = text } }

// IfUnchanged makes the change only if v is still the newest version; else the error is coord.ErrBadVersion, or
// ErrNodeExists if v is version 0, which says that there must be no configuration yet, or ErrNoNode if it was deleted.
func IfUnchanged(v Version) CommitOption {
	return func(x *settings.Change) {
		x.If = &op.Cond{Version: op.AnyVersion, Mzxid: v.Zxid}
		if v.Zxid == 0 {
			x.If = &op.Cond{Absent: true}
		}
	}
}

// Set sets keys to values, all at once, and leaves the other keys as they are. It returns the version that holds now: a
// new one, or the one that there was if nothing has changed.
//
// A key is one segment of a path, of at most 255 bytes, without a dot in front; a value is UTF-8 text. An application has
// up to 1,000 keys, and 256 KiB of keys and values: more is coord.ErrTooLarge.
func Set(ctx context.Context, c Source, app string, values map[string]string, opts ...CommitOption) (Version, error) {
	x := change(opts)
	for key, value := range values {
		x.Values[key] = &value
	}
	return commit(ctx, c, app, x)
}

// Replace makes values the whole configuration: keys that it doesn't have are deleted. It returns as Set does.
func Replace(ctx context.Context, c Source, app string, values map[string]string, opts ...CommitOption) (Version, error) {
	return Set(ctx, c, app, values, append(slices.Clone(opts), func(x *settings.Change) { x.Replace = true })...)
}

// Delete deletes keys, all at once; those that there aren't count as deleted. It returns as Set does.
func Delete(ctx context.Context, c Source, app string, keys []string, opts ...CommitOption) (Version, error) {
	x := change(opts)
	for _, key := range keys {
		x.Values[key] = nil
	}
	return commit(ctx, c, app, x)
}

// Update reads a configuration, has f edit its values, and makes the result the configuration if nobody has changed it
// meanwhile; otherwise it begins again, until ctx ends. f may be called several times and should do nothing else. Its
// error ends the update and is returned.
func Update(
	ctx context.Context, c Source, app string, f func(values map[string]string) error, opts ...CommitOption,
) (Version, error) {
	for {
		now, err := Get(ctx, c, app)
		if err != nil {
			return Version{}, err
		}
		values := maps.Clone(now.Values)
		if err := f(values); err != nil {
			return Version{}, err
		}
		v, err := Replace(ctx, c, app, values, append(slices.Clone(opts), IfUnchanged(now.Version))...)
		if !moved(err) {
			return v, err
		}
	}
}

// moved reports whether a change failed because there was another one.
func moved(err error) bool {
	e, ok := errors.AsType[*coord.Error](err)
	return ok && e.Outcome == coord.Decided && (e.Code == op.BadVersion || e.Code == op.NodeExists || e.Code == op.NoNode)
}

// Rollback makes the values what they were at a version, all at once, as a new version, which it returns. The error is
// coord.ErrNoNode if that version isn't kept any more.
func Rollback(ctx context.Context, c Source, app string, number int64, opts ...CommitOption) (Version, error) {
	done, err := settings.New(c.Conn()).Rollback(ctx, app, number, change(opts))
	return version(done.Version), err
}

// RollbackKeys is Rollback of these keys alone: one that had no value at that version goes, the others stay as they are.
func RollbackKeys(
	ctx context.Context, c Source, app string, number int64, keys []string, opts ...CommitOption,
) (Version, error) {
	x := change(opts)
	x.Keys = append([]string{}, keys...) // not nil, which is all of them
	done, err := settings.New(c.Conn()).Rollback(ctx, app, number, x)
	return version(done.Version), err
}

func change(opts []CommitOption) settings.Change {
	x := settings.Change{Values: map[string]*string{}}
	for _, o := range opts {
		o(&x)
	}
	return x
}

func commit(ctx context.Context, c Source, app string, x settings.Change) (Version, error) {
	done, err := settings.New(c.Conn()).Commit(ctx, app, x)
	return version(done.Version), err
}
