package dns

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/miekg/dns"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/recipe/lab"
	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
)

// world is a member whose services are registered by tests.
type world struct {
	*lab.World
	conn *lab.Conn

	mu  sync.Mutex // of what follows, and of the world
	err error      // of every read
}

func newWorld() *world {
	w := lab.New(1)
	return &world{World: w, conn: w.Open()}
}

func (w *world) View(context.Context, op.ReadOptions) (*fsm.View, op.ReadInfo, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.World.View(), op.ReadInfo{}, w.err
}

func (w *world) register(t testing.TB, x registry.Instance) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := registry.New(w.conn).Register(t.Context(), x, false); err != nil {
		t.Fatal(err)
	}
}

// many registers n instances of the service big.
func (w *world) many(t testing.TB, n int) {
	for i := range n {
		w.register(t, registry.Instance{
			Service: "big", ID: fmt.Sprint(i), Address: fmt.Sprintf("10.1.%d.%d", i/250, i%250), Port: 8080,
		})
	}
}

// inOrder leaves answers in the order of their ids.
func inOrder(int, func(i, j int)) {}

// serve runs a server until the test ends. It waits for clients as long as a slow machine may have them wait, unless the
// test says otherwise.
func serve(t testing.TB, cfg Config) *Server {
	t.Helper()
	cfg.patience = cmp.Or(cfg.patience, patience)
	s, err := Listen("127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestScenarios asks a server over the network:
//
//	register SERVICE ID ADDRESS PORT [tags=(A,B)] [status=S]
//	critical SERVICE ID         of what is registered
//	end                         ends the session of all that was registered
//	fail CODE                   has the member refuse to be read
//	ask NAME TYPE [tcp] [edns=BYTES] [version] [class=C]     version: of EDNS, one that doesn't exist
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := newWorld()
		s := serve(t, Config{Source: w, shuffle: inOrder})
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return w.command(t, s, d) })
	})
}

func (w *world) command(t *testing.T, s *Server, d *datadriven.TestData) string {
	arg := func(i int) string { return d.CmdArgs[i].Key }
	switch d.Cmd {
	case "register":
		port, _ := strconv.ParseUint(arg(3), 10, 16)
		x := registry.Instance{Service: arg(0), ID: arg(1), Address: arg(2), Port: uint16(port)}
		for _, a := range d.CmdArgs[4:] {
			switch a.Key {
			case "tags":
				x.Tags = a.Vals
			case "status":
				x.Status = registry.Status(a.Vals[0])
			}
		}
		w.register(t, x)
		return ""
	case "critical":
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, err := registry.New(w.conn).SetStatus(t.Context(), arg(0), arg(1), registry.Critical, "", false); err != nil {
			t.Fatal(err)
		}
		return ""
	case "end":
		w.mu.Lock()
		defer w.mu.Unlock()
		w.Expire(w.conn)
		return ""
	case "fail":
		w.mu.Lock()
		defer w.mu.Unlock()
		code, _ := op.CodeOf(arg(0))
		w.err = op.Errorf(code, "no")
		return ""
	case "ask":
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(arg(0)), dns.StringToType[arg(1)])
		network := "udp"
		for _, a := range d.CmdArgs[2:] {
			switch a.Key {
			case "tcp":
				network = "tcp"
			case "edns":
				n, _ := strconv.ParseUint(a.Vals[0], 10, 16)
				m.SetEdns0(uint16(n), false)
			case "version":
				m.IsEdns0().SetVersion(1)
			case "class":
				m.Question[0].Qclass = dns.StringToClass[a.Vals[0]]
			}
		}
		return show(exchange(t, s, network, m))
	}
	t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	return ""
}

func exchange(t testing.TB, s *Server, network string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, UDPSize: dns.MaxMsgSize, Timeout: patience}
	r, _, err := c.Exchange(m, s.Addr().String())
	if err != nil {
		t.Fatalf("%s %s: %v", network, m.Question[0].String(), err)
	}
	return r
}

// show writes an answer: what came of it and its flags, then its records by section.
func show(m *dns.Msg) string {
	out := results[m.Rcode]
	for name, on := range map[string]bool{" authoritative": m.Authoritative, " truncated": m.Truncated, " recursive": m.RecursionAvailable} {
		if on {
			out += name
		}
	}
	out += "\n"
	for _, section := range []struct {
		name string
		list []dns.RR
	}{{"", m.Answer}, {"authority ", m.Ns}, {"additional ", m.Extra}} {
		for _, r := range section.list {
			text := strings.ReplaceAll(strings.ReplaceAll(r.String(), "\t", " "), "\n", " ")
			out += section.name + strings.TrimSpace(text) + "\n"
		}
	}
	return out
}

