package sim

import (
	"bytes"
	"flag"
	"io"
	"os"
	"testing"
	"testing/cryptotest"
)

var (
	seeds     = flag.Int("seeds", 20, "how many seeds TestSeeds plays")
	firstSeed = flag.Uint64("first-seed", 1, "the first of them")
	oneSeed   = flag.Uint64("seed", 0, "play this seed alone, with its trace on standard output")
)

func play(t *testing.T, seed uint64, out io.Writer) Report {
	cryptotest.SetGlobalRandom(t, seed)
	return Run(NewProfile(seed), out)
}

// TestSeeds plays seeds and expects every promise to hold in each, and everything that is worth testing to have
// happened in some of a hundred.
func TestSeeds(t *testing.T) {
	if *oneSeed != 0 {
		if r := play(t, *oneSeed, os.Stdout); r.Failed != nil {
			t.Fatalf("seed %d: %v", *oneSeed, r.Failed)
		}
		return
	}
	var sum Counters
	for seed := *firstSeed; seed < *firstSeed+uint64(*seeds); seed++ {
		r := play(t, seed, nil)
		sum.Add(r.Count)
		if r.Failed != nil {
			t.Errorf("seed %d, %d members: %v\nreplay: go test ./internal/sim -run TestSeeds -seed %d", seed, r.Profile.Members, r.Failed, seed)
		}
	}
	t.Logf("%d seeds: %v", *seeds, sum)
	if never := sum.Never(); len(never) > 0 && *seeds >= 100 {
		t.Errorf("counters %v of %+v are 0: the seeds don't test what they are for", never, sum)
	}
}

// TestReplay plays a seed twice: the traces are the same, byte for byte. Another seed's is another.
func TestReplay(t *testing.T) {
	var first, second bytes.Buffer
	a, b := play(t, 7, &first), play(t, 7, &second)
	if a.Trace != b.Trace || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("two runs of one seed differ: %s", difference(first.Bytes(), second.Bytes()))
	}
	if c := play(t, 8, nil); c.Trace == a.Trace {
		t.Error("another seed gave the same trace")
	}
}

func difference(a, b []byte) string {
	la, lb := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(la), len(lb)) {
		if !bytes.Equal(la[i], lb[i]) {
			return string(la[i]) + "\n" + string(lb[i])
		}
	}
	return "one is longer"
}
