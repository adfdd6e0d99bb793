package op

import (
	"strings"
	"unicode/utf8"
)

// Root is the path of the node that always exists.
const Root = "/"

// CheckPath returns nil if p is a path that a node may have, else a bad_path error that says why not. The rules are
// ZooKeeper's (common/PathUtils.java): absolute, no trailing slash, no empty, "." or ".." segment, valid UTF-8 without
// control characters, surrogates, private use or specials; characters beyond the basic plane are refused too, as they
// are by ZooKeeper, whose strings hold them as surrogates.
func CheckPath(p string) error {
	if why := badPath(p); why != "" {
		return &Error{Code: BadPath, Path: p, Detail: why}
	}
	return nil
}

func badPath(p string) string {
	if p == Root {
		return ""
	}
	if p == "" || p[0] != '/' {
		return "a path begins with /"
	}
	if len(p) > MaxPathBytes {
		return "the path is longer than 8192 bytes"
	}
	depth := 0
	for seg := range strings.SplitSeq(p[1:], "/") {
		if depth++; depth > MaxDepth {
			return "the path has more than 256 segments"
		}
		if why := badSegment(seg); why != "" {
			return why
		}
	}
	return ""
}

func badSegment(seg string) string {
	switch seg {
	case "":
		return "the path has an empty segment (// or a trailing /)"
	case ".", "..":
		return "the path has a relative segment (. or ..)"
	}
	for i, c := range seg {
		if c == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(seg[i:]); n == 1 {
				return "the path is not valid UTF-8"
			}
		}
		if !pathRune(c) {
			return "the path has a character that is not allowed (control, private use, special, or beyond U+FFFF)"
		}
	}
	return ""
}

func pathRune(c rune) bool {
	switch {
	case c <= 0x1f, c >= 0x7f && c <= 0x9f, c >= 0xd800 && c <= 0xf8ff, c >= 0xfff0:
		return false
	}
	return true
}

// Parent returns the path of p's parent; the root's is "". The path must be valid.
func Parent(p string) string {
	if p == Root {
		return ""
	}
	if i := strings.LastIndexByte(p, '/'); i > 0 {
		return p[:i]
	}
	return Root
}

// Base returns the last segment of p, "" for the root. The path must be valid.
func Base(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

// Join returns the path of the child called name of the node at dir.
func Join(dir, name string) string {
	if dir == Root {
		return "/" + name
	}
	return dir + "/" + name
}

// Within reports whether p is dir or lies below it. The paths must be valid.
func Within(p, dir string) bool {
	return dir == Root || strings.HasPrefix(p, dir) && (len(p) == len(dir) || p[len(dir)] == '/')
}

// Depth returns the number of segments of a valid path, 0 for the root.
func Depth(p string) int {
	if p == Root {
		return 0
	}
	return strings.Count(p, "/")
}
