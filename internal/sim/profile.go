package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/coord-kv/coord/watch"
)

// Profile says how large and how rough a run is. All of it follows from the seed.
type Profile struct {
	Seed    uint64
	Members int
	Clients int
	Active  time.Duration // with clients and faults

	Tick          time.Duration
	ElectionTicks int
	SegmentBytes  int64
	CutBytes      int          // of log between checkpoints
	History       watch.Limits // of the events kept

	SyncLow, SyncHigh   time.Duration
	DelayLow, DelayHigh time.Duration // of a frame
	Duplicates          bool          // a stream that begins again may repeat frames
	FullQueue           float64       // percent of frames that a stream doesn't take
	BreakTransfer       float64       // percent of pieces of a snapshot at which its stream breaks
	CrashAtStart        float64       // percent
	PowerLoss           float64       // percent of ends of a process
	FaultEvery          time.Duration // about
	Contenders          int           // clients that take locks and stand for election
	Prize               string        // what they fight for; "" for all there is
	Workers             int           // clients that use the small recipes
	Providers           int           // clients that register instances of a service
	Configurers         int           // clients that change a configuration
}

// NewProfile draws the profile of a seed.
func NewProfile(seed uint64) Profile {
	r := rand.New(rand.NewPCG(seed, 0x70726f66))
	p := Profile{
		Seed: seed, Members: []int{1, 3, 3, 3, 5}[r.IntN(5)], Clients: 3 + r.IntN(4), Active: 15 * time.Second,
		Tick: 50 * time.Millisecond, ElectionTicks: 10, SegmentBytes: 16 << 10 << r.IntN(4), CutBytes: 4 << 10 << r.IntN(6),
		SyncLow: 100 * time.Microsecond, SyncHigh: time.Duration(1+r.IntN(8)) * time.Millisecond,
		DelayLow: 100 * time.Microsecond, DelayHigh: time.Duration(1+r.IntN(15)) * time.Millisecond,
		Duplicates: r.IntN(2) == 0, BreakTransfer: 10, CrashAtStart: 10, PowerLoss: 50,
		FaultEvery: time.Duration(200+r.IntN(1500)) * time.Millisecond,
	}
	if r.IntN(2) == 0 {
		p.FullQueue = 1
	}
	if r.IntN(2) == 0 {
		p.BreakTransfer = 40
	}
	if r.IntN(2) == 0 {
		p.History = watch.Limits{ChunkBytes: 128 << r.IntN(3), MemoryBytes: 1 << 10, TotalBytes: 2 << 10 << r.IntN(4)}
	}
	p.Contenders = []int{0, 2, 4, 6}[r.IntN(4)]
	if r.IntN(2) == 0 {
		p.Prize = prizes[r.IntN(len(prizes))]
	}
	p.Workers = []int{0, 0, 2, 4}[r.IntN(4)]
	p.Providers = []int{0, 0, 2, 4}[r.IntN(4)]
	p.Configurers = []int{0, 0, 2, 4}[r.IntN(4)]
	return p
}

// Counters say how often what is worth testing happened.
type Counters struct {
	Decisions, Leaders, HandOvers, StreamBreaks, Cuts, NotSent, Duplicates            int
	Ends, PowerLosses, CrashesInWrite, CrashesAtStart, TornTails, DiskErrors          int
	Checkpoints, Installs, Histories, TransferBreaks, TransferResumes, Stalls, Pauses int
	Flips, Heals, Attaches                                                            int
	Retries, Unknown, Promises, Expired, Resumes, HistoryGone, Reads, WatchBatches    int
	Grants, Terms, GaveUp, Orphaned, Stopped, Fenced, Stale, Broken, Sightings        int
	Pushed, Received, Acked, Added, Begun, Ended, Passed, Opened, Joined, Listed      int
	Registered, Resolved, Configured, RolledBack, TakenUp, Ran, Skipped               int
	Delayed, Spared                                                                   int
}

// Add adds another run's.
func (c *Counters) Add(o Counters) {
	for i, f := range c.fields() {
		*f += *o.fields()[i]
	}
}

func (c *Counters) fields() []*int {
	return []*int{
		&c.Decisions, &c.Leaders, &c.HandOvers, &c.StreamBreaks, &c.Cuts, &c.NotSent, &c.Duplicates,
		&c.Ends, &c.PowerLosses, &c.CrashesInWrite, &c.CrashesAtStart, &c.TornTails, &c.DiskErrors,
		&c.Checkpoints, &c.Installs, &c.Histories, &c.TransferBreaks, &c.TransferResumes, &c.Stalls, &c.Pauses,
		&c.Flips, &c.Heals, &c.Attaches,
		&c.Retries, &c.Unknown, &c.Promises, &c.Expired, &c.Resumes, &c.HistoryGone, &c.Reads, &c.WatchBatches,
		&c.Grants, &c.Terms, &c.GaveUp, &c.Orphaned, &c.Stopped, &c.Fenced, &c.Stale, &c.Broken, &c.Sightings,
		&c.Pushed, &c.Received, &c.Acked, &c.Added, &c.Begun, &c.Ended, &c.Passed, &c.Opened, &c.Joined, &c.Listed,
		&c.Registered, &c.Resolved, &c.Configured, &c.RolledBack, &c.TakenUp, &c.Ran, &c.Skipped,
		&c.Delayed, &c.Spared,
	}
}

// String shows all of them.
func (c Counters) String() string { return fmt.Sprintf("%+v", struct{ C Counters }{c}.C.plain()) }

type plainCounters Counters

func (c Counters) plain() plainCounters { return plainCounters(c) }

// Never returns the places of counters that are 0.
func (c Counters) Never() (zero []int) {
	for i, f := range c.fields() {
		if *f == 0 {
			zero = append(zero, i)
		}
	}
	return zero
}
