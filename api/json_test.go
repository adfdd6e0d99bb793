package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coord-kv/coord/op"
)

// FuzzAppendValue: whatever the bytes are, encoding/json reads back the same ones.
func FuzzAppendValue(f *testing.F) {
	for _, s := range []string{"", "text", "\x00\x1f\x7f", `"\/`, "\u2028\u2029é\U0001F600", "\xff\xfe", "<a href='x'>&", "\ufffd"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		var got struct {
			Data       *string `json:"data"`
			DataBase64 *[]byte `json:"data_base64"`
		}
		b := append(appendValue([]byte{'{'}, "data", v), '}')
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		switch {
		case utf8.Valid(v) != (got.Data != nil) || utf8.Valid(v) == (got.DataBase64 != nil):
			t.Fatalf("%q is written %q", v, b)
		case got.Data != nil && *got.Data != string(v), got.DataBase64 != nil && !bytes.Equal(*got.DataBase64, v):
			t.Fatalf("%q is written %q", v, b)
		}
		if !utf8.Valid(b) || bytes.ContainsAny(b, "\n\r") {
			t.Fatalf("%q is not one line of text", b)
		}
	})
}

func TestAppendStat(t *testing.T) {
	s := op.Stat{
		Czxid: 1 << 62, Mzxid: 2, Pzxid: 3, Ctime: 1_700_000_000_123, Mtime: -1, Version: -5, Cversion: 6, Aversion: 7,
		EphemeralOwner: 0x2a, DataLength: 8, NumChildren: 9, Kind: op.TTL, TTL: 90 * time.Second,
	}
	want := `{"etag":"2.-5","czxid":"4611686018427387904","mzxid":"2","pzxid":"3","ctime":"2023-11-14T22:13:20.123Z",` +
		`"mtime":"1969-12-31T23:59:59.999Z","version":-5,"cversion":6,"aversion":7,"ephemeral_owner":"s-2a",` +
		`"data_length":8,"num_children":9,"kind":"ttl","ttl":"1m30s"}`
	if got := string(appendStat(nil, &s)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestStrictJSON: what encoding/json would let pass, and what it reports badly.
func TestStrictJSON(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	for _, test := range []struct{ body, want string }{
		{``, "is empty"},
		{"  \n", "is empty"},
		{`null`, "must be a JSON object"},
		{`[]`, "must be a JSON object"},
		{`"text"`, "must be a JSON object"},
		{`{`, "at byte 1"},
		{`{"text":"a"} {}`, "after top-level value"},
		{`{"text":"a"}garbage`, "after top-level value"},
		{`{'text':"a"}`, "at byte 2"},
		{`{"text":NaN}`, "not JSON"},
		{"\ufeff{}", "byte order mark"},
		{"\xff\xfe{\x00}\x00", "not valid UTF-8"},
		{"{\"text\":\"\xff\"}", "not valid UTF-8"},
		{deep, "nests deeper"},
		{strings.Repeat("[", 17) + strings.Repeat("]", 17), "nests deeper"},
		{`{"text":"a","text":"b"}`, "text: is given twice"},
		{`{"TEXT":"a"}`, "TEXT: there is no such field here"},
		{`{"text":1}`, "text: must be a string"},
		{`{"text":"\ud800"}`, "text: has half of a surrogate pair"},
		{`{"text":"\udc00\ud800"}`, "text: has half of a surrogate pair"},
		{`{"text":"\ud83dx"}`, "text: has half of a surrogate pair"},
		{`{"text":"\\ud800"}`, ""},
		{`{"text":"\ud83d\ude00"}`, ""},
		{`{"text":"\ufffd"}`, ""},
		{`{"text":null,"number":null,"flag":null,"zxid":null,"list":null,"ttl":null,"data":null}`, ""},
		{`{"number":1e400}`, "number: must be a whole number"},
		{`{"number":1.0}`, "number: must be a whole number"},
		{`{"number":9223372036854775808}`, "number: must be a whole number"},
		{`{"number":"1"}`, "number: must be a whole number"},
		{`{"number":-1}`, "number: must be a whole number from 0 to 100"},
		{`{"flag":1}`, "flag: must be true or false"},
		{`{"zxid":9007199254740993}`, "zxid: must be a string"},
		{`{"zxid":"18446744073709551616"}`, "zxid: must be a zxid"},
		{`{"zxid":"-1"}`, "zxid: must be a zxid"},
		{`{"zxid":"0x1"}`, "zxid: must be a zxid"},
		{`{"ttl":15}`, "ttl: must be a string"},
		{`{"ttl":"-1s"}`, "ttl: must be longer than nothing"},
		{`{"ttl":"9e99h"}`, "ttl: must be a duration"},
		{`{"data":"a","data_base64":"YQ=="}`, "can't be given together"},
		{`{"data_base64":"YQ"}`, "data_base64: must be standard base64"},
		{`{"data_base64":"YR=="}`, "data_base64: must be standard base64"},
		{`{"data_base64":"Y Q=="}`, "data_base64: must be standard base64"},
		{`{"list":{}}`, "list: must be an array of objects"},
		{`{"list":[1]}`, "list[0]: must be an object"},
		{`{"list":[{},{"deep":{}}]}`, "list[1].deep: there is no such field here"},
	} {
		err := readSample([]byte(test.body))
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%.60s: %v", test.body, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%.60s: %v; want ... %s ...", test.body, err, test.want)
		}
	}
}

