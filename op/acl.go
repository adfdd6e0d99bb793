package op

import (
	"net/netip"
	"slices"
	"strings"
)

// Permits reports whether the ACL grants perm to a caller with those identities. It is the one authorisation decision:
// the state machine asks it for every operation and every delivery of an event asks it for the node that changed. The
// super identity may do everything; an empty list is the same as OpenACL, as in ZooKeeper.
func Permits(acl []ACL, auth []Identity, perm Perm) bool {
	if len(acl) == 0 {
		return true
	}
	for _, a := range acl {
		if a.Perms&perm != 0 && matches(a, auth) {
			return true
		}
	}
	return slices.ContainsFunc(auth, func(id Identity) bool { return id.Scheme == "super" })
}

func matches(a ACL, auth []Identity) bool {
	switch a.Scheme {
	case "world":
		return a.ID == "anyone"
	case "ip":
		return slices.ContainsFunc(auth, func(id Identity) bool { return id.Scheme == "ip" && ipWithin(id.ID, a.ID) })
	}
	return slices.Contains(auth, Identity{a.Scheme, a.ID})
}

func ipWithin(addr, pattern string) bool {
	if !strings.Contains(pattern, "/") {
		return addr == pattern
	}
	ip, err := netip.ParseAddr(addr)
	prefix, err2 := netip.ParsePrefix(pattern)
	return err == nil && err2 == nil && prefix.Contains(ip.Unmap())
}

// ResolveACL returns the list that a node gets whose creator, with those identities, asks for acl: "auth" entries are
// replaced by one entry for each identity that was proven, and every entry is checked. It returns false if the list is
// empty, or an entry has no permission, an unknown scheme or a malformed id (ZooKeeper's fixupACL).
func ResolveACL(acl []ACL, auth []Identity) ([]ACL, bool) {
	if acl == nil {
		return OpenACL, true
	}
	var out []ACL
	for _, a := range acl {
		entries, ok := resolveEntry(a, auth)
		if !ok {
			return nil, false
		}
		for _, e := range entries {
			if !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	return out, len(out) > 0
}

func resolveEntry(a ACL, auth []Identity) ([]ACL, bool) {
	if a.Perms == 0 || a.Perms&^AllPerm != 0 {
		return nil, false
	}
	switch a.Scheme {
	case "world":
		return []ACL{a}, a.ID == "anyone"
	case "auth":
		return provenEntries(a.Perms, auth)
	case "digest":
		user, hash, ok := strings.Cut(a.ID, ":")
		return []ACL{a}, ok && user != "" && hash != "" && !strings.Contains(hash, ":")
	case "ip":
		return []ACL{a}, validIP(a.ID)
	case "x509":
		return []ACL{a}, a.ID != ""
	}
	return nil, false
}

func provenEntries(perms Perm, auth []Identity) ([]ACL, bool) {
	var out []ACL
	for _, id := range auth {
		if id.Scheme != "ip" && id.Scheme != "super" {
			out = append(out, ACL{perms, id.Scheme, id.ID})
		}
	}
	return out, len(out) > 0
}

func validIP(s string) bool {
	if _, err := netip.ParsePrefix(s); err == nil {
		return true
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}
