package config

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/follow"
	"github.com/coord-kv/coord/internal/settings"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Validator is what a bound type may implement, or a pointer to it: Validate refuses a value that makes no sense as a
// whole. It must not keep or change the value.
type Validator interface{ Validate() error }

// ErrDeleted is why a configuration that was deleted as a whole isn't in force: the one before it is.
var ErrDeleted = errors.New("it was deleted as a whole")

// InvalidError says why a version is not in force.
type InvalidError struct {
	Name    string  // the application or path
	Version Version // the one that is invalid
	Err     error   // names keys, never values
}

// Error names the version and says what is wrong with it.
func (e *InvalidError) Error() string {
	if e.Err == ErrDeleted {
		return fmt.Sprintf("config: what was in force of %s still is: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("config: version %d of %s is not in force: %v", e.Version.Number, e.Name, e.Err)
}

// Unwrap returns Err.
func (e *InvalidError) Unwrap() error { return e.Err }

// Option sets something of a Value. An option that has a value must have that of the type that is bound.
type Option func(*binding)

type binding struct {
	initial  any // a T, or nil
	validate any // a func(T) error, or nil
	lenient  bool
	failed   func(error)
	every    time.Duration
	first    time.Duration
}

// Default is what the fields have whose keys aren't there; for a path, what is in force until there is a node. Without
// it, fields have the zero value.
func Default[T any](v T) Option { return func(b *binding) { b.initial = v } }

// Validate has f refuse values that make no sense, beside the Validate method of the type if it has one.
func Validate[T any](f func(T) error) Option { return func(b *binding) { b.validate = f } }

// IgnoreUnknown lets keys be that no field has, and in JSON fields that the type doesn't have. Without it they are
// invalid, so that a typo is found; with it, a key can be written before the programs that know it have come.
func IgnoreUnknown() Option { return func(b *binding) { b.lenient = true } }

// OnError has f called with each error that Err begins to return. Calls come one after the other, in turn with those of
// OnChange; f must not call Close.
func OnError(f func(error)) Option { return func(b *binding) { b.failed = f } }

// CheckEvery sets how often the cluster is asked whether the newest configuration is the one that is known, beside
// following it: by default every 10 s. That moves AsOf on.
func CheckEvery(d time.Duration) Option { return func(b *binding) { b.every = d } }

// Timeout bounds the first reading: by default 10 s. ctx bounds it too.
func Timeout(d time.Duration) Option { return func(b *binding) { b.first = d } }

// Value is a configuration as it stands, followed until Close or until the context of Bind ends. It is safe for
// concurrent use.
type Value[T any] struct {
	name    string
	conn    recipe.Conn
	follow  *follow.Follower[settings.Config]
	read    func(context.Context, op.ReadOptions) (settings.Config, error)
	decode  func(settings.Config) (T, error)
	failed  func(error)
	every   time.Duration
	ctx     context.Context
	end     context.CancelCauseFunc
	ended   chan struct{}
	proving time.Time       // when the last linearizable reading began that was answered
	latest  settings.Latest // what was read, in force or not
	invalid error           // why that isn't in force; nil if it is

	now atomic.Pointer[standing[T]] // written by one goroutine

	mu      sync.Mutex
	changed []*func(old, now T)
}

// standing is all that a Value shows, together.
type standing[T any] struct {
	value   T
	version Version
	err     error
	asOf    time.Time
}

// Bind reads the configuration of an application, or with a name that begins with a slash the data of one node, and
// follows it from then on. It returns once a valid version is known, or with an error: an *InvalidError, what the cluster
// says, or that the time was up. ctx ends the following too; c must be a Client, or a Session that lasts as long.
//
// An application is bound to a struct whose fields have tags, config:"key" or config:"key,required", or config:"-" for
// those that aren't bound. A struct inside it stands for the keys that begin with its own and a dot; an embedded one for
// its fields. A map[string]string takes all keys. A path is bound to anything that a field can be.
//
// Strings, integers, floating-point numbers, booleans, durations (1m30s) and []byte are written plainly. What implements
// encoding.TextUnmarshaler reads itself. A pointer is nil if its key isn't there. Everything else is JSON, read strictly.
func Bind[T any](ctx context.Context, c Source, name string, opts ...Option) (*Value[T], error) {
	b := binding{every: 10 * time.Second, first: 10 * time.Second}
	for _, o := range opts {
		o(&b)
	}
	v := &Value[T]{name: name, conn: c.Conn(), failed: b.failed, every: b.every, ended: make(chan struct{})}
	if err := v.prepare(&b); err != nil {
		return nil, fmt.Errorf("config: couldn't bind %s: %w", name, err)
	}
	v.ctx, v.end = context.WithCancelCause(ctx)
	err := v.begin(b.first)
	if err != nil {
		v.end(err)
		v.follow.Close()
		return nil, err
	}
	go v.run()
	return v, nil
}

// prepare checks what is wrong whatever the configuration is.
func (v *Value[T]) prepare(b *binding) error {
	t := reflect.TypeFor[T]()
	var initial T
	given, ok := b.initial.(T)
	if b.initial != nil && !ok {
		return fmt.Errorf("the Default is a %T, not a %s", b.initial, t)
	}
	if ok {
		initial = given
	}
	validate, ok := b.validate.(func(T) error)
	if b.validate != nil && !ok {
		return fmt.Errorf("Validate has a %T, not a func(%s) error", b.validate, t)
	}
	if b.every <= 0 || b.first <= 0 {
		return errors.New("CheckEvery and Timeout take more than 0")
	}
	texts, filter, err := v.source(t, b)
	if err != nil {
		return err
	}
	v.decode = func(c settings.Config) (T, error) {
		value := initial
		err := texts(reflect.ValueOf(&value).Elem(), c)
		if x, ok := any(&value).(Validator); ok && err == nil {
			err = x.Validate()
		}
		if validate != nil && err == nil {
			err = validate(value)
		}
		return value, err
	}
	v.follow = follow.New(v.conn, filter, func(ctx context.Context, o op.ReadOptions) (settings.Config, op.Zxid, error) {
		c, err := v.prove(ctx, o)
		return c, c.Zxid, err
	})
	return nil
}

// source says how to read what is bound, how to decode it, and what changes it.
func (v *Value[T]) source(
	t reflect.Type, b *binding,
) (texts func(reflect.Value, settings.Config) error, f watch.Filter, err error) {
	if v.name == "" || v.name[0] != '/' {
		if err := settings.CheckApp(v.name); err != nil {
			return nil, f, err
		}
		d, err := newDecoder(t, !b.lenient)
		if err != nil {
			return nil, f, err
		}
		s := settings.New(v.conn)
		v.read = func(ctx context.Context, o op.ReadOptions) (settings.Config, error) { return s.Get(ctx, v.name, o) }
		texts = func(to reflect.Value, c settings.Config) error { return d.decode(to, c.Values) }
		return texts, settings.Filter(v.name), nil
	}
	if err := op.CheckPath(v.name); err != nil {
		return nil, f, err
	}
	parse, err := parserOf(t, !b.lenient)
	v.read = v.readNode
	texts = func(to reflect.Value, c settings.Config) error {
		text, there := c.Values[""]
		switch {
		case !there && b.initial == nil:
			return errors.New("there is no such node, and no Default")
		case !there:
			return nil
		case !utf8.ValidString(text) && !(t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8):
			return errors.New("the data is not UTF-8 text")
		}
		if err := parse(to, text); err != nil {
			return fmt.Errorf("the data %w", err)
		}
		return nil
	}
	return texts, watch.Filter{Path: v.name}, err
}

// readNode reads one node as a configuration whose only key is "".
func (v *Value[T]) readNode(ctx context.Context, o op.ReadOptions) (settings.Config, error) {
	res, err := v.conn.Read(ctx, &op.Get{Path: v.name}, o)
	if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
		return settings.Config{Zxid: e.Zxid}, nil
	}
	if err != nil {
		return settings.Config{}, err
	}
	s := res.Stat
	return settings.Config{
		Version: settings.Version{Number: int64(s.Version), At: s.Mtime, Written: s.Mzxid}, Zxid: res.Zxid, Node: *s,
		Values: map[string]string{"": string(res.Data)},
	}, nil
}

// prove reads, and notes when a reading began after which nothing newer was unknown.
func (v *Value[T]) prove(ctx context.Context, o op.ReadOptions) (settings.Config, error) {
	began := time.Now()
	c, err := v.read(ctx, o)
	if err == nil && o.Level == op.Linearizable {
		v.proving = began
	}
	return c, err
}

// begin reads the first configuration, which must be valid.
func (v *Value[T]) begin(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(v.ctx, limit)
	defer cancel()
	c, _, err := v.follow.Next(ctx)
	if err != nil {
		return fmt.Errorf("config: couldn't read %s: %w", v.name, why(v.conn, err))
	}
	v.latest.Take(c)
	value, err := v.decode(c)
	if err != nil {
		return &InvalidError{v.name, version(c.Version), err}
	}
	v.now.Store(&standing[T]{value: value, version: version(c.Version), asOf: v.proving})
	return nil
}

// run follows until the context ends, or the Client or Session does.
func (v *Value[T]) run() {
	defer close(v.ended)
	defer v.follow.Close()
	for v.ctx.Err() == nil && v.conn.Context().Err() == nil {
		ctx, cancel := context.WithTimeout(v.ctx, v.every)
		c, _, err := v.follow.Next(ctx)
		cancel()
		if err == nil {
			v.take(c)
		} else {
			v.look(err)
		}
	}
	v.end(context.Cause(v.conn.Context()))
}

// look asks for the configuration as it is, when nothing was heard of it for a while or it could not be followed. Unless
// the former, it is followed anew: a change that was on its way may have been missed.
func (v *Value[T]) look(missed error) {
	ctx, cancel := context.WithTimeout(v.ctx, v.every)
	defer cancel()
	c, err := v.prove(ctx, op.ReadOptions{Level: op.Linearizable})
	late := func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
	switch {
	case err == nil:
		v.take(c)
		if late(missed) {
			return
		}
	case v.ctx.Err() != nil || v.conn.Context().Err() != nil:
		return
	case !late(err) && !errors.Is(err, coord.ErrClusterChanged):
		v.fail(fmt.Errorf("config: couldn't read %s: %w", v.name, err))
	}
	v.follow.Close()
	if late(missed) && late(err) {
		return
	}
	select {
	case <-time.After(min(v.every, time.Second)): // what goes wrong now will go wrong for a while
	case <-v.ctx.Done():
	}
}

// take makes a configuration the one in force if it is newer and valid.
func (v *Value[T]) take(c settings.Config) {
	existed := v.latest.Node.Czxid != 0
	if !v.latest.Take(c) {
		now := *v.now.Load()
		now.asOf, now.err = v.proving, v.invalid // it may be an error of reading, and it could be read now
		v.now.Store(&now)
		return
	}
	value, err := v.decode(c)
	if existed && c.Node.Czxid == 0 {
		err = ErrDeleted
	}
	old := *v.now.Load()
	if v.invalid = nil; err != nil {
		v.invalid = &InvalidError{v.name, version(c.Version), err}
		old.asOf = v.proving
		v.now.Store(&old)
		v.fail(v.invalid)
		return
	}
	v.now.Store(&standing[T]{value: value, version: version(c.Version), asOf: v.proving})
	if !reflect.DeepEqual(old.value, value) {
		v.tell(old.value, value)
	}
}

// fail makes err what Err returns.
func (v *Value[T]) fail(err error) {
	now := *v.now.Load()
	again := now.err != nil && now.err.Error() == err.Error()
	now.err = err
	v.now.Store(&now)
	if v.failed != nil && !again {
		v.failed(err)
	}
}

func (v *Value[T]) tell(old, value T) {
	v.mu.Lock()
	all := append([]*func(old, now T){}, v.changed...)
	v.mu.Unlock()
	for _, f := range all {
		(*f)(old, value)
	}
}

// Get returns what is in force. It takes no lock and asks nobody. What it refers to, maps and slices, must not be changed.
func (v *Value[T]) Get() T { return v.now.Load().value }

// Version returns the version that is in force. Of a path its Number is that of the node's data.
func (v *Value[T]) Version() Version { return v.now.Load().version }

// Err returns nil if what is in force is the newest that is known, else why it isn't: an *InvalidError that names the
// version which is, or why the configuration can't be read. That no member can be reached is no error here: see AsOf.
func (v *Value[T]) Err() error { return v.now.Load().err }

// AsOf returns a time, by the local clock, at which there was nothing newer than what is in force or named by Err. As long
// as a majority can be reached, it is not further back than CheckEvery and as long as it takes to ask.
func (v *Value[T]) AsOf() time.Time { return v.now.Load().asOf }

// OnChange has f called each time when something else is in force, with what was and what is. Calls come one after the
// other, and each is made after Get returns the new value; whoever needs the first value calls Get after OnChange. f must
// not call Close. stop ends the calls; one may be under way.
func (v *Value[T]) OnChange(f func(old, now T)) (stop func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changed = append(v.changed, &f)
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		kept := v.changed[:0:0]
		for _, g := range v.changed {
			if g != &f {
				kept = append(kept, g)
			}
		}
		v.changed = kept
	}
}

// Context returns a context that ends when the configuration isn't followed any more; what is in force stays. Its cause
// says why: coord.ErrClosed, what ended the context of Bind, or what ended the Client or Session.
func (v *Value[T]) Context() context.Context { return v.ctx }

// Close ends the following, and returns when nothing of it runs any more. What is in force stays.
func (v *Value[T]) Close() {
	v.end(coord.ErrClosed)
	<-v.ended
}
