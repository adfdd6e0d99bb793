package config_test

import (
	"testing"

	"github.com/coord-kv/coord/coord/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m) }
