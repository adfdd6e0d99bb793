package tree

import (
	"cmp"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// checkTree fails unless the tree is one: ordered, counted, of one depth, its nodes within their limits. It returns the leaves' count.
func checkTree[K any, P page[K, P]](t *testing.T, root *node[K, P], compare func(a, b K) int) (leaves int) {
	t.Helper()
	if root == nil {
		return 0
	}
	if len(root.kids) == 1 {
		t.Fatal("the root has a single kid")
	}
	depth := -1
	var walk func(n *node[K, P], low, high *K, level int)
	walk = func(n *node[K, P], low, high *K, level int) {
		keys := slices.Collect(func(yield func(K) bool) { n.keys.each(0, yield) })
		for i, k := range keys {
			if i > 0 && compare(keys[i-1], k) >= 0 || low != nil && compare(k, *low) < 0 || high != nil && compare(k, *high) >= 0 {
				t.Fatalf("%v is out of order or of bounds", k)
			}
			if got := n.keys.at(i); compare(got, k) != 0 {
				t.Fatalf("at(%d) = %v, want %v", i, got, k)
			}
		}
		if n.kids == nil {
			if depth == -1 {
				depth = level
			}
			if n.n != len(keys) || n.n == 0 || level != depth {
				t.Fatalf("leaf at level %d of %d counts %d of %d keys", level, depth, n.n, len(keys))
			}
			leaves++
			return
		}
		if len(n.kids) != len(keys)+1 || len(n.kids) > maxKids {
			t.Fatalf("%d kids and %d bounds", len(n.kids), len(keys))
		}
		sum := 0
		for i, kid := range n.kids {
			l, h := low, high
			if i > 0 {
				l = &keys[i-1]
			}
			if i < len(keys) {
				h = &keys[i]
			}
			walk(kid, l, h, level+1)
			sum += kid.n
		}
		if sum != n.n {
			t.Fatalf("counts %d of %d keys", n.n, sum)
		}
	}
	walk(root, nil, nil, 0)
	return leaves
}

func checkNames(t *testing.T, s Names, want []string) {
	t.Helper()
	checkTree(t, s.root, strings.Compare)
	if s.Len() != len(want) {
		t.Fatalf("Len() = %d, want %d", s.Len(), len(want))
	}
	if got := slices.Collect(s.After("")); !slices.Equal(got, want) {
		t.Fatalf("After(\"\") yields %q, want %q", got, want)
	}
}

// follow compares an iteration with what is left of want, up to a few.
func follow[K comparable](t *testing.T, got iter.Seq[K], want []K) {
	t.Helper()
	i := 0
	for k := range got {
		if i == len(want) || k != want[i] {
			t.Fatalf("yields %v at %d, want %v", k, i, want[min(i, len(want)):])
		}
		if i++; i == 5 {
			return
		}
	}
	if i != len(want) {
		t.Fatalf("yields %d, want %d", i, len(want))
	}
}

// vocabularies of names, each with its own way to be difficult.
var vocabularies = map[string]func(*rand.Rand) string{
	"single bytes": func(r *rand.Rand) string { return string([]byte{byte(r.IntN(256))}) },
	"all bytes": func(r *rand.Rand) string {
		b := make([]byte, 1+r.IntN(4))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return string(b)
	},
	"sequence numbers": func(r *rand.Rand) string { return fmt.Sprintf("lock-%010d", r.IntN(3000)) },
	"prefixes of each other": func(r *rand.Rand) string {
		return strings.Repeat("a", 1+r.IntN(300)) + strings.Repeat("b", r.IntN(2))
	},
	"long with a shared prefix": func(r *rand.Rand) string { return strings.Repeat("p", 1100) + fmt.Sprint(r.IntN(800)) },
	"long": func(r *rand.Rand) string {
		return fmt.Sprint(r.IntN(800)) + strings.Repeat("s", 1500)
	},
	"all lengths": func(r *rand.Rand) string {
		n := []int{1, 2, 10, 126, 127, 128, 129, 239, 240, 241, 1024, 16_383, 16_384, 20_000}[r.IntN(14)]
		return strings.Repeat(string(rune('a'+r.IntN(26))), n)
	},
}

// TestNamesVersions runs random operations beside a sorted slice, keeps versions all along, and looks at all of them again.
func TestNamesVersions(t *testing.T) {
	for vocabulary, word := range vocabularies {
		t.Run(vocabulary, func(t *testing.T) {
			type version struct {
				names Names
				want  []string
			}
			e, rng := new(Epoch), rand.New(rand.NewPCG(3, 4))
			s, model, versions := Names{}, []string{}, []version{}
			const ops = 9_000
			for op := range ops {
				name := word(rng)
				i, had := slices.BinarySearch(model, name)
				if s.Has(name) != had {
					t.Fatalf("op %d: Has(%q) = %v", op, name, !had)
				}
				after := i
				if had {
					after++
				}
				if op%7 == 0 {
					follow(t, s.After(name), model[after:])
				}
				growing := op/(ops/6)%2 == 0
				var ok bool
				if rng.IntN(10) < 2 == growing {
					if s, ok = s.Delete(e, name); ok != had {
						t.Fatalf("op %d: Delete(%q) = %v", op, name, ok)
					}
					if had {
						model = slices.Delete(model, i, i+1)
					}
				} else {
					if s, ok = s.Insert(e, name); ok == had {
						t.Fatalf("op %d: Insert(%q) = %v", op, name, ok)
					}
					if !had {
						model = slices.Insert(model, i, name)
					}
				}
				if rng.IntN(20) == 0 {
					e.Bump()
					if rng.IntN(5) == 0 {
						versions = append(versions, version{s, slices.Clone(model)})
					}
				}
				if op%101 == 0 {
					checkNames(t, s, model)
				}
			}
			for _, v := range versions {
				checkNames(t, v.names, v.want)
			}
			for _, name := range model {
				s, _ = s.Delete(e, name)
			}
			if s != (Names{}) {
				t.Fatal("emptied, and not the zero value")
			}
		})
	}
}

// TestSetVersions does the same for Set, by every order statistic.
func TestSetVersions(t *testing.T) {
	type key struct{ seq, czxid int64 }
	order := func(a, b key) int { return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.czxid, b.czxid)) }
	type version struct {
		set  Set[key]
		want []key
	}
	check := func(s Set[key], want []key) {
		t.Helper()
		checkTree(t, s.root, order)
		if s.Len() != len(want) {
			t.Fatalf("Len() = %d, want %d", s.Len(), len(want))
		}
		for i, k := range want {
			if s.At(i) != k || s.Rank(k) != i || !s.Has(k) {
				t.Fatalf("At(%d) = %v, Rank(%v) = %d, Has = %v", i, s.At(i), k, s.Rank(k), s.Has(k))
			}
		}
		low, okLow := s.Min()
		high, okHigh := s.Max()
		if okLow != (len(want) > 0) || okHigh != okLow || okLow && (low != want[0] || high != want[len(want)-1]) {
			t.Fatalf("Min() = %v, %v, Max() = %v, %v", low, okLow, high, okHigh)
		}
	}
	e, rng := new(Epoch), rand.New(rand.NewPCG(5, 6))
	s, model, versions := NewSet(order), []key{}, []version{}
	check(s, nil)
	const ops = 30_000
	for op := range ops {
		k := key{rng.Int64N(2000), rng.Int64N(3)}
		i, had := slices.BinarySearchFunc(model, k, order)
		if s.Has(k) != had || s.Rank(k) != i {
			t.Fatalf("op %d: Has(%v) = %v, Rank = %d, want %d", op, k, !had, s.Rank(k), i)
		}
		if op%7 == 0 {
			follow(t, s.Ascend(k), model[i:])
		}
		growing := op/(ops/6)%2 == 0
		var ok bool
		if rng.IntN(10) < 2 == growing {
			if s, ok = s.Delete(e, k); ok != had {
				t.Fatalf("op %d: Delete(%v) = %v", op, k, ok)
			}
			if had {
				model = slices.Delete(model, i, i+1)
			}
		} else {
			if s, ok = s.Insert(e, k); ok == had {
				t.Fatalf("op %d: Insert(%v) = %v", op, k, ok)
			}
			if !had {
				model = slices.Insert(model, i, k)
			}
		}
		if rng.IntN(50) == 0 {
			e.Bump()
			if rng.IntN(10) == 0 {
				versions = append(versions, version{s, slices.Clone(model)})
			}
		}
		if op%501 == 0 {
			check(s, model)
		}
	}
	for _, v := range versions {
		check(v.set, v.want)
	}
	for _, k := range model {
		s, _ = s.Delete(e, k)
	}
	check(s, nil)
}

