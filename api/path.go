package api

import (
	"net/url"
	"strings"

	"github.com/coord-kv/coord/op"
)

// nodePath returns the node that the rest of an escaped URL path names: what stands behind /v1/nodes. Nothing and "/"
// name the root.
//
// It works on the path as it was sent, not on the decoded one, because "/a%2Fb" and "/a/b" look the same after decoding,
// and because net/http's ServeMux answers "/a//b" and "/a/../b" with a redirect to another node, where curl -L would
// repeat a PUT. A path that is not in canonical form is refused, never cleaned.
func nodePath(escaped string) (string, error) {
	if escaped == "" || escaped == op.Root {
		return op.Root, nil
	}
	if len(escaped) > 3*op.MaxPathBytes {
		return "", op.Errorf(op.BadPath, "the path is longer than %d bytes", op.MaxPathBytes)
	}
	if !strings.Contains(escaped, "%") {
		return escaped, op.CheckPath(escaped)
	}
	var b strings.Builder
	for seg := range strings.SplitSeq(escaped[1:], "/") {
		name, err := pathSegment(seg)
		if err != nil {
			return "", err
		}
		b.WriteByte('/')
		b.WriteString(name)
	}
	return b.String(), op.CheckPath(b.String())
}

// pathSegment decodes one segment of a URL path.
func pathSegment(seg string) (string, error) {
	if !strings.Contains(seg, "%") {
		return seg, nil
	}
	name, err := url.PathUnescape(seg)
	if err != nil {
		return "", op.Errorf(op.BadPath, "the path has %s, which is not a percent-encoding", err.(url.EscapeError))
	}
	if strings.Contains(name, "/") {
		return "", op.Errorf(op.BadPath, "a name can't contain a slash, which %%2F stands for")
	}
	return name, nil
}

// sentPath returns the path of a request as it was sent. URL.EscapedPath would encode the decoded path anew if the one
// sent has a character that it would have escaped, and so lose a %2F beside it.
func sentPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// nodeURL returns the URL path of a resource of the node at path.
func nodeURL(resource, path string) string {
	if path == op.Root {
		return resource + "/"
	}
	return resource + (&url.URL{Path: path}).EscapedPath()
}

// recipeDir returns the directory that a lock or election name stands for: "nightly" is base + "/nightly", and a name that
// begins with a slash is a path as it is.
func recipeDir(base, name string) (string, error) {
	if !strings.HasPrefix(name, "/") {
		name = base + "/" + name
	}
	return name, op.CheckPath(name)
}

// Where the recipes keep their directories, unless a name is a path.
const (
	locksDir     = "/locks"
	electionsDir = "/elections"
)
