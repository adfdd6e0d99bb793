package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/coord-kv/coord/op"
)

// maxJSONDepth is how deep a body may nest; what coord reads needs five.
const maxJSONDepth = 16

// What a body is read up to. More than that no sound one has, and what is made of a body and said of it must not be many
// times as large as the body.
const (
	maxFaults   = 32      // that a caller is told of
	maxFields   = 100_000 // of one object
	maxElements = 10_000  // of one array: as many operations as a transaction may have at the most
)

// object is a JSON object that is being read. Its readers take one field each, by its exact name; what is wrong is
// collected, so that the caller is told of everything at once. A field that is null is as good as absent.
//
// This is stricter than encoding/json, which takes "PATH" for "path", the last of two fields of one name, and half a
// surrogate pair for U+FFFD: a request that says something else than its sender believes must not be carried out.
type object struct {
	at     string // where it stands in the body, such as "ops[2]."; "" for the body itself
	fields map[string]json.RawMessage
	faults *faults
}

// faults collects what is wrong with the fields of one request.
type faults struct {
	fields  []fieldError
	invalid bool        // something else than an unknown name is wrong
	whole   *fieldError // is wrong with all of it, which is told if nothing else is
}

func (f *faults) add(name, format string, args ...any) {
	f.unknown(name, format, args...)
	f.invalid = true
}

func (f *faults) unknown(name, format string, args ...any) {
	if !f.full() {
		f.fields = append(f.fields, fieldError{name, fmt.Sprintf(format, args...)})
	}
}

// full reports whether enough is wrong to stop looking.
func (f *faults) full() bool { return len(f.fields) >= maxFaults }

// err returns nil if nothing is wrong.
func (f *faults) err() error {
	if len(f.fields) == 0 && f.whole != nil {
		f.add(f.whole.Name, "%s", f.whole.Reason)
	}
	if len(f.fields) == 0 {
		return nil
	}
	code := op.UnknownField
	if f.invalid {
		code = op.BadRequest
	}
	first := f.fields[0]
	return &httpError{what: op.Errorf(code, "%s: %s", first.Name, first.Reason), fields: f.fields}
}

// parseObject reads a body that must be one JSON object.
func parseObject(body []byte) (*object, error) {
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	o := &object{faults: new(faults)}
	if !o.open(body) {
		return nil, op.Errorf(op.BadRequest, "the body must be a JSON object")
	}
	return o, o.faults.err()
}

// checkJSON refuses what is not one JSON value, well formed in every respect that encoding/json forgives.
func checkJSON(body []byte) error {
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return op.Errorf(op.BadRequest, "the body is empty: it must be a JSON object")
	case !utf8.Valid(body):
		return op.Errorf(op.BadRequest, "the body is not valid UTF-8; bytes that are not text belong into a field that ends in _base64")
	case bytes.HasPrefix(body, []byte("\ufeff")):
		return op.Errorf(op.BadRequest, "the body begins with a byte order mark")
	}
	if depth := jsonDepth(body); depth > maxJSONDepth {
		return op.Errorf(op.BadRequest, "the body nests deeper than %d", maxJSONDepth)
	}
	var whole json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		if at, ok := errors.AsType[*json.SyntaxError](err); ok {
			return op.Errorf(op.BadRequest, "the body is not JSON: %s, at byte %d", at.Error(), at.Offset)
		}
		return op.Errorf(op.BadRequest, "the body is not JSON: %s", err)
	}
	return nil
}

// jsonDepth returns how deep brackets nest, outside of strings.
func jsonDepth(body []byte) int {
	depth, most, quoted := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '{' || c == '['):
			depth++
			most = max(most, depth)
		case !quoted && (c == '}' || c == ']'):
			depth--
		}
	}
	return most
}