func TestSetPositionOutOfRange(t *testing.T) {
	s, _ := NewSet(cmp.Compare[int]).Insert(new(Epoch), 7)
	for _, i := range []int{-1, 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("At(%d) of one key didn't panic", i)
				}
			}()
			s.At(i)
		}()
	}
}

func TestEmptyNameIsRefused(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Insert of an empty name didn't panic")
		}
	}()
	Names{}.Insert(new(Epoch), "")
}

// TestEverySingleByte has all names of one byte in one set, and a name that begins with each.
func TestEverySingleByte(t *testing.T) {
	e, s, want := new(Epoch), Names{}, []string{}
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(256) {
		for _, name := range []string{string([]byte{byte(i)}), string([]byte{byte(i), 0})} {
			s, _ = s.Insert(e, name)
			want = append(want, name)
		}
	}
	slices.Sort(want)
	checkNames(t, s, want)
}

// manyNames returns a set of n names of eight digits, ascending, as a checkpoint would load them.
func manyNames(e *Epoch, n int) (s Names) {
	for i := range n {
		s, _ = s.Insert(e, fmt.Sprintf("%08d", i))
	}
	return s
}

// TestSpaceFollowsContent inserts 100,000 names in several orders and takes most away again: leaves must be as many as the names need.
func TestSpaceFollowsContent(t *testing.T) {
	const count, perLeaf = 100_000, leafBytes / 9
	rng := rand.New(rand.NewPCG(7, 8))
	for _, order := range []struct {
		name  string
		least int // percent of a leaf in use, on average
		at    func(i int) int
	}{
		{"ascending", 99, func(i int) int { return i }},
		{"descending", 49, func(i int) int { return count - 1 - i }},
		{"random", 60, func() func(int) int { p := rng.Perm(count); return func(i int) int { return p[i] } }()},
		// What descends between two keys that ascended, often behind a full leaf.
		{"gaps", 45, func() func(int) int {
			var p []int
			for i := 0; i < count; i += 1000 {
				p = append(p, i)
			}
			for i := count - 1; i > 0; i-- {
				if i%1000 != 0 {
					p = append(p, i)
				}
			}
			return func(i int) int { return p[i] }
		}()},
	} {
		t.Run(order.name, func(t *testing.T) {
			e, s := new(Epoch), Names{}
			for i := range count {
				s, _ = s.Insert(e, fmt.Sprintf("%08d", order.at(i)))
				if i%64 == 0 {
					e.Bump()
				}
			}
			full := s
			e.Bump()
			used := func(leaves, n int) int { return n * 100 / (leaves * perLeaf) }
			if got := used(checkTree(t, s.root, strings.Compare), s.Len()); got < order.least {
				t.Errorf("leaves are %d %% full", got)
			}
			for _, i := range rng.Perm(count)[:count*99/100] {
				s, _ = s.Delete(e, fmt.Sprintf("%08d", i))
			}
			if got := used(checkTree(t, s.root, strings.Compare), s.Len()); got < 30 {
				t.Errorf("after deletes leaves are %d %% full", got)
			}
			if full.Len() != count || s.Len() != count/100 {
				t.Errorf("%d and %d names", full.Len(), s.Len())
			}
			i := 0
			for name := range full.After("") {
				if name != fmt.Sprintf("%08d", i) {
					t.Fatalf("name %d of the old version is %q", i, name)
				}
				i++
			}
		})
	}
}

