package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSlowConnectionsHarmNobody opens ten thousand connections that send a piece of a request and then nothing, from
// several addresses because one alone may not have so many, and asks what it costs everybody else: a client that writes
// and reads is answered, and the process holds no memory for them that matters. All of them are open at the same time: the
// member is told to have patience.
func TestSlowConnectionsHarmNobody(t *testing.T) {
	conns := 10_000
	if limit := openFiles(t); limit < uint64(conns)+2_000 {
		conns = int(limit) / 2
		t.Logf("only %d connections: the limit of open files is %d", conns, limit)
	}
	t.Setenv("COORD_HEADER_TIMEOUT", "1h")
	t.Setenv("COORD_BODY_TIMEOUT", "1h")
	c := startCluster(t, 1)
	p := c.members[0]
	before := residentMiB(t, p)

	pieces := []string{
		"GET /v1/nodes/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
		"PUT /v1/nodes/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n0123456789",
		"PO", "",
	}
	var all []net.Conn
	for i := range conns {
		conn := dialFrom(t, i, p.http)
		all = append(all, conn)
		if _, err := io.WriteString(conn, pieces[i%len(pieces)]); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if i%500 == 0 {
			mustWork(t, c, p, i)
		}
	}
	for _, conn := range all {
		conn.Write([]byte("x")) // one byte more, and still no request
	}
	mustWork(t, c, p, conns)
	if open := openConns(t, p); open < conns {
		t.Errorf("of %d connections, %d are open: the others cost nothing because they were turned away", conns, open)
	}
	if grown := residentMiB(t, p) - before; grown > 256 {
		t.Errorf("%d slow connections cost %d MiB", conns, grown)
	}
}

// dialFrom opens a connection from one of several addresses, because one alone may not have so many.
func dialFrom(t *testing.T, i int, addr string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%8))}, Timeout: time.Minute}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("connection %d: %v", i, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// openConns returns how many connections the member says that it has.
func openConns(t *testing.T, p *process) int {
	t.Helper()
	code, text, _ := p.do(t.Context(), "GET", "/metrics", "", nil)
	if code != 200 {
		t.Fatalf("the metrics: %d %s", code, text)
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, `coord_connections{transport="http"} `); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
	}
	t.Fatal("the connections are not counted")
	return 0
}

// TestFewFiles: a member that may open few files keeps those that it needs for itself, whatever clients do. Here it goes on
// to write, which takes new files for its log, beside more connections than there are files.
func TestFewFiles(t *testing.T) {
	const files = 300
	t.Setenv("COORD_HEADER_TIMEOUT", "1h")
	t.Setenv("COORD_SEGMENT_SIZE", "1MiB")
	c := startCluster(t, 0)
	p := c.add(t)
	p.files = files
	c.start(p)
	c.waitReady(p)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}} // of its own, so that its connection stays
	put := func(i int) error {
		value := strings.Repeat(string(rune('a'+i%26)), 100_000)
		req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://"+p.http+"/v1/nodes/large", strings.NewReader(value))
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); resp.StatusCode >= 300 {
			return fmt.Errorf("%s %s", resp.Status, text)
		}
		return nil
	}
	if err := put(0); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * files {
		io.WriteString(dialFrom(t, i, p.http), "GET /v1/no") // it may have been turned away by now
	}
	for i := range 50 {
		if err := put(i); err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	p.kill()
	if !strings.Contains(p.log.String(), "raise that (ulimit -n") {
		t.Error("the log doesn't say that there are few files")
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
