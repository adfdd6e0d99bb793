package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coord-kv/coord/op"
)

// nothing is a ResponseWriter that keeps nothing.
type nothing struct{ h http.Header }

func (w nothing) Header() http.Header         { return w.h }
func (w nothing) Write(p []byte) (int, error) { return len(p), nil }
func (w nothing) WriteHeader(int)             {}

// BenchmarkHandler is the door without the network: what a request costs over a null handler.
func BenchmarkHandler(b *testing.B) {
	m := newMember()
	s, err := New(Config{Backend: m, Name: "n1"})
	if err != nil {
		b.Fatal(err)
	}
	m.Do(b.Context(), &op.Request{Op: &op.Create{Path: "/a", Data: []byte(strings.Repeat("x", 100))}})
	run := func(name, method, target, body string) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(method, "http://localhost"+target, strings.NewReader(body))
				s.serveHTTP(nothing{make(http.Header)}, r)
			}
		})
	}
	null := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write([]byte("ok"))
	})
	b.Run("null", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			null.ServeHTTP(nothing{make(http.Header)}, httptest.NewRequest("GET", "http://localhost/v1/nodes/a", nil))
		}
	})
	run("put", "PUT", "/v1/nodes/a", strings.Repeat("x", 100))
	run("get", "GET", "/v1/nodes/a", "")
	run("get raw eventual", "GET", "/v1/nodes/a?raw&consistency=eventual", "")
	run("set if", "PUT", "/v1/nodes/a?version=-1", strings.Repeat("x", 100))
}
