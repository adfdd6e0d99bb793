package config_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
)

// TestMain starts the cluster that the examples find through COORD_ENDPOINTS.
func TestMain(m *testing.M) {
	tb := &mainTB{}
	cluster := coordtest.Start(tb, 1)
	os.Setenv(coord.EnvEndpoints, cluster.Endpoints()[0])
	code := m.Run()
	for _, f := range tb.cleanups {
		f()
	}
	os.Exit(code)
}

// mainTB is as much of a testing.TB as a cluster needs outside of a test.
type mainTB struct {
	testing.TB
	cleanups []func()
}

func (*mainTB) Helper()             {}
func (tb *mainTB) Cleanup(f func()) { tb.cleanups = append(tb.cleanups, f) }
func (*mainTB) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}
func (tb *mainTB) Fatalf(format string, args ...any) { tb.Errorf(format, args...) }
