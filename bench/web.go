package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// web is a system that speaks HTTP/1.1.
type web interface {
	webAddr() string
	// webRequest returns the method, target and body of an operation.
	webRequest(o operation, i int) (method, target, body string)
}

var hundred = strings.Repeat("x", 100)

func (s *service) webAddr() string { return s.addr }

func (s *service) webRequest(o operation, i int) (method, target, body string) {
	if o == opWebPut {
		return "PUT", "/v1/nodes" + key(i), hundred
	}
	return "GET", "/v1/nodes" + key(i) + "?raw&consistency=eventual", ""
}

func (e *etcd) webAddr() string { return e.addr }

// webRequest asks the gateway, which takes keys and values as base64 in JSON.
func (e *etcd) webRequest(o operation, i int) (method, target, body string) {
	k := base64.StdEncoding.EncodeToString([]byte(key(i)))
	if o == opWebPut {
		return "POST", "/v3/kv/put", fmt.Sprintf(`{"key":%q,"value":%q}`, k, base64.StdEncoding.EncodeToString([]byte(hundred)))
	}
	return "POST", "/v3/kv/range", fmt.Sprintf(`{"key":%q,"serializable":true}`, k)
}

// null is a server of net/http alone, whose handler does nothing: the floor of every other one.
type null struct{ addr string }

func (n *null) name() string           { return "net/http" }
func (n *null) dial(int) (conn, error) { return nil, fmt.Errorf("it speaks HTTP only") }
func (n *null) webAddr() string        { return n.addr }

func (n *null) webRequest(o operation, _ int) (method, target, body string) {
	if o == opWebPut {
		return "PUT", "/", hundred
	}
	return "GET", "/", ""
}

func (n *null) prepare(int) error {
	nc, err := net.Dial("tcp", n.addr)
	if err == nil {
		nc.Close()
	}
	return err
}

func serveNull(ln net.Listener) error {
	answer := []byte(hundred)
	return http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(answer)
	}))
}

// webConn is a kept-alive connection. Requests are written by hand, which costs the load less than net/http's client.
type webConn struct {
	w   web
	nc  net.Conn
	in  *bufio.Reader
	out *bufio.Writer
}

func dialWeb(w web) (conn, error) {
	nc, err := net.Dial("tcp", w.webAddr())
	if err != nil {
		return nil, err
	}
	return &webConn{w, nc, bufio.NewReaderSize(nc, 4096), bufio.NewWriterSize(nc, 4096)}, nil
}

func (c *webConn) send(o operation, i int) error {
	method, target, body := c.w.webRequest(o, i)
	_, err := fmt.Fprintf(c.out, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
	return err
}

func (c *webConn) flush() error  { return c.out.Flush() }
func (c *webConn) waiting() bool { return c.in.Buffered() > 0 }
func (c *webConn) lock() error   { return fmt.Errorf("there is no lock over HTTP here") }
func (c *webConn) close()        { c.nc.Close() }

func (c *webConn) receive() error {
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}