// open reads the fields of raw, which is well-formed JSON, and reports whether it is an object.
func (o *object) open(raw []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return false
	}
	o.fields = make(map[string]json.RawMessage)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return false
		}
		name := t.(string)
		if len(o.fields) >= maxFields {
			o.faults.add(o.at+name, "is one of more than %d fields of one object", maxFields)
			return true
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return false
		}
		if _, twice := o.fields[name]; twice {
			o.faults.add(o.at+name, "is given twice")
		}
		o.fields[name] = value
	}
	return true
}

// take returns the field and forgets it; nil if it is absent or null.
func (o *object) take(name string) json.RawMessage {
	raw, ok := o.fields[name]
	delete(o.fields, name)
	if !ok || string(raw) == "null" {
		return nil
	}
	return raw
}

func (o *object) fault(name, format string, args ...any) {
	o.faults.add(o.at+name, format, args...)
}

// done names the fields that nobody took.
func (o *object) done() {
	if len(o.fields) == 0 || o.faults.full() {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(o.fields)) {
		o.faults.unknown(o.at+name, "there is no such field here")
	}
}

// finish names the fields that nobody took and returns what was wrong, nil if nothing.
func (o *object) finish() error {
	o.done()
	return o.faults.err()
}

// has reports whether the field is given and not null.
func (o *object) has(name string) bool {
	raw, ok := o.fields[name]
	return ok && string(raw) != "null"
}

func (o *object) text(name string) string {
	raw := o.take(name)
	if raw == nil {
		return ""
	}
	s, ok := jsonString(raw)
	switch {
	case !ok && raw[0] == '"':
		o.fault(name, "has half of a surrogate pair, which is no character")
	case !ok:
		o.fault(name, "must be a string")
	}
	return s
}

// jsonString decodes a string literal. It refuses half a surrogate pair, which no UTF-8 text can hold.
func jsonString(raw []byte) (s string, ok bool) {
	return s, json.Unmarshal(raw, &s) == nil && !halfSurrogate(raw)
}

// halfSurrogate reports whether a well-formed string literal escapes one half of a surrogate pair without the other.
func halfSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		r, size := escapedRune(raw[i:])
		if utf16.IsSurrogate(r) {
			low, lowSize := escapedRune(raw[i+size:])
			if utf16.DecodeRune(r, low) == utf8.RuneError {
				return true
			}
			size += lowSize
		}
		i += size - 1
	}
	return false
}

// escapedRune returns the UTF-16 unit that a \uXXXX at the start of b stands for, and how long the escape is: for
// another one 0 and 2, for none 0 and 0.
func escapedRune(b []byte) (rune, int) {
	switch {
	case len(b) < 2 || b[0] != '\\':
		return 0, 0
	case b[1] != 'u' || len(b) < 6:
		return 0, 2
	}
	v, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return 0, 2
	}
	return rune(v), 6
}

func (o *object) require(name string) string {
	if !o.has(name) {
		o.take(name)
		o.fault(name, "is required")
		return ""
	}
	return o.text(name)
}

func (o *object) flag(name string) bool {
	switch raw := o.take(name); string(raw) {
	case "", "false":
		return false
	case "true":
		return true
	}
	o.fault(name, "must be true or false")
	return false
}

// number reads a whole number from lo to hi, or returns def.
func (o *object) number(name string, lo, hi, def int64) int64 {
	raw := o.take(name)
	if raw == nil {
		return def
	}
	v, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || v < lo || v > hi {
		o.fault(name, "must be a whole number from %d to %d", lo, hi)
		return def
	}
	return v
}

func (o *object) int32(name string, lo, def int32) int32 {
	return int32(o.number(name, int64(lo), math.MaxInt32, int64(def)))
}

func (o *object) zxid(name string) (z op.Zxid) {
	s := o.text(name)
	if s == "" {
		return 0
	}
	if err := z.UnmarshalText([]byte(s)); err != nil {
		o.fault(name, "must be a zxid: a decimal number, as a string")
	}
	return z
}

