package e2e

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSlowConnectionsHarmNobody opens ten thousand connections that send a piece of a request and then nothing, from
// several addresses because one alone may not have so many, and asks what it costs everybody else: a client that writes
// and reads is answered, and the process holds no memory for them that matters.
func TestSlowConnectionsHarmNobody(t *testing.T) {
	conns := 10_000
	if limit := openFiles(t); limit < uint64(conns)+2_000 {
		conns = int(limit) / 2
		t.Logf("only %d connections: the limit of open files is %d", conns, limit)
	}
	c := startCluster(t, 1)
	p := c.members[0]
	before := residentMiB(t, p)

	pieces := []string{
		"GET /v1/nodes/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
		"PUT /v1/nodes/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n0123456789",
		"PO", "",
	}
	for i := range conns {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%8))}, Timeout: 30 * time.Second}
		conn, err := dialer.Dial("tcp", p.http)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer conn.Close()
		conn.Write([]byte(pieces[i%len(pieces)])) // it may have been closed for its slowness by now
		if i%500 == 0 {
			mustWork(t, c, p, i)
		}
	}
	mustWork(t, c, p, conns)
	if grown := residentMiB(t, p) - before; grown > 256 {
		t.Errorf("%d slow connections cost %d MiB", conns, grown)
	}
}

// mustWork writes and reads as an ordinary client does, on connections of its own.
func mustWork(t *testing.T, c *cluster, p *process, i int) {
	t.Helper()
	body := fmt.Sprint("value ", i)
	if code, text, _ := p.do(t.Context(), "PUT", "/v1/nodes/fast", body, nil); code != 200 && code != 201 {
		t.Fatalf("a write beside %d slow connections: %d %s", i, code, text)
	}
	if code, text, _ := p.do(t.Context(), "GET", "/v1/nodes/fast?raw", "", nil); code != 200 || text != body {
		t.Fatalf("a read beside %d slow connections: %d %s", i, code, text)
	}
}

func openFiles(t *testing.T) uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return limit.Cur
}

// residentMiB returns how much memory the process holds.
func residentMiB(t *testing.T, p *process) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("this system has no /proc")
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kib / 1024
		}
	}
	t.Fatal("VmRSS is not stated")
	return 0
}
