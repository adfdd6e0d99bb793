package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// disk is what a member keeps between two processes.
type disk struct {
	name   string
	id     uint64
	boot   uint64
	roster *Roster
}

// process is a member's process as its main function would put it together.
type process struct {
	*recorder
	net    *Network
	failed chan error // receives what Bootstrap failed with
	stop   func()
}

// startFirst runs a member whose directory may be fresh. Members listen at their name, port 7071.
func startFirst(t *testing.T, sim *simnet, d *disk, members []Member) *process {
	t.Helper()
	d.boot++
	p := &process{recorder: newRecorder(), failed: make(chan error, 1)}
	var introduction atomic.Pointer[Introduction]
	announce := func(in Introduction) { introduction.Store(&in) }
	p.onMeet = func(Introduction) Introduction { return *introduction.Load() }
	announce(Introduction{Name: d.name, Member: d.id, Fresh: true, Members: members})
	n, err := New(Config{Self: Identity{Member: d.id, Boot: d.boot, Name: d.name}, Handler: p.recorder, Dial: sim.Dial})
	if err != nil {
		t.Fatal(err)
	}
	p.net = n
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	ln := sim.Listen(t, d.name+":7071")
	running.Go(func() { check(t, n.Serve(ctx, ln)) })
	running.Go(func() {
		if d.roster == nil {
			roster, err := Bootstrap(ctx, BootstrapConfig{Name: d.name, ID: d.id, Members: members, Announce: announce, Dial: sim.Dial})
			if err != nil {
				p.failed <- err
				return
			}
			d.roster = &roster
		}
		announce(Introduction{Name: d.name, Member: d.id, Cluster: d.roster.Cluster, Members: d.roster.Members, Voters: d.roster.Voters})
		check(t, n.Join(d.roster.Cluster, d.roster.Addrs()))
		check(t, n.Run(ctx))
	})
	p.stop = func() { cancel(); running.Wait() }
	t.Cleanup(p.stop)
	return p
}

func disks(n int) (all []*disk, members []Member) {
	for i := range n {
		all = append(all, &disk{name: fmt.Sprintf("n%d", i+1), id: uint64(i + 1)})
	}
	return all, list(make([]uint64, n)...)
}

func (p *process) awaitPeer(t *testing.T, d *disk) {
	t.Helper()
	p.awaitEvent(t, fmt.Sprintf("up %d boot %d", d.id, d.boot), 1)
}

func TestMembersFoundAClusterHoweverLateTheyCome(t *testing.T) {
	for _, apart := range []time.Duration{0, 10 * time.Millisecond, time.Second, 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			sim := newSimnet()
			all, members := disks(3)
			var processes []*process
			for i, d := range all {
				if i > 0 {
					time.Sleep(apart)
				}
				processes = append(processes, startFirst(t, sim, d, members))
			}
			began := time.Now()
			for i, p := range processes {
				p.awaitPeer(t, all[(i+1)%3])
				p.awaitPeer(t, all[(i+2)%3])
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("%v apart: it took %v from the last one's start", apart, took)
			}
			for _, d := range all {
				if !reflect.DeepEqual(d.roster, all[0].roster) || d.roster.Cluster == 0 {
					t.Errorf("%v apart: %s has %+v, n1 has %+v", apart, d.name, d.roster, all[0].roster)
				}
			}
		})
	}
}

func TestMemberThatEndedBeforeItKnewJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		all, members := disks(3)
		p1, p2, p3 := startFirst(t, sim, all[0], members), startFirst(t, sim, all[1], members), startFirst(t, sim, all[2], members)
		p1.awaitPeer(t, all[1])
		p2.awaitPeer(t, all[2])
		p2.stop()
		p3.stop()
		all[2].roster = nil // it ended before its directory was synced
		p3 = startFirst(t, sim, all[2], members)
		p3.awaitPeer(t, all[0])
		if !reflect.DeepEqual(all[2].roster, all[0].roster) {
			t.Errorf("it joined %+v", all[2].roster)
		}
	})
}

func TestWipedMemberMustNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		all, members := disks(3)
		p1, _, p3 := startFirst(t, sim, all[0], members), startFirst(t, sim, all[1], members), startFirst(t, sim, all[2], members)
		p1.awaitPeer(t, all[2])
		p3.stop()
		wiped := &disk{name: "n3", id: 33}
		err := <-startFirst(t, sim, wiped, members).failed
		if err == nil || !strings.Contains(err.Error(), "Restore this member's data directory") || wiped.roster != nil {
			t.Errorf("%v", err)
		}
	})
}

func TestMembersOfDifferentListsMustNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		all, members := disks(3)
		p1, p2 := startFirst(t, sim, all[0], members), startFirst(t, sim, all[1], members[:2])
		for _, p := range []*process{p1, p2} {
			if err := <-p.failed; err == nil || !strings.Contains(err.Error(), "has n3") {
				t.Errorf("%v", err)
			}
		}
	})
}

