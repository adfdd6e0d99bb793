package api

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const wsDocs = "../docs/websocket.md"

// TestWebSocketDocs has the conversations of docs/websocket.md, each on a connection of its own: what → says is sent, and
// what comes must be what ← shows; "…" matches anything. Lines behind "$ " are run as those of docs/api.md.
func TestWebSocketDocs(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.Bookmark = time.Hour })
	w := &wsScenario{fixture: f}
	said := 0
	for _, block := range blocksOf(t, "json") {
		ws := f.dial(wsJSON)
		for i, lines := 0, strings.Split(block, "\n"); i < len(lines); i++ {
			switch line := lines[i]; {
			case strings.HasPrefix(line, "→ "):
				line = strings.NewReplacer("$SECRET", w.secret, "$SESSION", w.session).Replace(line)
				if err := ws.WriteMessage(websocket.TextMessage, []byte(strings.TrimPrefix(line, "→ "))); err != nil {
					t.Fatal(err)
				}
			case strings.HasPrefix(line, "← "):
				ws.SetReadDeadline(time.Now().Add(wsPatience))
				_, p, err := ws.ReadMessage()
				if err != nil {
					t.Fatalf("%v instead of %s", err, line)
				}
				if !pattern(strings.TrimPrefix(line, "← ")).Match(p) {
					t.Errorf("got  %s\nwant %s", p, strings.TrimPrefix(line, "← "))
				}
				w.mask(string(p)) // notes secret and session
				said++
			case strings.HasPrefix(line, "$ "):
				i++
				(&shell{f: f, vars: map[string]string{}}).run(t, strings.TrimPrefix(line, "$ "), lines[i])
			}
		}
	}
	if said < 30 {
		t.Errorf("only %d answers were found", said)
	}
}

// blocksOf returns the fenced blocks of docs/websocket.md in that language.
func blocksOf(t *testing.T, language string) (all []string) {
	page, err := os.ReadFile(wsDocs)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(page), "```"+language+"\n")[1:] {
		block, _, _ = strings.Cut(block, "\n```")
		all = append(all, block)
	}
	return all
}

// TestWebSocketDocsBrowser runs the page's script, with Node's WebSocket for that of a browser.
func TestWebSocketDocsBrowser(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node here, so the script of docs/websocket.md is not run")
	}
	if !hasWebSocket(node) {
		t.Skip("this node has no WebSocket, so the script of docs/websocket.md is not run")
	}
	f := newFixture(t)
	script := strings.ReplaceAll(blocksOf(t, "js")[0], "localhost:7070", f.addr)
	file := filepath.Join(t.TempDir(), "page.js")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, node, "--no-warnings", "--experimental-websocket", file).CombinedOutput()
	if want := blocksOf(t, "text")[0]; err != nil || !pattern(want).MatchString(strings.TrimSpace(string(out))) {
		t.Errorf("%v\n got %s\nwant %s", err, out, want)
	}
}

// hasWebSocket reports whether scripts of this node can make WebSocket connections.
func hasWebSocket(node string) bool {
	out, err := exec.Command(node, "--no-warnings", "--experimental-websocket", "-p", "typeof WebSocket").Output()
	return err == nil && strings.TrimSpace(string(out)) == "function"
}

// TestWebSocketDocsOps: the page's table has every operation of the JSON form that is not one of a transaction.
func TestWebSocketDocsOps(t *testing.T) {
	page, err := os.ReadFile(wsDocs)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{
		"hello", "ping", "bye", "get", "list", "create", "set", "delete", "txn", "set_timeout", "watch", "await", "unwatch", "lock", "unlock",
		"campaign", "resign", "register", "deregister",
	} {
		message, _ := json.Marshal(map[string]any{"id": 1, "op": verb})
		if _, err := new(jsonCodec).next(&wsInput{message: message}); err != nil && strings.Contains(err.Error(), "there is no operation") {
			t.Errorf("%s: %v", verb, err)
		}
		if !strings.Contains(string(page), `"op":"`+verb+`"`) {
			t.Errorf("the page has no example of %s", verb)
		}
	}
}