// duration reads a positive duration of whole milliseconds, 0 if the field is absent.
func (o *object) duration(name string) time.Duration {
	if !o.has(name) {
		o.take(name)
		return 0
	}
	d, why := parseDuration(o.text(name))
	if why != "" {
		o.fault(name, "%s", why)
	}
	return d
}

// parseDuration returns why s is not a positive duration of whole milliseconds, "" if it is.
func parseDuration(s string) (time.Duration, string) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, `must be a duration, such as "15s" or "1h30m"`
	case d <= 0:
		return 0, "must be longer than nothing"
	case d%time.Millisecond != 0:
		return 0, "must be in whole milliseconds"
	}
	return d, ""
}

// value reads bytes: text from the field called name, or any bytes from name_base64; nil if neither is there.
func (o *object) value(name string) []byte {
	coded := name + "_base64"
	switch text, any := o.has(name), o.has(coded); {
	case text && any:
		o.fault(coded, "can't be given together with %s", o.at+name)
	case any:
		return o.base64(coded)
	case text:
		return []byte(o.text(name))
	}
	o.take(name)
	o.take(coded)
	return nil
}

func (o *object) base64(name string) []byte {
	b, err := base64.StdEncoding.Strict().DecodeString(o.text(name))
	if err != nil {
		o.fault(name, "must be standard base64 with padding")
	}
	return b
}

// list reads an array of objects and calls read for each.
func (o *object) list(name string, read func(*object)) {
	raw := o.take(name)
	if raw == nil {
		return
	}
	items, ok := o.elements(name, raw)
	if !ok {
		o.fault(name, "must be an array of objects")
		return
	}
	for i, item := range items {
		if o.faults.full() {
			return
		}
		o.nested(fmt.Sprintf("%s[%d]", name, i), item, read)
	}
}

// elements reads an array, and reports whether it is one. They are as good as none if there are too many.
func (o *object) elements(name string, raw json.RawMessage) (items []json.RawMessage, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, false
	}
	for dec.More() {
		var item json.RawMessage
		if err := dec.Decode(&item); err != nil {
			return nil, false
		}
		if len(items) >= maxElements {
			o.fault(name, "has more than %d elements", maxElements)
			return nil, true
		}
		items = append(items, item)
	}
	return items, true
}

// nested reads the object raw, which stands at name, with read.
func (o *object) nested(name string, raw json.RawMessage, read func(*object)) {
	in := &object{at: o.at + name + ".", faults: o.faults}
	if !in.open(raw) {
		o.fault(name, "must be an object")
		return
	}
	read(in)
	in.done()
}

// strings reads an array of strings.
func (o *object) strings(name string) []string {
	raw := o.take(name)
	if raw == nil {
		return nil
	}
	items, ok := o.elements(name, raw)
	if !ok {
		o.fault(name, "must be an array of strings")
	}
	list := make([]string, len(items))
	for i, item := range items {
		var ok bool
		if list[i], ok = jsonString(item); !ok || string(item) == "null" {
			o.fault(fmt.Sprintf("%s[%d]", name, i), "must be a string")
		}
	}
	return list
}

// texts reads an object whose fields are all strings; nil if it is absent.
func (o *object) texts(name string) map[string]string {
	all := o.textsOrNull(name, false)
	if all == nil {
		return nil
	}
	m := make(map[string]string, len(all))
	for k, v := range all {
		m[k] = *v
	}
	return m
}

// textsOrNull is texts for fields that may be null too.
func (o *object) textsOrNull(name string, null bool) map[string]*string {
	raw := o.take(name)
	if raw == nil {
		return nil
	}
	in := &object{at: o.at + name + ".", faults: o.faults}
	if !in.open(raw) {
		o.fault(name, "must be an object")
		return nil
	}
	m := make(map[string]*string, len(in.fields))
	for k, v := range in.fields {
		s, ok := jsonString(v)
		switch isNull := string(v) == "null"; {
		case isNull && null:
			m[k] = nil
		case isNull || !ok:
			in.fault(k, "must be a string")
		default:
			m[k] = &s
		}
	}
	return m
}