// TestLongBoundsAreFew has names so long that a node of 32 kids would be 32 KiB: it must have fewer.
func TestLongBoundsAreFew(t *testing.T) {
	e, s := new(Epoch), Names{}
	for _, i := range rand.New(rand.NewPCG(13, 14)).Perm(2000) {
		s, _ = s.Insert(e, strings.Repeat("x", 1020)+fmt.Sprintf("%04d", i))
	}
	checkTree(t, s.root, strings.Compare)
	var widest func(n *node[string, packed]) int
	widest = func(n *node[string, packed]) (most int) {
		most = len(n.kids)
		for _, kid := range n.kids {
			most = max(most, widest(kid))
		}
		return most
	}
	if got := widest(s.root); got > 3 {
		t.Errorf("a node with %d kids", got)
	}
}

// FuzzNames lets the fuzzer write the program: one byte for the operation, one for the length of a name, then the name.
func FuzzNames(f *testing.F) {
	f.Add([]byte("\x00\x01a\x00\x01b\x00\x02ab\x01\x01a\x02\x00\x00\xc8zz"))
	f.Add([]byte("\x00\xffaaa\x00\xffbbb\x00\xffccc\x02\x00\x01\xffbbb"))
	f.Add(slices.Repeat([]byte("\x00\x05hello\x00\x05hullo\x02\x00\x01\x05hello"), 9))
	f.Fuzz(func(t *testing.T, program []byte) {
		type version struct {
			names Names
			want  []string
		}
		e, s, model, versions := new(Epoch), Names{}, []string{}, []version{}
		for len(program) >= 3 && len(versions) < 50 {
			op, n := program[0]%3, int(program[1])
			name := string(program[2:min(2+max(n%8, 1), len(program))])
			program = program[2+min(max(n%8, 1), len(program)-2):]
			name += strings.Repeat(name[:1], n/8*n/8) // up to 1 KiB more
			i, had := slices.BinarySearch(model, name)
			var ok bool
			switch op {
			case 0:
				if s, ok = s.Insert(e, name); ok == had {
					t.Fatalf("Insert(%q) = %v", name, ok)
				}
				if !had {
					model = slices.Insert(model, i, name)
				}
			case 1:
				if s, ok = s.Delete(e, name); ok != had {
					t.Fatalf("Delete(%q) = %v", name, ok)
				}
				if had {
					model = slices.Delete(model, i, i+1)
				}
			case 2:
				e.Bump()
				versions = append(versions, version{s, slices.Clone(model)})
			}
		}
		checkNames(t, s, model)
		for _, v := range versions {
			checkNames(t, v.names, v.want)
		}
	})
}

