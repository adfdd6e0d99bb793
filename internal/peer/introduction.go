package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Member is one line of a member list.
type Member struct {
	Name string // unique in the list
	ID   uint64 // 0 while it is not known
	Addr string // host:port of its peer port
}

// Introduction is what a member tells of itself at a first start.
type Introduction struct {
	Name    string
	Member  uint64
	Fresh   bool     // it has never voted: its directory holds an id and no configuration
	Cluster uint64   // 0 if Fresh
	Members []Member // the list as configured, with the ids learned so far; of a started member, every voter with its id
	Voters  []uint64 // its configuration; none if Fresh
}

func (in Introduction) validate() error {
	switch {
	case in.Name == "" || in.Member == 0 || len(in.Members) == 0:
		return errors.New("peer: introduction without a name, a member id or a member list")
	case in.Fresh && (in.Cluster != 0 || len(in.Voters) > 0):
		return errors.New("peer: introduction as fresh, and with a cluster")
	case !in.Fresh && (in.Cluster == 0 || len(in.Voters) == 0):
		return errors.New("peer: introduction as started, and without a cluster or its voters")
	case len(in.Name) > maxName || len(in.Members) > maxMembers || len(in.Voters) > maxMembers:
		return fmt.Errorf("peer: introduction with a name above %d bytes or more than %d members", maxName, maxMembers)
	}
	return validateMembers(in.Members)
}

func validateMembers(members []Member) error {
	seen := make(map[string]bool, len(members))
	for _, m := range members {
		switch {
		case m.Name == "" || len(m.Name) > maxName || len(m.Addr) > maxAddr:
			return fmt.Errorf("peer: member list with a name of %d and an address of %d bytes", len(m.Name), len(m.Addr))
		case seen[m.Name]:
			return fmt.Errorf("peer: member list with two members named %q", m.Name)
		}
		seen[m.Name] = true
	}
	return nil
}

func (in Introduction) encode() []byte {
	b := appendString(nil, in.Name)
	b = binary.BigEndian.AppendUint64(b, in.Member)
	b = append(b, boolByte(in.Fresh))
	b = binary.BigEndian.AppendUint64(b, in.Cluster)
	b = append(b, byte(len(in.Members)))
	for _, m := range in.Members {
		b = appendString(b, m.Name)
		b = binary.BigEndian.AppendUint64(b, m.ID)
		b = appendString(b, m.Addr)
	}
	b = append(b, byte(len(in.Voters)))
	for _, id := range in.Voters {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	return b
}

func decodeIntroduction(b []byte) (Introduction, error) {
	d := decoder{rest: b}
	in := Introduction{Name: d.string(maxName), Member: d.uint64(), Fresh: d.bool(), Cluster: d.uint64()}
	for range d.count(maxMembers, 2+8+2) {
		in.Members = append(in.Members, Member{Name: d.string(maxName), ID: d.uint64(), Addr: d.string(maxAddr)})
	}
	for range d.count(maxMembers, 8) {
		in.Voters = append(in.Voters, d.uint64())
	}
	if err := d.end(); err != nil {
		return Introduction{}, fmt.Errorf("peer: malformed introduction: %w", err)
	}
	return in, in.validate()
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Meet introduces mine to whoever listens on addr, and returns that member's introduction. It takes at most 5 s.
func Meet(ctx context.Context, dial Dial, addr string, mine Introduction) (Introduction, error) {
	if err := mine.validate(); err != nil {
		return Introduction{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	conn, err := dial(ctx, addr)
	if err != nil {
		return Introduction{}, fmt.Errorf("couldn't dial %s: %w", addr, err)
	}
	defer conn.Close()
	defer closeOn(ctx, conn)()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return Introduction{}, err
	}
	if err := send(conn, openMeet, mine.encode()); err != nil {
		return Introduction{}, fmt.Errorf("couldn't introduce this member to %s: %w", addr, err)
	}
	body, err := expect(conn, openMeet)
	if err != nil {
		return Introduction{}, fmt.Errorf("couldn't hear who listens on %s: %w", addr, err)
	}
	return decodeIntroduction(body)
}