// Of many instances some come over UDP, with the word that there are more, and all over TCP; of very many, 500.
func TestTruncated(t *testing.T) {
	w := newWorld()
	w.many(t, maxInstances+100)
	s := serve(t, Config{Source: w})
	for _, test := range []struct {
		network   string
		kind      uint16
		edns      uint16
		limit     int
		truncated bool
		records   int // 0: some
	}{
		{"udp", dns.TypeA, 0, 512, true, 0},
		{"udp", dns.TypeA, 100, 512, true, 0},
		{"udp", dns.TypeA, 65535, maxUDP, true, 0},
		{"udp", dns.TypeSRV, 1232, maxUDP, true, 0},
		{"tcp", dns.TypeA, 0, dns.MaxMsgSize, false, maxInstances},
		{"tcp", dns.TypeSRV, 512, dns.MaxMsgSize, false, maxInstances},
	} {
		m := new(dns.Msg)
		m.SetQuestion("big.service.coord.", test.kind)
		if test.edns > 0 {
			m.SetEdns0(test.edns, false)
		}
		r := exchange(t, s, test.network, m)
		r.Compress = true
		records := len(r.Answer)
		if r.Len() > test.limit || r.Truncated != test.truncated || records == 0 || test.records > 0 && records != test.records {
			t.Errorf("%+v: %d bytes, %d records, truncated %v", test, r.Len(), records, r.Truncated)
		}
		for _, rr := range r.Answer {
			if rr.Header().Rrtype != test.kind {
				t.Errorf("asked for %d: %s", test.kind, rr)
			}
		}
	}
}

// Addresses beside SRV records are left out before the records are, without the word that something is missing.
func TestExtraIsOptional(t *testing.T) {
	w := newWorld()
	w.many(t, 10)
	s := serve(t, Config{Source: w})
	m := new(dns.Msg)
	m.SetQuestion("big.service.coord.", dns.TypeSRV)
	if r := exchange(t, s, "udp", m); len(r.Answer) != 10 || len(r.Extra) == 10 || r.Truncated {
		t.Errorf("%d records, %d addresses, truncated %v", len(r.Answer), len(r.Extra), r.Truncated)
	}
}

// Instances take turns.
func TestShuffled(t *testing.T) {
	w := newWorld()
	w.many(t, 8)
	s := serve(t, Config{Source: w})
	first := map[string]bool{}
	for range 200 {
		m := new(dns.Msg)
		m.SetQuestion("big.service.coord.", dns.TypeA)
		first[exchange(t, s, "udp", m).Answer[0].String()] = true
	}
	if len(first) != 8 { // 8 * (7/8)^200 is one in 50 billion
		t.Errorf("200 answers began with %d of 8 instances", len(first))
	}
}

// Go's own resolver finds services.
func TestGoResolver(t *testing.T) {
	w := newWorld()
	w.many(t, 60) // more than fit into UDP
	w.register(t, registry.Instance{Service: "web", ID: "a", Address: "10.0.0.7", Port: 8080, Tags: []string{"Blue"}})
	w.register(t, registry.Instance{Service: "web", ID: "b", Address: "2001:db8::7", Port: 8081})
	s := serve(t, Config{Source: w})
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Addr().String())
	}}
	_, srv, err := r.LookupSRV(t.Context(), "web", "tcp", "service.coord")
	slices.SortFunc(srv, func(a, b *net.SRV) int { return int(a.Port) - int(b.Port) })
	if err != nil || len(srv) != 2 || srv[0].Port != 8080 || srv[0].Target != "0a000007.addr.coord." {
		t.Fatalf("%+v %v", srv, err)
	}
	for name, want := range map[string]string{
		srv[0].Target: "10.0.0.7", srv[1].Target: "2001:db8::7", "web.service.coord.": "10.0.0.7 2001:db8::7",
		"blue.web.service.coord.": "10.0.0.7",
	} {
		hosts, err := r.LookupHost(t.Context(), name)
		slices.Sort(hosts)
		if err != nil || strings.Join(hosts, " ") != want {
			t.Errorf("%s: %v %v, want %s", name, hosts, err, want)
		}
	}
	if hosts, err := r.LookupHost(t.Context(), "big.service.coord."); err != nil || len(hosts) != 60 {
		t.Errorf("%d hosts, %v", len(hosts), err)
	}
	if _, err := r.LookupHost(t.Context(), "nobody.service.coord."); err == nil || !err.(*net.DNSError).IsNotFound {
		t.Error(err)
	}
}

// What is observed is of closed sets, once for each query.
func TestObserved(t *testing.T) {
	seen := make(chan string, 10)
	s := serve(t, Config{Source: newWorld(), Observe: func(kind, result string) { seen <- kind + " " + result }})
	for _, q := range []struct {
		name string
		kind uint16
		want string
	}{
		{"web.service.coord.", dns.TypeA, "a nxdomain"},
		{"web.service.coord.", dns.TypeAAAA, "aaaa nxdomain"},
		{"web.service.coord.", dns.TypeSRV, "srv nxdomain"},
		{"coord.", dns.TypeSOA, "other noerror"},
		{"example.com.", dns.TypeTXT, "other refused"},
	} {
		m := new(dns.Msg)
		m.SetQuestion(q.name, q.kind)
		exchange(t, s, "tcp", m)
		if got := <-seen; got != q.want { // it is told behind the answer
			t.Errorf("%s: %s, not %s", q.name, got, q.want)
		}
	}
}
