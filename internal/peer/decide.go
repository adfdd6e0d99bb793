package peer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Roster is a cluster at its foundation.
type Roster struct {
	Cluster uint64
	Voters  []uint64 // sorted
	Members []Member // sorted by name; every voter is in it, with its id
}

// Addrs returns the addresses by member id, in the form that Config wants.
func (r Roster) Addrs() map[uint64]string {
	addrs := make(map[uint64]string, len(r.Members))
	for _, m := range r.Members {
		addrs[m.ID] = m.Addr
	}
	return addrs
}

// ClusterID is a hash of the founding members' names and ids: members that disagree about who founds the cluster are in different
// clusters and refuse each other. Addresses may differ, and may change later.
func ClusterID(members []Member) uint64 {
	b := []byte("coord cluster 1\n")
	for _, m := range byName(members) {
		b = appendString(b, m.Name)
		b = binary.BigEndian.AppendUint64(b, m.ID)
	}
	sum := sha256.Sum256(b)
	return max(1, binary.BigEndian.Uint64(sum[:]))
}

// verdict is what a member can conclude from the answers so far: a roster, that it must not start, or what it waits for.
type verdict struct {
	roster  *Roster
	failure error
	waiting []string
}

// decide concludes from what the others answered, by the name under which they are listed. self lists its own id and those learned.
//
//   - A voter's promises are in its directory. So nobody founds a cluster while one of the list may have a directory in which another
//     cluster, or the same with other votes, is on record: all must have answered, and all must be fresh.
//   - All must also know each other by the same ids. Else a member that came back with an empty directory between two answers would
//     make the others found two clusters.
//   - Whoever finds a started member that lists it as a voter joins: the others founded the cluster while it waited, and a fresh
//     member has never voted.
//   - Whoever finds a started member that doesn't list it must not start, whatever the rest say: as a voter that lost its directory
//     it might vote again in a term in which it has voted.
func decide(self Introduction, answers map[string]Introduction) verdict {
	if err := misconfigured(self, answers); err != nil {
		return verdict{failure: err}
	}
	if roster, err := started(self, answers); roster != nil || err != nil {
		return verdict{roster: roster, failure: err}
	}
	if waiting := incomplete(self, answers); len(waiting) > 0 {
		return verdict{waiting: waiting}
	}
	members := byName(self.Members)
	return verdict{roster: &Roster{Cluster: ClusterID(members), Voters: ids(members), Members: members}}
}

// misconfigured finds what waiting can't heal.
func misconfigured(self Introduction, answers map[string]Introduction) error {
	holder := map[uint64]string{self.Member: self.Name}
	for _, m := range others(self, answers) {
		answer := answers[m.Name]
		if answer.Name != m.Name {
			return fmt.Errorf("the member list gives %s the address %s, but the member there is named %q: correct the list or that member's name",
				m.Name, m.Addr, answer.Name)
		}
		if other, taken := holder[answer.Member]; taken {
			return fmt.Errorf("%s and %s have the same member id %x: the data directory of one was copied to the other; give one of them an empty directory",
				other, m.Name, answer.Member)
		}
		holder[answer.Member] = m.Name
		if diff := difference(self.Members, answer.Members); diff != "" {
			return fmt.Errorf("the member lists of %s and %s differ (%s): give every member the same list", self.Name, m.Name, diff)
		}
	}
	return nil
}

// started looks for a cluster that exists already.
func started(self Introduction, answers map[string]Introduction) (*Roster, error) {
	var found *Introduction
	for _, m := range others(self, answers) {
		answer := answers[m.Name]
		switch {
		case answer.Fresh:
		case !slices.Contains(answer.Voters, self.Member):
			return nil, fmt.Errorf("%s (%s) belongs to cluster %x, which runs already and in which this member (%s, id %x) is no voter: "+
				"this data directory is empty, was wiped, or is not the one that founded the cluster. "+
				"A voter can't come back without its data, because it could vote a second time. "+
				"Restore this member's data directory, or start a new cluster with empty data directories on all members",
				m.Name, m.Addr, answer.Cluster, self.Name, self.Member)
		case found != nil && (found.Cluster != answer.Cluster || !sameSet(found.Voters, answer.Voters)):
			return nil, fmt.Errorf("%s belongs to cluster %x with voters %x, %s to cluster %x with voters %x: these were not founded together",
				found.Name, found.Cluster, found.Voters, m.Name, answer.Cluster, answer.Voters)
		default:
			found = &answer
		}
	}
	if found == nil {
		return nil, nil
	}
	return join(self, *found)
}

// join takes cluster, voters and ids from a started member, and addresses from the own list.
func join(self Introduction, from Introduction) (*Roster, error) {
	members := byName(from.Members)
	for i, m := range members {
		members[i].Addr = self.Members[indexOf(self.Members, m.Name)].Addr
	}
	voters := slices.Sorted(slices.Values(from.Voters))
	if known := ids(members); !slices.Equal(known, voters) {
		return nil, fmt.Errorf("%s, a member of cluster %x, names the voters %x and the members %x: these should be the same", from.Name, from.Cluster, voters, known)
	}
	return &Roster{Cluster: from.Cluster, Voters: voters, Members: members}, nil
}

// incomplete says, in words for people, whose answer is missing, or not yet the one that is needed.
func incomplete(self Introduction, answers map[string]Introduction) []string {
	var waiting []string
	for _, m := range byName(self.Members) {
		if _, answered := answers[m.Name]; !answered && m.Name != self.Name {
			waiting = append(waiting, fmt.Sprintf("%s (%s) has not answered", m.Name, m.Addr))
		}
	}
	for _, m := range others(self, answers) {
		for _, theirs := range byName(answers[m.Name].Members) {
			mine := self.Members[indexOf(self.Members, theirs.Name)]
			switch {
			case mine.ID == 0 || mine.ID == theirs.ID: // unknown here: named above
			case theirs.ID == 0:
				waiting = append(waiting, fmt.Sprintf("%s has not reached %s", m.Name, theirs.Name))
			default:
				waiting = append(waiting, fmt.Sprintf("%s knows %s by id %x, not %x", m.Name, theirs.Name, theirs.ID, mine.ID))
			}
		}
	}
	return waiting
}

// others returns the listed members that answered, by name.
func others(self Introduction, answers map[string]Introduction) []Member {
	return slices.DeleteFunc(byName(self.Members), func(m Member) bool {
		_, answered := answers[m.Name]
		return !answered || m.Name == self.Name
	})
}

// difference compares the names of two lists, in words, empty if they are the same.
func difference(mine, theirs []Member) string {
	var parts []string
	if only := missingFrom(theirs, mine); len(only) > 0 {
		parts = append(parts, "only the first has "+strings.Join(only, ", "))
	}
	if only := missingFrom(mine, theirs); len(only) > 0 {
		parts = append(parts, "only the second has "+strings.Join(only, ", "))
	}
	return strings.Join(parts, "; ")
}

func missingFrom(list, members []Member) []string {
	var names []string
	for _, m := range byName(members) {
		if indexOf(list, m.Name) < 0 {
			names = append(names, m.Name)
		}
	}
	return names
}

func indexOf(members []Member, name string) int {
	return slices.IndexFunc(members, func(m Member) bool { return m.Name == name })
}

// byName returns a sorted copy.
func byName(members []Member) []Member {
	return slices.SortedFunc(slices.Values(members), func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
}

func ids(members []Member) []uint64 {
	all := make([]uint64, 0, len(members))
	for _, m := range members {
		all = append(all, m.ID)
	}
	slices.Sort(all)
	return all
}

func sameSet(a, b []uint64) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
