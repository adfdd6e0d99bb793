package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
)

const (
	ttl          = 1    // seconds that an answer may be remembered, a negative one too
	maxUDP       = 1232 // bytes of an answer over UDP: what passes everywhere without fragments
	maxInstances = 500  // of a service in one answer: over TCP they fit into its 64 KiB
)

// answer answers a query that came to the address at.
func (s *Server) answer(ctx context.Context, req *dns.Msg, at net.Addr) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(req)
	if len(req.Question) != 1 { // the library lets a header pass that announces a question, and nothing behind it
		m.Rcode = dns.RcodeFormatError
		return m
	}
	if opt := req.IsEdns0(); opt != nil {
		m.SetEdns0(maxUDP, opt.Do())
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
			return m
		}
	}
	q := req.Question[0]
	what, ours := subjectOf(q.Name)
	if !ours || q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY || q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		m.Rcode = dns.RcodeRefused
		return m
	}
	m.Authoritative = true
	a := answering{s: s, m: m, q: q, at: at}
	if err := a.about(ctx, what); err != nil {
		m.Authoritative, m.Answer, m.Extra = false, nil, nil
		m.Rcode = dns.RcodeServerFailure
		if errors.Is(err, &op.Error{Code: op.Denied}) {
			m.Rcode = dns.RcodeRefused
		}
		return m
	}
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, soa(zone))
	}
	return m
}

// answering is the answer to one question.
type answering struct {
	s  *Server
	m  *dns.Msg
	q  dns.Question
	at net.Addr
}

func (a *answering) about(ctx context.Context, what subject) error {
	switch what.kind {
	case unknown:
		a.m.Rcode = dns.RcodeNameError
	case apex:
		a.add(dns.TypeSOA, func(string) dns.RR { return soa(a.q.Name) })
		a.add(dns.TypeNS, func(n string) dns.RR { return &dns.NS{Hdr: header(n, dns.TypeNS), Ns: nameServer} })
	case server:
		if at, err := netip.ParseAddrPort(a.at.String()); err == nil && !at.Addr().IsUnspecified() {
			a.host(at.Addr())
		}
	case host:
		a.host(what.addr)
	case service, serviceSRV:
		return a.service(ctx, what)
	}
	a.minimal(what.kind)
	return nil
}

// add adds a record if it is of the type asked for.
func (a *answering) add(t uint16, record func(name string) dns.RR) {
	if a.q.Qtype == t {
		a.m.Answer = append(a.m.Answer, record(a.q.Name))
	}
}

// minimal answers who asks for everything as RFC 8482 has it: with something small.
func (a *answering) minimal(k kind) {
	if a.q.Qtype == dns.TypeANY && k != unknown && k != between {
		h := &dns.HINFO{Hdr: header(a.q.Name, dns.TypeHINFO), Cpu: "RFC8482"}
		a.m.Answer = append(a.m.Answer, h)
	}
}

func (a *answering) host(addr netip.Addr) {
	addr = addr.Unmap()
	if rr := addressRecord(a.q.Name, addr); rr.Header().Rrtype == a.q.Qtype {
		a.m.Answer = append(a.m.Answer, rr)
	}
}

// service answers with the instances of a service that are passing.
func (a *answering) service(ctx context.Context, what subject) error {
	state, _, err := a.s.cfg.Source.View(ctx, op.ReadOptions{Level: op.Eventual})
	if err != nil {
		return err
	}
	list, _, err := registry.New(conn{state: state}).Resolve(ctx, what.service, registry.Query{}, op.ReadOptions{})
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(x registry.Instance) bool { return what.tag != "" && !tagged(x, what.tag) })
	if len(list) == 0 {
		a.m.Rcode = dns.RcodeNameError
		return nil
	}
	a.minimal(what.kind)
	list = slices.DeleteFunc(list, func(x registry.Instance) bool { return x.Status != registry.Passing })
	a.s.shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	list = list[:min(len(list), maxInstances)]
	for _, x := range list {
		addr, err := netip.ParseAddr(x.Address)
		switch {
		case a.q.Qtype == dns.TypeSRV:
			a.srv(x, addr)
		case err == nil && what.kind == service:
			a.host(addr)
		}
	}
	a.m.Answer, a.m.Extra = distinct(a.m.Answer), distinct(a.m.Extra)
	return nil
}

// tagged compares as names are compared in DNS: without regard to case.
func tagged(x registry.Instance, tag string) bool {
	return slices.ContainsFunc(x.Tags, func(t string) bool { return strings.EqualFold(t, tag) })
}

// srv adds a record for the instance, and the address that goes with it. What can't be the name of a host is left out.
func (a *answering) srv(x registry.Instance, addr netip.Addr) {
	addr = addr.Unmap()
	rr := &dns.SRV{Hdr: header(a.q.Name, dns.TypeSRV), Weight: 1, Port: x.Port}
	if addr.IsValid() {
		rr.Target = hostName(addr.WithZone(""))
		a.m.Extra = append(a.m.Extra, addressRecord(rr.Target, addr))
	} else if rr.Target = dns.Fqdn(x.Address); !isHost(rr.Target) {
		return
	}
	a.m.Answer = append(a.m.Answer, rr)
}

func isHost(name string) bool {
	_, ok := dns.IsDomainName(name)
	return ok && !strings.ContainsRune(name, '\\')
}

// distinct leaves records out that are there already: instances may share an address.
func distinct(list []dns.RR) []dns.RR {
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(r dns.RR) bool {
		if r.Header().Rrtype == dns.TypeOPT {
			return false
		}
		text := r.String()
		was := seen[text]
		seen[text] = true
		return was
	})
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

func addressRecord(name string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: a.AsSlice()}
}

// soa is what a zone has to have. Nobody fetches this one whole, so its number and its times say nothing but how long a
// negative answer counts.
func soa(name string) dns.RR {
	return &dns.SOA{
		Hdr: header(name, dns.TypeSOA), Ns: nameServer, Mbox: "hostmaster." + zone,
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86_400, Minttl: ttl,
	}
}

// fit cuts an answer down to what its way takes, and says so in it, unless it is addresses alone that are left out.
func fit(m *dns.Msg, req *dns.Msg, udp bool) {
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
		if opt := req.IsEdns0(); opt != nil {
			size = min(max(int(opt.UDPSize()), size), maxUDP)
		}
	}
	m.Compress = true
	all := len(m.Answer)
	m.Truncate(size)
	m.Truncated = len(m.Answer) < all
}

// conn reads one state, as nobody in particular.
type conn struct {
	recipe.Conn // of which nothing else is used
	state       *fsm.View
}

func (c conn) Read(_ context.Context, o op.Op, _ op.ReadOptions) (*op.Result, error) {
	res := c.state.Read(o, nil)
	if res.Err != nil {
		return nil, res.Err
	}
	return &res, nil
}
