package api

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// hostList is what a request may give as its Host besides loopback names.
type hostList struct {
	any   bool
	names map[string]bool
}

func newHostList(names []string) hostList {
	l := hostList{names: make(map[string]bool, len(names))}
	for _, name := range names {
		l.any = l.any || name == "*"
		l.names[canonicalHost(name)] = true
	}
	return l
}

// allows reports whether the request names this server: by a loopback name or address, by the address that its connection
// arrived at, or by a name that was configured. Anything else may be a page whose name was made to point here.
func (l hostList) allows(r *http.Request) bool {
	host := canonicalHost(hostOnly(r.Host))
	if l.any || host == "localhost" || strings.HasSuffix(host, ".localhost") || l.names[host] {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.IsLoopback() || ip == localAddr(r))
}

// localAddr returns the address that the request's connection arrived at.
func localAddr(r *http.Request) netip.Addr {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return addrOf(addr)
}

func addrOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// hostOnly cuts the port and the brackets of an IPv6 address off.
func hostOnly(host string) string {
	if !strings.Contains(host, ":") { // most often, and SplitHostPort would make an error of it
		return host
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

func canonicalHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// remoteIP returns the address of the request's sender, as the connection has it. What X-Forwarded-For says counts for
// nothing: anybody can write it.
func remoteIP(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return ipText(ap.Addr())
}

// ipText returns an address in the one form that access control lists know, "" for none.
func ipText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().WithZone("").String()
}
