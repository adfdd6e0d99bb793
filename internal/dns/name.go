package dns

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/coord-kv/coord/internal/registry"
)

// zone is what this server answers for, and nothing else.
const zone = "coord."

const (
	nameServer = "ns." + zone
	addrDomain = "addr." + zone
)

// kind is what a name of the zone stands for.
type kind int

const (
	unknown    kind = iota // there is no such name
	apex                   // the zone
	server                 // this server
	between                // nothing by itself, but others are below it
	service                // a service, or what of it has a tag
	serviceSRV             // a service by RFC 2782: it has SRV records alone
	host                   // an address
)

// subject is what a question is about.
type subject struct {
	kind    kind
	service string
	tag     string // "" for any
	addr    netip.Addr
}

// subjectOf reads a name, in whatever case, and reports whether it is one of the zone.
func subjectOf(name string) (subject, bool) {
	if !dns.IsSubDomain(zone, name) {
		return subject{}, false
	}
	labels := dns.SplitDomainName(strings.ToLower(name))
	labels = labels[:len(labels)-1]
	switch n := len(labels); {
	case n == 0:
		return subject{kind: apex}, true
	case n == 1 && labels[0] == "ns":
		return subject{kind: server}, true
	case n == 1 && (labels[0] == "service" || labels[0] == "addr"):
		return subject{kind: between}, true
	case n == 2 && labels[1] == "addr":
		return hostOf(labels[0]), true
	case n >= 2 && labels[n-1] == "service":
		return serviceOf(labels[:n-1]), true
	}
	return subject{}, true
}

// hostOf reads the name that hostName has given to an address.
func hostOf(label string) subject {
	b, err := hex.DecodeString(label)
	addr, ok := netip.AddrFromSlice(b)
	if err != nil || !ok {
		return subject{}
	}
	return subject{kind: host, addr: addr}
}

func hostName(a netip.Addr) string { return hex.EncodeToString(a.AsSlice()) + "." + addrDomain }

// serviceOf reads what stands before "service".
func serviceOf(labels []string) subject {
	s := subject{kind: service, service: labels[len(labels)-1]}
	if s.service == "_tcp" {
		if len(labels) == 1 {
			return subject{kind: between}
		}
		name, ok := strings.CutPrefix(labels[0], "_")
		if len(labels) != 2 || !ok {
			return subject{}
		}
		s.kind, s.service, labels = serviceSRV, name, labels[:1]
	}
	if len(labels) == 2 {
		s.tag = unescape(labels[0])
	}
	if len(labels) > 2 || registry.CheckName(s.service) != nil {
		return subject{}
	}
	return s
}

// unescape turns a label as the library writes it, \DDD or \X for what is special, into its bytes.
func unescape(label string) string {
	b := make([]byte, 0, len(label))
	for i := 0; i < len(label); i++ {
		if label[i] != '\\' || i+1 == len(label) {
			b = append(b, label[i])
			continue
		}
		if d := label[i+1:]; len(d) >= 3 && digits(d[:3]) {
			b = append(b, (d[0]-'0')*100+(d[1]-'0')*10+d[2]-'0')
			i += 3
			continue
		}
		i++
		b = append(b, label[i])
	}
	return string(b)
}

func digits(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}