func readSample(body []byte) error {
	o, err := parseObject(body)
	if err != nil {
		return err
	}
	o.text("text")
	o.number("number", 0, 100, 0)
	o.flag("flag")
	o.zxid("zxid")
	o.duration("ttl")
	o.value("data")
	o.list("list", func(*object) {})
	return o.finish()
}

// TestValues: text, bytes, nothing and null are four different things, and the last two are the same.
func TestValues(t *testing.T) {
	for _, test := range []struct {
		body string
		want []byte
	}{
		{`{}`, nil}, {`{"data":null}`, nil}, {`{"data":""}`, []byte{}}, {`{"data_base64":""}`, []byte{}},
		{`{"data":"é"}`, []byte("é")}, {`{"data_base64":"/wA="}`, []byte{0xff, 0}},
	} {
		o, err := parseObject([]byte(test.body))
		if err != nil {
			t.Fatal(err)
		}
		got := o.value("data")
		if !bytes.Equal(got, test.want) || (got == nil) != (test.want == nil) {
			t.Errorf("%s: %#v", test.body, got)
		}
	}
}

// TestOpReaders: every verb that may stand in a transaction can be written, and no other.
func TestOpReaders(t *testing.T) {
	for _, v := range op.Verbs() {
		if _, ok := opReaders[v.String()]; ok != v.InTxn() {
			t.Errorf("%s: can be written %t, may stand in a transaction %t", v, ok, v.InTxn())
		}
	}
}

// FuzzTxn: no body makes the reader fail in any other way than with a bad_request or unknown_field; what it accepts can
// be put into the log and read back.
func FuzzTxn(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"ops":[{"op":"create","path":"/a","data":"x","kind":"ttl","ttl":"1s","acl":[{"scheme":"world","id":"anyone","perms":"r"}]}]}`,
		`{"checks":[{"path":"/a","if_match":"1.0"},{"op":"holder","dir":"x","token":"1","slots":2}],"ops":[{"op":"rank","of":1}],"else":[{"op":"get","path":"/"}]}`,
		`{"ops":[{"op":"set","path":"/a","data_base64":"AA==","version":3},{"op":"delete","path":"/a","recursive":true}]}`,
		`{"ops":[{"op":"lead","dir":"/e","node":"n","data":"\ud83d\ude00"},{"op":"set_quota","path":"/","hard_count":1}]}`,
		`{"ops":[{"op":"children","path":"/","after":"a","limit":1,"with_stat":true}]}`, `{"ops":[null]}`, `{"a":{"a":{"a":1}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		txn, err := readTxn(body)
		if err != nil {
			e, ok := errors.AsType[*op.Error](err)
			if !ok || e.Code != op.BadRequest && e.Code != op.UnknownField {
				t.Fatalf("%q: %v", body, err)
			}
			marshal(newProblem(err, false))
			return
		}
		r := &op.Request{Op: txn}
		encoded := (&op.Batch{Requests: []*op.Request{r}}).Append(nil)
		again, err := op.DecodeBatch(encoded)
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if !bytes.Equal(again.Append(nil), encoded) {
			t.Fatalf("%q: it is another transaction after the log", body)
		}
	})
}

func TestJSONDepth(t *testing.T) {
	for body, want := range map[string]int{`1`: 0, `{}`: 1, `[[{}]]`: 3, `{"[[[":"{{\"{{"}`: 1, `["\\",["]"]]`: 2} {
		if got := jsonDepth([]byte(body)); got != want {
			t.Errorf("%s is %d deep, not %d", body, want, got)
		}
	}
}

func TestSecrets(t *testing.T) {
	var hash op.Hash
	text := newSecret(&hash)
	again, ok := hashSecret(text)
	if !ok || again != hash || len(text) != base64.RawURLEncoding.EncodedLen(secretBytes) {
		t.Errorf("%q: %t", text, ok)
	}
	for _, bad := range []string{"", "short", text + "A", text[:21] + "=", text + "=="} {
		if _, ok := hashSecret(bad); ok {
			t.Errorf("%q is a secret", bad)
		}
	}
}