func TestAloneStartsAtOnce(t *testing.T) {
	roster, err := Bootstrap(t.Context(), BootstrapConfig{Name: "n1", ID: 7, Members: []Member{{Name: "n1"}}, Announce: func(Introduction) {}})
	if err != nil || roster.Cluster != ClusterID([]Member{{Name: "n1", ID: 7}}) || len(roster.Voters) != 1 {
		t.Errorf("%+v, %v", roster, err)
	}
}

type lineLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func TestWaitingMemberSaysForWhom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		all, members := disks(3)
		startFirst(t, sim, all[1], members)
		var log lineLog
		var told Wait
		ctx, cancel := context.WithTimeout(t.Context(), 16*time.Second)
		defer cancel()
		_, err := Bootstrap(ctx, BootstrapConfig{
			Name: "n1", ID: 1, Members: members, Announce: func(Introduction) {}, Dial: sim.Dial, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Waiting: func(w Wait) { told = w },
		})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "n3 (n3:7071) has not answered") || strings.Contains(err.Error(), "n2 (") {
			t.Errorf("%v", err)
		}
		if !slices.Equal(told.Answered, []string{"n2"}) || !strings.Contains(strings.Join(told.Why, "; "), "n3 (n3:7071) has not answered") {
			t.Errorf("told was %+v", told)
		}
		if len(log.lines) != 3 {
			t.Fatalf("%d lines in 16 s: %q", len(log.lines), log.lines)
		}
		for _, want := range []string{"n3 (n3:7071) has not answered", "couldn't dial n3:7071: connection refused"} {
			if !strings.Contains(log.lines[0], want) {
				t.Errorf("%q says nothing of %q", log.lines[0], want)
			}
		}
	})
}

func TestBootstrapOfWhatCantBe(t *testing.T) {
	good := func() BootstrapConfig {
		return BootstrapConfig{Name: "n1", ID: 1, Members: list(0), Announce: func(Introduction) {}}
	}
	for name, spoil := range map[string]func(*BootstrapConfig){
		"no id":         func(c *BootstrapConfig) { c.ID = 0 },
		"no announce":   func(c *BootstrapConfig) { c.Announce = nil },
		"not listed":    func(c *BootstrapConfig) { c.Name = "x" },
		"empty list":    func(c *BootstrapConfig) { c.Members = nil },
		"listed twice":  func(c *BootstrapConfig) { c.Members = append(list(0), list(0)...) },
		"without name":  func(c *BootstrapConfig) { c.Members = append(list(0), Member{Addr: "x"}) },
		"nowhere":       func(c *BootstrapConfig) { c.Members = append(list(0), Member{Name: "x"}) },
		"too many":      func(c *BootstrapConfig) { c.Members = list(make([]uint64, maxMembers+1)...) },
		"name too long": func(c *BootstrapConfig) { c.Name = strings.Repeat("n", 256); c.Members[0].Name = c.Name },
		"address a book": func(c *BootstrapConfig) {
			c.Members = append(list(0), Member{Name: "x", Addr: strings.Repeat("x", maxAddr+1)})
		},
	} {
		cfg := good()
		spoil(&cfg)
		if _, err := Bootstrap(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := Bootstrap(t.Context(), good()); err != nil {
		t.Error(err)
	}
}

func TestMeetWithWhateverAnswers(t *testing.T) {
	started := startedIntroduction()
	for name, row := range map[string]struct {
		answer []byte
		want   string
	}{
		"a member":         {meeting(started), ""},
		"a closed door":    {nil, "EOF"},
		"a web server":     {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "begins with"},
		"a refusal":        {opening{version: 7, kind: openRefusal, body: []byte("another version")}.encode(), "refused: another version"},
		"a contradiction":  {meeting(Introduction{Name: "n2", Member: 2, Cluster: 1, Fresh: true, Members: list(1, 2)}), "fresh, and with a cluster"},
		"half a member":    {meeting(started)[:60], "unexpected EOF"},
		"another question": {greet(func(*greeting) {}), "wanted 4"},
	} {
		synctest.Test(t, func(t *testing.T) {
			dial := func(context.Context, string) (net.Conn, error) {
				here, there := net.Pipe()
				go func() {
					defer there.Close()
					if _, err := readOpening(there); err == nil {
						_, _ = there.Write(row.answer)
					}
				}()
				return here, nil
			}
			got, err := Meet(t.Context(), dial, "x", freshIntroduction())
			if row.want == "" && (err != nil || !reflect.DeepEqual(got, started)) || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		silent := func(context.Context, string) (net.Conn, error) {
			here, there := net.Pipe()
			context.AfterFunc(t.Context(), func() { there.Close() })
			return here, nil
		}
		began := time.Now()
		if _, err := Meet(t.Context(), silent, "x", freshIntroduction()); err == nil || time.Since(began) != 5*time.Second {
			t.Errorf("silence: %v after %v", err, time.Since(began))
		}
		if _, err := Meet(t.Context(), silent, "x", Introduction{}); err == nil {
			t.Error("introduced nobody")
		}
	})
}
