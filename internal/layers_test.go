package internal_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/coord-kv/coord/"

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
	Standard   bool
}

// name is the path within the module; another module's stays whole.
func name(path string) string { return strings.TrimPrefix(path, module) }

// packages lists the module's packages and all that they depend on.
func packages(t *testing.T) map[string]pkg {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,Imports,Deps,Standard", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[name(p.ImportPath)] = p
	}
}

// within reports whether a package is one of those named, or below one of them.
func within(path string, names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return path == n || strings.HasPrefix(path, n+"/") })
}

// What decides: the same input must give the same state on every member, and in a simulation.
var core = []string{"op", "op/wire", "fsm", "fsm/tree", "session"}

// TestCoreDependsOnNothing: what decides sees the standard library and what is further in, no clock, no file, no network
// and no randomness, but for the seed of a hash whose order nobody sees.
func TestCoreDependsOnNothing(t *testing.T) {
	inward := map[string][]string{
		"op/wire": {}, "fsm/tree": {},
		"op":      {"op/wire"},
		"fsm":     {"fsm/tree", "op", "op/wire"},
		"session": {"op", "op/wire"},
	}
	world := []string{"net", "os", "log", "syscall", "math/rand", "crypto/rand", "io/fs", "io/ioutil", "path/filepath", "runtime"}
	all := packages(t)
	for _, each := range core {
		p, ok := all[each]
		if !ok {
			t.Fatalf("there is no package %s", each)
		}
		for _, dep := range p.Deps {
			if d := name(dep); !all[d].Standard && !slices.Contains(inward[each], d) {
				t.Errorf("%s depends on %s", each, d)
			}
		}
		for _, dep := range p.Imports { // fmt itself needs os: what counts is who asks for it
			if within(dep, world...) && dep != "net/netip" {
				t.Errorf("%s imports %s", each, dep)
			}
		}
	}
}

// TestCoreHasNoClock: time is an input to what decides, and it starts nothing.
func TestCoreHasNoClock(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Local", "LoadLocation"}
	all := packages(t)
	for _, each := range core {
		p := all[each]
		for _, file := range p.GoFiles {
			f := parse(t, filepath.Join(p.Dir, file))
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s/%s starts a goroutine", each, file)
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
						t.Errorf("%s/%s uses time.%s", each, file, n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestLayers: each part knows only those further in. A door knows views and streams and nothing of consensus; storage and
// streams between members know nothing of the state; the checkers judge by a model of their own.
func TestLayers(t *testing.T) {
	const raft, bbolt = "go.etcd.io/raft/v3", "go.etcd.io/bbolt"
	consensus := []string{
		raft, bbolt, "internal/replica", "internal/storage", "internal/peer", "internal/member", "internal/vfs", "internal/sim",
	}
	forbidden := map[string][]string{
		"watch":            append(slices.Clone(consensus), "fsm", "session", "api", "coord", "net", "log"),
		"api":              append(slices.Clone(consensus), "cmd"),
		"coord":            append(slices.Clone(consensus), "cmd", "api", "session"),
		"internal/dns":     append(slices.Clone(consensus), "cmd", "api", "coord", "session", "github.com/prometheus"),
		"internal/replica": {bbolt, "internal/storage", "internal/peer", "internal/member", "internal/vfs", "api", "coord", "net"},
		"internal/storage": {"op", "fsm", "session", "watch", "internal/replica", "internal/peer", "internal/member", "api", "coord", "net"},
		"internal/peer":    {raft, bbolt, "op", "fsm", "session", "watch", "internal/replica", "internal/storage", "internal/member", "api", "coord"},
		"internal/vfs":     {"op", "fsm", "internal/storage", "internal/replica", "net"},
		"internal/check":   append(slices.Clone(consensus), "fsm", "session", "watch", "api", "coord"),
		"internal/member":  {"api", "coord", "cmd", "internal/sim"},
	}
	all := packages(t)
	for each, not := range forbidden {
		p, ok := all[each]
		if !ok {
			t.Fatalf("there is no package %s", each)
		}
		for _, dep := range p.Deps {
			if d := name(dep); within(d, not...) && d != "net/netip" {
				t.Errorf("%s depends on %s", each, d)
			}
		}
	}
}

// TestOneHome: each of the libraries that a member stands on is known to few.
func TestOneHome(t *testing.T) {
	home := map[string][]string{
		"go.etcd.io/bbolt":     {"internal/storage"},
		"github.com/miekg/dns": {"internal/dns"},
		"go.etcd.io/raft/v3":   {"internal/replica", "internal/storage", "internal/member", "internal/sim"},
	}
	for each, p := range packages(t) {
		if !strings.HasPrefix(p.ImportPath, module) {
			continue
		}
		for _, dep := range p.Imports {
			for library, known := range home {
				if within(dep, library) && !slices.Contains(known, each) {
					t.Errorf("%s imports %s", each, dep)
				}
			}
		}
	}
}
