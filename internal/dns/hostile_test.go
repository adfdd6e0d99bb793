package dns

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/coord-kv/coord/internal/registry"
)

// patience is how long an answer may take on the slowest machine.
const patience = time.Minute

// ask returns a query as it is sent.
func ask(t testing.TB, name string, kind uint16, edit ...func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	for _, f := range edit {
		f(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// hostile are packets that are no proper queries, by what has to come of them: a code, or "" for no answer.
func hostile(t testing.TB) map[string][]string {
	good := string(ask(t, "web.service.coord.", dns.TypeA))
	header := func(bits, questions, answers, authority, additional uint16) string {
		var b []byte
		for _, v := range []uint16{0x1234, bits, questions, answers, authority, additional} {
			b = binary.BigEndian.AppendUint16(b, v)
		}
		return string(b)
	}
	body := good[12:]
	loop := "\xc0\x0c\x00\x01\x00\x01"                                                 // a name that points at itself
	forward := "\xc0\xff\x00\x01\x00\x01"                                              // one that points behind the packet
	long := strings.Repeat("\x3f"+strings.Repeat("a", 63), 4) + "\x00\x00\x01\x00\x01" // one of more than 255 bytes
	return map[string][]string{
		"": {
			"", "x", good[:11], header(0x8000, 1, 0, 0, 0) + body, // an answer: to answer it could go on for ever
		},
		"formerr": {
			header(0, 1, 0, 0, 0),                 // a question is announced, and isn't there
			header(0, 0, 0, 0, 0),                 // none is
			header(0, 2, 0, 0, 0) + body + body,   // two
			header(0, 0xffff, 0, 0, 0) + body,     // very many
			header(0, 1, 0xffff, 0, 0) + body,     // many answers to it
			header(0, 1, 0, 0, 0xffff) + body,     // and more
			header(0, 1, 0, 0, 0) + body[:5],      // cut off
			header(0, 1, 0, 0, 0) + loop,          //
			header(0, 1, 0, 0, 0) + forward,       //
			header(0, 1, 0, 0, 0) + long,          //
			header(0, 1, 0, 0, 0) + "\x80aaaaaaa", // a label of a kind that doesn't exist
			header(0, 1, 0, 0, 1) + body + "\x00", // the additional record is cut off
		},
		"notimp": {
			header(4<<11, 1, 0, 0, 0) + body, // NOTIFY
			header(5<<11, 1, 0, 0, 0) + body, // UPDATE
			header(2<<11, 0, 0, 0, 0),        // STATUS
		},
	}
}

// TestHostile sends what no resolver would. Each packet is answered as it must be, or not at all, and the server goes on.
func TestHostile(t *testing.T) {
	w := newWorld()
	w.register(t, registry.Instance{Service: "web", ID: "a", Address: "10.0.0.1", Port: 80})
	s := serve(t, Config{Source: w})
	for want, packets := range hostile(t) {
		for _, packet := range packets {
			c := dial(t, s, "udp")
			if _, err := c.Write([]byte(packet)); err != nil {
				t.Fatal(err)
			}
			if want == "" { // its answer would come before that to another one from the same address
				packet = string(ask(t, "nobody.service.coord.", dns.TypeA))
				c.Write([]byte(packet))
			}
			b := make([]byte, dns.MaxMsgSize)
			n, err := c.Read(b)
			if err != nil {
				t.Fatalf("%q: %v", packet, err)
			}
			r := new(dns.Msg)
			if err := r.Unpack(b[:n]); err != nil || !r.Response || want != "" && results[r.Rcode] != want ||
				want == "" && results[r.Rcode] != "nxdomain" || string(b[:2]) != packet[:2] {
				t.Errorf("%q: %v %s, want %q", packet, err, r, want)
			}
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	c := dial(t, s, "udp")
	for range 1000 {
		b := make([]byte, random.IntN(200))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		c.Write(b)
	}
	m := new(dns.Msg)
	m.SetQuestion("web.service.coord.", dns.TypeA)
	if r := exchange(t, s, "tcp", m); len(r.Answer) != 1 {
		t.Errorf("afterwards: %s", r)
	}
}

func dial(t testing.TB, s *Server, network string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// Over TCP: a length without a message, a message cut off, one that announces 64 KiB, and one query after the other. Who
// sends nothing more is hung up on, and nobody else notices.
func TestHostileTCP(t *testing.T) {
	w := newWorld()
	w.register(t, registry.Instance{Service: "web", ID: "a", Address: "10.0.0.1", Port: 80})
	s := serve(t, Config{Source: w, patience: firstQuery})
	query := ask(t, "web.service.coord.", dns.TypeA)
	framed := string(binary.BigEndian.AppendUint16(nil, uint16(len(query)))) + string(query)
	silent := map[string]net.Conn{}
	for _, sent := range []string{"", "\x00", "\xff\xff", framed[:9], "\x00\x00", "\xff\xff" + strings.Repeat("x", 1000)} {
		silent[sent] = dial(t, s, "tcp")
		io.WriteString(silent[sent], sent)
	}
	answered := func() error {
		c := dial(t, s, "tcp")
		io.WriteString(c, strings.Repeat(framed, 10))
		for range 10 {
			var n uint16
			if err := binary.Read(c, binary.BigEndian, &n); err != nil {
				return err
			}
			if _, err := io.CopyN(io.Discard, c, int64(n)); err != nil {
				return err
			}
		}
		return nil
	}
	for end := time.Now().Add(patience); ; { // on a machine that pauses, this one has sent nothing for too long itself
		err := answered()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	for sent, c := range silent {
		if n, err := c.Read(make([]byte, 1)); err != io.EOF && n == 0 && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q: %v", sent, err)
		}
	}
}

// One address gets so many connections, and gets them again when it has closed some.
func TestConnections(t *testing.T) {
	s := serve(t, Config{Source: newWorld()})
	answered := func(c net.Conn) bool {
		query := ask(t, "coord.", dns.TypeSOA)
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...))
		_, err := c.Read(make([]byte, 512))
		return err == nil
	}
	var open []net.Conn
	for range maxConnsPerIP {
		open = append(open, dial(t, s, "tcp"))
	}
	if !answered(open[maxConnsPerIP-1]) {
		t.Fatal("the last of them isn't answered")
	}
	if answered(dial(t, s, "tcp")) {
		t.Error("one too many is answered")
	}
	for _, c := range open {
		c.Close()
	}
	for end := time.Now().Add(patience); !answered(dial(t, s, "tcp")); {
		if time.Now().After(end) {
			t.Fatal("after they were closed none is answered")
		}
	}
}

// A query that can't be answered at once, because so many are, is dropped if it came over UDP.
func TestFull(t *testing.T) {
	s, err := Listen("127.0.0.1:0", Config{Source: newWorld()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range maxQueries {
		if !s.enter(true) {
			t.Fatalf("only %d at once", i)
		}
	}
	if s.enter(true) {
		t.Error("one more than the most")
	}
	<-s.room
	if !s.enter(false) {
		t.Error("there is room")
	}
}

// A port that is taken is an error that says so.
func TestTaken(t *testing.T) {
	s, err := Listen("127.0.0.1:0", Config{Source: newWorld()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Listen(s.Addr().String(), Config{Source: newWorld()}); err == nil {
		t.Error("two listen at one address")
	}
}

// FuzzQuery: whatever is asked, the answer can be sent, is no longer than what its way takes, is an answer to that
// question, and has no record of another service's.
func FuzzQuery(f *testing.F) {
	w := newWorld()
	w.many(f, 100)
	for i, address := range []string{"10.0.0.1", "::1", "fe80::1%eth0", "host.example.", "a..b", `\`, "_", strings.Repeat("x.", 126)} {
		w.register(f, registry.Instance{
			Service: "web", ID: fmt.Sprint(i), Address: address, Port: 80, Tags: []string{"v1", "a.b", `\000`},
		})
	}
	s, err := Listen("127.0.0.1:0", Config{Source: w})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	for _, name := range []string{
		"web.service.coord.", `a\.b.web.service.coord.`, `\\000.web.service.coord.`, "_web._tcp.service.coord.", "big.service.coord.",
		"0a000001.addr.coord.", "coord.", "ns.coord.", ".",
	} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeANY, dns.TypeAXFR, dns.TypeNS} {
			f.Add(ask(f, name, kind), true)
		}
		f.Add(ask(f, name, dns.TypeSRV, func(m *dns.Msg) { m.SetEdns0(4096, true) }), false)
	}
	for _, packets := range hostile(f) {
		for _, p := range packets {
			f.Add([]byte(p), true)
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte, udp bool) {
		req := new(dns.Msg)
		if req.Unpack(packet) != nil || req.Response || len(req.Question) > 1 {
			return // the library and accept let nothing of that pass
		}
		m := s.answer(t.Context(), req, s.Addr())
		fit(m, req, udp)
		wire, err := m.Pack()
		limit := dns.MaxMsgSize
		if udp {
			limit = maxUDP
			if req.IsEdns0() == nil {
				limit = dns.MinMsgSize
			}
		}
		if err != nil || len(wire) > limit {
			t.Fatalf("%s\nis answered by %d bytes, %v:\n%s", req, len(wire), err, m)
		}
		back := new(dns.Msg)
		if err := back.Unpack(wire); err != nil || back.Id != req.Id || !back.Response || results[back.Rcode] == "" {
			t.Fatalf("%s\nis answered by %v:\n%s", req, err, back)
		}
		for _, r := range back.Answer {
			if r.Header().Name != back.Question[0].Name {
				t.Fatalf("%s\nis answered by\n%s", req, back)
			}
		}
	})
}
