package sim

import (
	"math"
	"slices"
	"time"
)

// trouble makes things go wrong until the world is to be quiet.
func (w *world) trouble(t *task) {
	for {
		t.sleep(w.between(w.profile.FaultEvery/4, 2*w.profile.FaultEvery))
		if w.quiet {
			return
		}
		m := pick(w, w.members)
		kind := w.rng.IntN(12)
		if w.spares(m, kind) {
			continue
		}
		switch kind {
		case 0, 1:
			w.crash(m, false)
		case 2:
			w.crash(m, true)
		case 3:
			for _, each := range w.members { // all at once
				w.crash(each, w.chance(50))
			}
		case 4, 5:
			if other := pick(w, w.members); other != m {
				w.count.Cuts++
				w.net.sever(m, other)
				if w.chance(70) {
					w.net.sever(other, m)
				}
				w.after(w.between(50*time.Millisecond, 4*time.Second), w.net.heal)
			}
		case 6:
			if other := pick(w, w.members); other != m {
				w.net.between(m, other, func(s *stream) {
					if w.chance(50) {
						s.snap(w.between(0, 50*time.Millisecond), w.between(0, 50*time.Millisecond))
					}
				})
			}
		case 7:
			w.count.Stalls++
			m.disk.slow, m.disk.slowUntil = w.between(20*time.Millisecond, 2*time.Second), w.now+w.between(100*time.Millisecond, 3*time.Second)
		case 8:
			if m.life != nil {
				w.count.Pauses++
				m.life.paused = w.now + w.between(50*time.Millisecond, 6*time.Second)
			}
		case 9:
			if l := m.life; l != nil {
				l.input(func() {
					if l.core.HandOver() {
						w.count.HandOvers++
					}
				})
			}
		case 10:
			if l := m.life; l != nil && w.sound() {
				l.input(l.flip)
			}
		case 11:
			m.wall = w.between(0, 2*time.Hour) - time.Hour
			if l := m.life; l != nil && w.chance(30) {
				l.grip.doom(1+w.rng.IntN(30), errDisk)
				w.after(w.between(time.Second, 2*time.Second), m.start)
			}
		}
	}
}

// sound reports whether all members are there, serve, and are about as far as each other: then a majority of them
// outlives one whose state goes wrong.
func (w *world) sound() bool {
	low, high := uint64(math.MaxUint64), uint64(0)
	for i, m := range w.members {
		l := m.life
		if l == nil || m.flipped || !l.pub.Serving || w.now < l.paused || slices.Contains(w.net.cut[i], true) {
			return false
		}
		low, high = min(low, l.core.Applied()), max(high, l.core.Applied())
	}
	return len(w.members) > 1 && high-low <= 16
}

// spares reports whether a fault would be one too many: while one member has a wrong state the others must not lose
// what makes them a majority. If they did nobody could say which state is right, and all would stop, as they should.
func (w *world) spares(m *member, kind int) bool {
	wrong := slices.IndexFunc(w.members, func(m *member) bool { return m.flipped })
	grave := kind <= 5 || kind == 11
	return wrong >= 0 && grave && (m != w.members[wrong] || kind == 3)
}

// crash ends a member's process, and starts it again later.
func (w *world) crash(m *member, power bool) {
	if m.life == nil {
		return
	}
	w.count.Ends++
	m.end(power)
	w.after(w.between(5*time.Millisecond, 3*time.Second), m.start)
}

// calm ends all trouble: from here on nothing goes wrong.
func (w *world) calm() {
	w.quiet = true
	w.profile.FullQueue, w.profile.BreakTransfer, w.profile.CrashAtStart = 0, 0, 0
	w.net.heal()
	for _, m := range w.members {
		m.disk.slowUntil = 0
		if m.life != nil {
			m.life.paused, m.life.grip.counts = 0, false
		}
		w.after(0, m.start)
	}
	w.history.Recovery.Healed = w.moment()
}
