package fsm

import (
	"slices"
	"testing"

	"github.com/coord-kv/coord/op"
)

// history is a list of batches that has been applied once, so that it is about what there is.
func history(seed uint64, steps int) (batches [][]byte, final *Machine) {
	g, m := newGenerator(seed), New()
	for range steps {
		g.look(m)
		b := g.batch(1 + g.IntN(5))
		batches = append(batches, b.Append(nil))
		m.Apply(b)
	}
	return batches, m
}

func decode(t testing.TB, p []byte) *op.Batch {
	t.Helper()
	b, err := op.DecodeBatch(slices.Clone(p))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever member applies a history, with hashes seeded otherwise each time, and whether it publishes views or not: it answers
// the same, and stands the same afterwards.
func TestMembersAgree(t *testing.T) {
	for seed := range uint64(20) {
		batches, _ := history(seed, 100)
		a, b := New(), New()
		for i, p := range batches {
			doneA := a.Apply(decode(t, p))
			doneB := b.Apply(decode(t, p))
			a.View()
			for j := range doneA.Results {
				if x, y := describe(doneA.Results[j]), describe(doneB.Results[j]); x != y {
					t.Fatalf("seed %d, batch %d: %s and %s", seed, i, x, y)
				}
			}
			if x, y := eventLines(doneA.Events), eventLines(doneB.Events); x != y {
				t.Fatalf("seed %d, batch %d: events\n%sand\n%s", seed, i, x, y)
			}
			if !slices.Equal(doneA.Sessions, doneB.Sessions) || a.Digest() != b.Digest() {
				t.Fatalf("seed %d, batch %d: %v and %v, %s and %s", seed, i, doneA.Sessions, doneB.Sessions, a.Digest(), b.Digest())
			}
		}
		if x, y := dump(&a.state), dump(&b.state); x != y {
			t.Fatalf("seed %d:\n%s\nand\n%s", seed, x, y)
		}
	}
}

// A member that starts from a checkpoint taken at any moment comes to where the others are.
func TestRestartAnywhere(t *testing.T) {
	for seed := range uint64(4) {
		batches, _ := history(seed, 60)
		var digests []Digest
		var files [][]byte
		m := New()
		for _, p := range batches {
			m.Apply(decode(t, p))
			digests = append(digests, m.Digest())
			files = append(files, checkpoint(t, m))
		}
		for i, file := range files {
			back, err := restore(file)
			if err != nil {
				t.Fatal(err)
			}
			for j := i + 1; j < len(batches); j++ {
				back.Apply(decode(t, batches[j]))
				if back.Digest() != digests[j] {
					t.Fatalf("seed %d: from %d on, other than the rest at %d", seed, i, j)
				}
			}
		}
	}
}

// How requests are put into batches changes nothing but the time that they are told.
func TestBatchingIsInvisible(t *testing.T) {
	for seed := range uint64(20) {
		batches, _ := history(seed, 60)
		whole, single := New(), New()
		for _, p := range batches {
			b := decode(t, p)
			whole.Apply(b)
			for i, r := range b.Requests {
				one := &op.Batch{Wall: b.Wall, Requests: []*op.Request{r}}
				if i == 0 {
					one.Age = b.Age
				}
				single.Apply(one)
			}
		}
		if whole.Digest() != single.Digest() {
			t.Fatalf("seed %d: %s and %s", seed, whole.Digest(), single.Digest())
		}
	}
}

// A View stays as it was whatever is applied afterwards.
func TestViewsStay(t *testing.T) {
	g, m := newGenerator(7), New()
	type kept struct {
		v    *View
		dump string
	}
	var views []kept
	for range 150 {
		g.look(m)
		m.Apply(g.batch(3))
		v := m.View()
		if m.View() != v {
			t.Fatal("a second View of the same state")
		}
		views = append(views, kept{v, dump(&v.state)})
	}
	for i, k := range views {
		if dump(&k.v.state) != k.dump {
			t.Fatalf("view %d has changed", i)
		}
	}
}

// Readers walk views, checkpoints among them, while the writer goes on. It is the race detector that fails here.
func TestReadersBesideTheWriter(t *testing.T) {
	g, m := newGenerator(8), New()
	views := make(chan *View)
	done := make(chan struct{})
	for range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			for v := range views {
				before := v.Digest()
				file := checkpoint(t, &Machine{state: v.state, view: v})
				back, err := restore(file)
				if err != nil || back.Digest() != before {
					t.Errorf("restored %v, digest %v, was %s", err, back, before)
				}
			}
		}()
	}
	for range 200 {
		g.look(m)
		m.Apply(g.batch(5))
		select {
		case views <- m.View():
		default:
		}
	}
	close(views)
	<-done
	<-done
}