// FuzzPacked edits one packed page beside a slice of strings. Every third byte is an operation, a position and the size of a string.
func FuzzPacked(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 1, 200, 0, 0, 127, 0, 2, 128, 1, 1, 0, 2, 1, 0})
	f.Add(slices.Repeat([]byte{0, 3, 255}, 20))
	f.Fuzz(func(t *testing.T, edits []byte) {
		var p packed
		var model []string
		for ; len(edits) >= 3; edits = edits[3:] {
			size := int(edits[2])
			if size > 250 {
				size *= 70 // a length of three bytes
			}
			at := int(edits[1])
			switch edits[0] % 3 {
			case 0: // insert where it belongs
				s := strings.Repeat(string(edits[1:2]), 1+size)
				i, ok := p.find(s)
				if want, had := slices.BinarySearch(model, s); i != want || ok != had {
					t.Fatalf("find(%q) = %d, %v, want %d, %v", s, i, ok, want, had)
				}
				if !ok {
					p, model = p.insert(i, s), slices.Insert(model, i, s)
				}
			case 1: // remove one
				if len(model) > 0 {
					i := at % len(model)
					p, model = p.remove(i), slices.Delete(model, i, i+1)
				}
			case 2: // cut in two, and join
				i := at % (len(model) + 1)
				l, r := p.cut(i)
				if got := slices.Collect(func(y func(string) bool) { l.each(0, y) }); !slices.Equal(got, model[:i]) {
					t.Fatalf("cut(%d) begins with %q", i, got)
				}
				if l.join(r) != p {
					t.Fatalf("cut(%d) and join differ", i)
				}
			}
			from := at % (len(model) + 1)
			if got := slices.Collect(func(y func(string) bool) { p.each(from, y) }); !slices.Equal(got, model[from:]) {
				t.Fatalf("each(%d) yields %q, want %q", from, got, model[from:])
			}
			if from < len(model) && p.at(from) != model[from] {
				t.Fatalf("at(%d) = %q", from, p.at(from))
			}
		}
	})
}
