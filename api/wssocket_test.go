package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// What comes over a connection is read as it was sent, in pieces of any size, and when all is read nothing is lent any more.
func TestWebSocketSocket(t *testing.T) {
	for name, pair := range map[string]func(*testing.T) (client, server net.Conn){
		"lent": tcpPair,
		"own":  func(*testing.T) (client, server net.Conn) { return net.Pipe() },
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t)
			s := newWSSocket(server)
			s.reader = new(wsConn)
			defer s.Close()
			sent := make([]byte, 100_000)
			for i := range sent {
				sent[i] = byte(i * 7 >> 3)
			}
			go func() {
				defer client.Close()
				for rest, n := sent, 1; len(rest) > 0; n = n*3%10_007 + 1 {
					part := rest[:min(n, len(rest))]
					rest = rest[len(part):]
					if _, err := client.Write(part); err != nil {
						t.Error(err)
						return
					}
				}
			}()
			var got []byte
			for size := 1; ; size = size*5%9001 + 1 {
				p := make([]byte, size)
				n, err := s.Read(p)
				if got = append(got, p[:n]...); errors.Is(err, io.EOF) {
					break
				}
				if n == 0 || err != nil {
					t.Fatalf("read %d bytes, %v", n, err)
				}
			}
			if !bytes.Equal(got, sent) {
				t.Errorf("%d bytes were sent, %d others came", len(sent), len(got))
			}
			if lent := s.raw != nil && s.buf != nil; lent || len(s.left) > 0 {
				t.Error("a buffer is lent although nothing is left")
			}
			if n, err := s.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("behind the end are %d bytes, %v", n, err)
			}
		})
	}
}

// A wait has a deadline, and ends when the connection is closed.
func TestWebSocketSocketWaits(t *testing.T) {
	_, server := tcpPair(t)
	s := newWSSocket(server)
	s.reader = new(wsConn)
	s.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := s.Read(make([]byte, 10)); n != 0 || !isTimeout(err) {
		t.Errorf("read %d bytes, %v; want a timeout", n, err)
	}
	s.SetReadDeadline(time.Time{})
	go s.Close()
	if n, err := s.Read(make([]byte, 10)); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("read %d bytes, %v; want %v", n, err, net.ErrClosed)
	}
}

// tcpPair returns both ends of a connection.
func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}
