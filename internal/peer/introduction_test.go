package peer

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func freshIntroduction() Introduction {
	return Introduction{
		Name: "n1", Member: 1, Fresh: true,
		Members: []Member{{"n1", 1, "a:1"}, {"n2", 0, "b:1"}},
	}
}

func startedIntroduction() Introduction {
	return Introduction{
		Name: "n1", Member: 1, Cluster: 9, Voters: []uint64{1, 2},
		Members: []Member{{"n1", 1, "a:1"}, {"n2", 2, "b:1"}},
	}
}

func TestIntroductionComesBack(t *testing.T) {
	largest := startedIntroduction()
	largest.Name = strings.Repeat("n", maxName)
	largest.Members, largest.Voters = nil, nil
	for i := range maxMembers {
		name := fmt.Sprintf("%0*d", maxName, i)
		largest.Members = append(largest.Members, Member{Name: name, ID: uint64(i + 1), Addr: strings.Repeat("a", maxAddr)})
		largest.Voters = append(largest.Voters, uint64(i+1))
	}
	for _, want := range []Introduction{freshIntroduction(), startedIntroduction(), largest} {
		body := want.encode()
		got, err := decodeIntroduction(body)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v", got, err)
		}
		if len(body) > 1<<16-1 {
			t.Errorf("%d bytes don't fit an opening", len(body))
		}
	}
}

func TestIntroductionThatContradictsItselfIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Introduction){
		"no name":               func(in *Introduction) { in.Name = "" },
		"no member id":          func(in *Introduction) { in.Member = 0 },
		"no list":               func(in *Introduction) { in.Members = nil },
		"fresh with a cluster":  func(in *Introduction) { in.Fresh = true; in.Voters = nil },
		"fresh with voters":     func(in *Introduction) { in.Fresh = true; in.Cluster = 0 },
		"started, no cluster":   func(in *Introduction) { in.Cluster = 0 },
		"started, no voters":    func(in *Introduction) { in.Voters = nil },
		"nameless in the list":  func(in *Introduction) { in.Members[1].Name = "" },
		"twice in the list":     func(in *Introduction) { in.Members[1].Name = "n1" },
		"long name in the list": func(in *Introduction) { in.Members[1].Name = strings.Repeat("n", maxName+1) },
		"long address":          func(in *Introduction) { in.Members[1].Addr = strings.Repeat("n", maxAddr+1) },
		"long name":             func(in *Introduction) { in.Name = strings.Repeat("n", maxName+1) },
		"many voters":           func(in *Introduction) { in.Voters = make([]uint64, maxMembers+1) },
	} {
		in := startedIntroduction()
		spoil(&in)
		if in.validate() == nil {
			t.Errorf("%s: valid", name)
		}
		if _, err := decodeIntroduction(in.encode()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	whole := startedIntroduction().encode()
	for n := range whole {
		if _, err := decodeIntroduction(whole[:n]); err == nil {
			t.Errorf("cut after %d bytes: accepted", n)
		}
	}
}

func FuzzIntroduction(f *testing.F) {
	f.Add(freshIntroduction().encode())
	f.Add(startedIntroduction().encode())
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := decodeIntroduction(body)
		if err == nil && (in.validate() != nil || !bytes.Equal(in.encode(), body)) {
			t.Fatalf("accepted %+v", in)
		}
	})
}
