package coordprom_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordprom"
	"github.com/coord-kv/coord/coord/internal/bubble"
)

// TestMetrics: requests are counted by what came of them, connections by what they are, and the names are good ones.
func TestMetrics(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		ctx, s := w.Context(), w.Session()
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(coordprom.New(w.Client))
		if _, err := s.Create(ctx, "/a", nil, coord.Ephemeral()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Client.Get(ctx, "/b"); !errors.Is(err, coord.ErrNoNode) {
			t.Fatal(err)
		}
		if _, err := w.Client.Get(ctx, "/a"); err != nil {
			t.Fatal(err)
		}
		want := `
# HELP coord_client_connections Connections to members, one for the client and one for each session.
# TYPE coord_client_connections gauge
coord_client_connections 2
# HELP coord_client_connections_made_total Connections that were made.
# TYPE coord_client_connections_made_total counter
coord_client_connections_made_total 2
# HELP coord_client_requests_total Requests that are over, by operation and outcome.
# TYPE coord_client_requests_total counter
coord_client_requests_total{op="create",outcome="done"} 1
coord_client_requests_total{op="get",outcome="decided"} 1
coord_client_requests_total{op="get",outcome="done"} 1
# HELP coord_client_sessions Open sessions by phase.
# TYPE coord_client_sessions gauge
coord_client_sessions{phase="connected"} 1
coord_client_sessions{phase="suspended"} 0
`
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "coord_client_connections",
			"coord_client_connections_made_total", "coord_client_requests_total", "coord_client_sessions"); err != nil {
			t.Error(err)
		}
		problems, err := testutil.GatherAndLint(registry)
		if err != nil || len(problems) > 0 {
			t.Error(problems, err)
		}
		if err := s.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if st := w.Client.Stats(); st.Connected != 1 || st.Sessions[coord.Connected] != 0 || st.Waiting != 0 {
			t.Errorf("after the session: %+v", st)
		}
	})
}
