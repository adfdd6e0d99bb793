package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// What no system can be faster than, measured in the same run: the disk, and a server that only sends back what came.

// syncRate returns how many writes of 512 bytes, each synced, the disk does in a second.
func syncRate(dir string, took time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block, n, start := make([]byte, 512), 0, time.Now()
	for time.Since(start) < took {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// echo is a server that sends back what comes, with a goroutine for each connection.
type echo struct{ addr string }

func (e *echo) name() string { return "echo" }

func (e *echo) prepare(int) error {
	nc, err := net.Dial("tcp", e.addr)
	if err == nil {
		nc.Close()
	}
	return err
}

func (e *echo) dial(int) (conn, error) {
	nc, err := net.Dial("tcp", e.addr)
	if err != nil {
		return nil, err
	}
	return &echoConn{nc: nc, in: bufio.NewReaderSize(nc, 4096), out: bufio.NewWriterSize(nc, 4096)}, nil
}

func serveEcho(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer nc.Close()
			buf := make([]byte, 4096)
			for {
				n, err := nc.Read(buf)
				if err != nil {
					return
				}
				if _, err := nc.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}

// echoConn sends as many bytes as a read of coord's has, both ways.
type echoConn struct {
	nc    net.Conn
	in    *bufio.Reader
	out   *bufio.Writer
	bytes [128]byte
}

func (c *echoConn) send(operation, int) error {
	_, err := c.out.Write(c.bytes[:])
	return err
}

func (c *echoConn) receive() error {
	_, err := io.ReadFull(c.in, c.bytes[:])
	return err
}

func (c *echoConn) flush() error  { return c.out.Flush() }
func (c *echoConn) waiting() bool { return c.in.Buffered() > 0 }
func (c *echoConn) lock() error   { return fmt.Errorf("an echo has no locks") }
func (c *echoConn) close()        { c.nc.Close() }

// child runs one of these servers in a process of its own, so that its processor time can be told.
func child(what, addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if what == "echo" {
		return serveEcho(ln)
	}
	return serveNull(ln)
}
