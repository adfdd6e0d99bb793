package coord_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Who imports the client doesn't link the server: no consensus, no disk, and no module but one. Of the state machine it
// links what recipes know about the names in lock directories.
func TestLinksNoServer(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/coord-kv/coord/"
	allowed := map[string]bool{
		"coord": true, "coord/internal/dialing": true, "internal/frame": true, "internal/recipe": true, "op": true,
		"op/wire": true, "watch": true, "fsm": true, "fsm/tree": true,
	}
	for _, pkg := range strings.Fields(string(out)) {
		first, _, _ := strings.Cut(pkg, "/")
		name, ours := strings.CutPrefix(pkg, module)
		switch {
		case ours && allowed[name]:
		case strings.HasPrefix(pkg, "github.com/gorilla/websocket"):
		case strings.HasPrefix(pkg, "vendor/golang.org/"): // of the standard library
		case strings.Contains(first, "."):
			t.Errorf("the client links %s", pkg)
		}
	}
}
