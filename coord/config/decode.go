package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder makes values of one type out of texts. What it says is wrong names keys and never has a value in it: values may
// be secrets, and errors end up in logs.
type decoder struct {
	fields []field // of a struct; none for a map[string]string, which takes all keys
	strict bool    // a key that is no field's is an error
}

// field is a field of the struct, or of one inside it.
type field struct {
	key      string
	index    []int
	required bool
	parse    parser
}

// parser sets a value to what a text says.
type parser func(to reflect.Value, text string) error

// newDecoder returns what decodes the keys of an application into a type.
func newDecoder(t reflect.Type, strict bool) (*decoder, error) {
	d := &decoder{strict: strict}
	switch {
	case t == reflect.TypeFor[map[string]string]():
		return d, nil
	case t.Kind() != reflect.Struct:
		return nil, fmt.Errorf("an application's configuration is bound to a struct or a map[string]string, and %s is neither", t)
	}
	if err := d.add(t, "", nil); err != nil {
		return nil, err
	}
	if len(d.fields) == 0 {
		return nil, fmt.Errorf(`%s has no field with a tag such as config:"key"`, t)
	}
	return d, nil
}

// add adds the fields of a struct type whose keys begin with prefix.
func (d *decoder) add(t reflect.Type, prefix string, index []int) error {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("config")
		at := append(slices.Clone(index), i)
		switch {
		case f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct:
			if err := d.add(f.Type, prefix, at); err != nil {
				return err
			}
		case tag == "-", !f.IsExported() && !tagged:
		case !f.IsExported():
			return fmt.Errorf("the field %s.%s has a config tag and isn't exported", t, f.Name)
		case !tagged:
			return fmt.Errorf(`the field %s.%s has no tag: config:"key" binds it, config:"-" leaves it alone`, t, f.Name)
		default:
			if err := d.field(t, f, prefix, tag, at); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *decoder) field(t reflect.Type, f reflect.StructField, prefix, tag string, at []int) error {
	name, option, _ := strings.Cut(tag, ",")
	if name == "" || option != "" && option != "required" {
		return fmt.Errorf(`the field %s.%s has the tag config:%q; it is config:"key" or config:"key,required"`, t, f.Name, tag)
	}
	key := prefix + name
	if nests(f.Type) {
		if option != "" {
			return fmt.Errorf("the field %s.%s is required and a struct; its fields can be required", t, f.Name)
		}
		return d.add(f.Type, key+".", at)
	}
	if i := slices.IndexFunc(d.fields, func(o field) bool { return o.key == key }); i >= 0 {
		return fmt.Errorf("the field %s.%s has the key %q, which another one has too", t, f.Name, key)
	}
	parse, err := parserOf(f.Type, d.strict)
	if err != nil {
		return fmt.Errorf("the field %s.%s: %w", t, f.Name, err)
	}
	d.fields = append(d.fields, field{key, at, option == "required", parse})
	return nil
}

// nests reports whether a field is a struct whose fields have keys of their own, not one that is read from one text.
func nests(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return t.Kind() == reflect.Struct && !p.Implements(textual) && !p.Implements(jsonable)
}

// decode sets a value, which has the defaults, to what the texts say. A key that isn't there leaves its field alone.
func (d *decoder) decode(to reflect.Value, values map[string]string) error {
	if d.fields == nil {
		to.Set(reflect.ValueOf(maps.Clone(values)))
		return nil
	}
	var errs []error
	known := make(map[string]bool, len(d.fields))
	for _, f := range d.fields {
		known[f.key] = true
		text, ok := values[f.key]
		switch {
		case !ok && f.required:
			errs = append(errs, fmt.Errorf("the key %q is missing", f.key))
		case ok:
			if err := f.parse(to.FieldByIndex(f.index), text); err != nil {
				errs = append(errs, fmt.Errorf("the value of %q %w", f.key, err))
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if d.strict && !known[key] {
			errs = append(errs, fmt.Errorf("there is no field for the key %q", key))
		}
	}
	return together(errs)
}

// together makes one error of several, on one line.
func together(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	return &several{errs}
}

type several struct{ errs []error }

func (e *several) Error() string {
	return strings.ReplaceAll(errors.Join(e.errs...).Error(), "\n", "; ")
}

func (e *several) Unwrap() []error { return e.errs }

var (
	textual  = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonable = reflect.TypeFor[json.Unmarshaler]()
)

// parserOf returns what reads a type from a text. Numbers, booleans, durations and strings are written plainly, what
// reads itself from a text does so, and everything else is JSON.
func parserOf(t reflect.Type, strict bool) (parser, error) {
	if reflect.PointerTo(t).Implements(textual) {
		return func(to reflect.Value, text string) error {
			if err := to.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
				return fmt.Errorf("is no %s", t)
			}
			return nil
		}, nil
	}
	if reflect.PointerTo(t).Implements(jsonable) {
		return document(t, strict), nil
	}
	switch k := t.Kind(); {
	case t == reflect.TypeFor[time.Duration]():
		return func(to reflect.Value, text string) error {
			d, err := time.ParseDuration(text)
			to.SetInt(int64(d))
			return says(err, "is no duration such as 1m30s")
		}, nil
	case k == reflect.Pointer:
		return pointer(t, strict)
	case k == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return func(to reflect.Value, text string) error { to.SetBytes([]byte(text)); return nil }, nil
	case k == reflect.Slice, k == reflect.Array, k == reflect.Map, k == reflect.Struct:
		return document(t, strict), nil
	}
	return plain(t)
}

func says(err error, what string) error {
	if err == nil {
		return nil
	}
	return errors.New(what)
}

// plain returns what reads strings, booleans and numbers.
func plain(t reflect.Type) (parser, error) {
	switch k := t.Kind(); k {
	case reflect.String:
		return func(to reflect.Value, text string) error { to.SetString(text); return nil }, nil
	case reflect.Bool:
		return func(to reflect.Value, text string) error {
			b, err := strconv.ParseBool(text)
			to.SetBool(b)
			return says(err, "is neither true nor false")
		}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(to reflect.Value, text string) error {
			n, err := strconv.ParseInt(text, 10, t.Bits())
			to.SetInt(n)
			return says(err, fmt.Sprintf("is no integer of %d bits", t.Bits()))
		}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(to reflect.Value, text string) error {
			n, err := strconv.ParseUint(text, 10, t.Bits())
			to.SetUint(n)
			return says(err, fmt.Sprintf("is no integer of %d bits from 0 up", t.Bits()))
		}, nil
	case reflect.Float32, reflect.Float64:
		return func(to reflect.Value, text string) error {
			x, err := strconv.ParseFloat(text, t.Bits())
			to.SetFloat(x)
			return says(err, "is no number")
		}, nil
	}
	return nil, fmt.Errorf("nothing can be bound to a %s", t)
}

// pointer returns what reads into a new value: nil stays for "isn't there".
func pointer(t reflect.Type, strict bool) (parser, error) {
	parse, err := parserOf(t.Elem(), strict)
	if err != nil {
		return nil, err
	}
	return func(to reflect.Value, text string) error {
		fresh := reflect.New(t.Elem())
		to.Set(fresh)
		return parse(fresh.Elem(), text)
	}, nil
}

// document returns what reads one JSON value into a new value, so that defaults are never changed.
func document(t reflect.Type, strict bool) parser {
	return func(to reflect.Value, text string) error {
		fresh := reflect.New(t)
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		if strict {
			d.DisallowUnknownFields()
		}
		err := d.Decode(fresh.Interface())
		if _, more := d.Token(); err == nil && more != io.EOF {
			err = errors.New("there is something behind it")
		}
		to.Set(fresh.Elem())
		return notJSON(t, err)
	}
}

// notJSON says what is wrong with a document, as far as that doesn't quote it.
func notJSON(t reflect.Type, err error) error {
	what := fmt.Sprintf("is not JSON for %s", t)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		what += fmt.Sprintf(": %s is a %s there", wrong.Field, wrong.Type)
	} else if at, ok := errors.AsType[*json.SyntaxError](err); ok {
		what += fmt.Sprintf(", from byte %d on", at.Offset)
	} else if err != nil && strings.HasPrefix(err.Error(), "json: unknown field ") {
		what += ": it has the " + strings.TrimPrefix(err.Error(), "json: ")
	}
	return says(err, what)
}
