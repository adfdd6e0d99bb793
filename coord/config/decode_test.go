package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

type everything struct {
	common
	S    string         `config:"s"`
	B    bool           `config:"b"`
	I    int8           `config:"i"`
	U    uint16         `config:"u"`
	F    float64        `config:"f"`
	D    time.Duration  `config:"d"`
	T    time.Time      `config:"t"`
	Addr netip.AddrPort `config:"addr"`
	Raw  []byte         `config:"raw"`
	P    *int           `config:"p"`
	L    []string       `config:"l"`
	M    map[string]int `config:"m"`
	In   struct {
		X    int `config:"x,required"`
		Deep struct {
			Y int `config:"y"`
		} `config:"deep"`
	} `config:"in"`
	Doc   *point `config:"doc"`
	Other int    `config:"-"`
	own   int
}

type common struct {
	Level slog.Level `config:"level"`
}

type point struct{ X, Y int }

func decodeInto[T any](to *T, strict bool, values map[string]string) error {
	d, err := newDecoder(reflect.TypeFor[T](), strict)
	if err != nil {
		return err
	}
	return d.decode(reflect.ValueOf(to).Elem(), values)
}

func TestDecode(t *testing.T) {
	var got everything
	got.Other, got.U = 7, 9 // what no key is for stays
	err := decodeInto(&got, true, map[string]string{
		"level": "WARN", "s": " a b ", "b": "true", "i": "-128", "f": "1e3", "d": "1m30s", "t": "2026-01-02T03:04:05Z",
		"addr": "10.0.0.1:80", "raw": "raw", "p": "5", "l": `["a","b"]`, "m": `{"a":1}`, "in.x": "1", "in.deep.y": "2",
		"doc": `{"X":1,"Y":2}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	five := 5
	want := everything{
		common: common{slog.LevelWarn}, S: " a b ", B: true, I: -128, U: 9, F: 1000, D: 90 * time.Second,
		T: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Addr: netip.MustParseAddrPort("10.0.0.1:80"), Raw: []byte("raw"),
		P: &five, L: []string{"a", "b"}, M: map[string]int{"a": 1}, Doc: &point{1, 2}, Other: 7,
	}
	want.In.X, want.In.Deep.Y = 1, 2
	if got.own = want.own; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	all := map[string]string{}
	if err := decodeInto(&all, true, map[string]string{"a": "1", "b.c": ""}); err != nil || fmt.Sprint(all) != "map[a:1 b.c:]" {
		t.Error(all, err)
	}
}

// TestWrongValues: whatever is wrong is said, all of it at once and by key, and no error has a value in it.
func TestWrongValues(t *testing.T) {
	const secret = "hunter2"
	wrong := map[string]string{
		"level": "is no slog.Level", "b": "is neither true nor false", "i": "is no integer of 8 bits",
		"u": "is no integer of 16 bits from 0 up", "f": "is no number", "d": "is no duration", "t": "is no time.Time",
		"addr": "is no netip.AddrPort", "p": "is no integer", "l": "is not JSON for []string", "m": "is not JSON",
		"in.x": "is no integer", "in.deep.y": "is no integer", "doc": "is not JSON", "zzz": "there is no field for the key",
	}
	values := map[string]string{}
	for key := range wrong {
		values[key] = secret
	}
	var x everything
	err := decodeInto(&x, true, values)
	if err == nil {
		t.Fatal("accepted")
	}
	for key, what := range wrong {
		if !strings.Contains(err.Error(), fmt.Sprintf("%q %s", key, what)) && !strings.Contains(err.Error(), fmt.Sprintf("%s %q", what, key)) {
			t.Errorf("%s: not %q in %v", key, what, err)
		}
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("it shows a value: %v", err)
	}
	for text, what := range map[string]string{
		`{"X":1,"Z":2}`: `it has the unknown field "Z"`, `{"X":"a"}`: "X is a int there", `{"X":1}{}`: "is not JSON",
		`{"X":1`: "is not JSON", "": "is not JSON",
	} {
		err := decodeInto(&x, true, map[string]string{"in.x": "1", "doc": text})
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for n, text := range []string{"128", "-129", "1.0", " 1", "0x1", ""} {
		if err := decodeInto(&x, true, map[string]string{"in.x": "1", "i": text}); err == nil {
			t.Errorf("%d: %q is accepted as an int8", n, text)
		}
	}
	if err := decodeInto(&x, true, map[string]string{}); err == nil || err.Error() != `the key "in.x" is missing` {
		t.Error(err)
	}
	if err := decodeInto(&x, false, map[string]string{"in.x": "1", "zzz": "1", "doc": `{"Z":1}`}); err != nil {
		t.Errorf("unknown keys are to be ignored: %v", err)
	}
}

// TestWrongTypes: what can't be bound is refused before anything is read.
func TestWrongTypes(t *testing.T) {
	for what, decode := range map[string]func() error{
		"int is neither":      func() error { return decodeInto(new(int), true, nil) },
		"no field with a tag": func() error { return decodeInto(&struct{}{}, true, nil) },
		"has no tag":          func() error { return decodeInto(&struct{ A int }{}, true, nil) },
		`config:"a,omitempty"`: func() error {
			return decodeInto(&struct {
				A int `config:"a,omitempty"`
			}{}, true, nil)
		},
		`config:",required"`: func() error {
			return decodeInto(&struct {
				A int `config:",required"`
			}{}, true, nil)
		},
		"isn't exported": func() error {
			return decodeInto(&struct {
				a int `config:"a"`
			}{}, true, nil)
		},
		"bound to a chan int": func() error {
			return decodeInto(&struct {
				A chan int `config:"a"`
			}{}, true, nil)
		},
		"bound to a interface {}": func() error {
			return decodeInto(&struct {
				A any `config:"a"`
			}{}, true, nil)
		},
		"which another one has": func() error {
			return decodeInto(&struct {
				A int `config:"a"`
				B int `config:"a"`
			}{}, true, nil)
		},
		"its fields can be required": func() error {
			return decodeInto(&struct {
				A struct {
					B int `config:"b"`
				} `config:"a,required"`
			}{}, true, nil)
		},
	} {
		if err := decode(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDefaultsStay: decoding changes nothing that a default refers to.
func TestDefaultsStay(t *testing.T) {
	x := everything{M: map[string]int{"a": 1}, L: []string{"a"}, Raw: []byte("a")}
	y := x
	err := decodeInto(&y, true, map[string]string{"in.x": "1", "m": `{"b":2}`, "l": `["b"]`, "raw": "b"})
	if err != nil || fmt.Sprint(x.M, x.L, string(x.Raw)) != "map[a:1] [a]a" || fmt.Sprint(y.M, y.L, string(y.Raw)) != "map[b:2] [b]b" {
		t.Error(x, y, err)
	}
}
