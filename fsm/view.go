package fsm

import "github.com/coord-kv/coord/op"

// View is a state as Machine.View has published it. It never changes and is for any number of goroutines.
type View struct{ state }

// Zxid returns the zxid of the latest decision.
func (s *state) Zxid() op.Zxid { return s.zxid }

// Floor returns the zxid below which positions belong to another history; 0 if the cluster was never restored from a backup.
func (s *state) Floor() op.Zxid { return s.floor }

// Level returns the level that the state is at.
func (s *state) Level() uint32 { return s.level }

// Limits returns the limits in force.
func (s *state) Limits() op.Limits { return s.limits }

// Age returns the age clock in milliseconds: the sum of all batches' Age.
func (s *state) Age() uint64 { return s.age }

// Digest returns the fingerprint of everything that decides answers. It takes constant time.
func (s *state) Digest() Digest {
	all := s.sum
	all.add(hash(tagValues, s.appendValues(nil)))
	return all.digest()
}

// Counts says how much there is in a state.
type Counts struct {
	Nodes     map[op.NodeKind]int64
	DataBytes int64
	Sessions  int64 // leases not among them
	Leases    int64
	Keys      int64
	KeptBytes int64 // of answers, with what keeping them costs
	ACLs      int64 // the open one not among them
	Quotas    int64
}

// Counts returns the sizes of the state, in constant time.
func (s *state) Counts() Counts {
	c := Counts{
		Nodes: make(map[op.NodeKind]int64, len(s.kinds)), DataBytes: s.dataBytes,
		Sessions: int64(s.sessions.Len()) - s.leases, Leases: s.leases, Keys: int64(s.keys.Len()), KeptBytes: s.kept,
		ACLs: int64(s.acls.Len()), Quotas: int64(s.quotas.Len()),
	}
	for kind, n := range s.kinds {
		c.Nodes[op.NodeKind(kind)] = n
	}
	return c
}
