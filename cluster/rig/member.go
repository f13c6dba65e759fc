package rig

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

var (
	// ErrBusy: another process has the device.
	ErrBusy = errors.New("device is in use by another process")

	errGone = fmt.Errorf("device is gone: %w", unix.ENODEV)
	errDead = errors.New("the process is dead")
)

// A Member is one device of the cluster and what is in front of it.
type Member struct {
	Name   string
	Master bool
	More   *Member // one more device of it, which its volume may not have yet; nil: there is none
	w      *World

	mu     sync.Mutex // guards what follows
	mem    *memdev.Device
	rec    *crashdev.Device
	fault  *faultdev.Device
	gone   bool  // pulled: requests and opens fail
	holder *gate // who has it open
	traps  []*Trap
	lies   bool
	writes int // that reached the media, since the device was put in
	opens  int
}

// A Trap waits for a request. It acts once.
type Trap struct {
	On    faultdev.Op                 // kind; Any for all
	Match func(off int64, n int) bool // nil = every one
	Nth   int                         // which of those that match, from 1; 0 means 1
	After bool                        // act when the request has passed, not before
	Do    func()
	seen  int
	done  bool
}

// put makes dev what the member has, without rules or traps.
func (m *Member) put(dev *memdev.Device) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dev.Reopen()
	m.mem = dev.Named(m.Name)
	m.rec = crashdev.New(m.mem)
	m.fault = faultdev.New(m.rec)
	m.fault.Sleep = sleep
	m.traps, m.lies, m.writes = nil, false, 0
}

// Arm sets a trap.
func (m *Member) Arm(t *Trap) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traps = append(m.traps, t)
}

// Fault is where rules are added.
func (m *Member) Fault() *faultdev.Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault
}

// Pull takes the device away: what is out fails, and so does opening it.
func (m *Member) Pull() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = true
}

// Plug brings the device back; a dev that is not nil comes in its place.
func (m *Member) Plug(dev *memdev.Device) {
	if dev != nil {
		m.put(dev)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = false
}

// Enlarge makes the device, which nobody has open, n bytes longer.
func (m *Member) Enlarge(n int64) {
	dev := m.Copy()
	m.put(dev.Enlarged(dev.Size() + n))
}

// Copy is what is on the media now, with all that was written.
func (m *Member) Copy() *memdev.Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mem.Clone()
}

// Scribble overwrites bytes on the media behind everybody's back.
func (m *Member) Scribble(off int64, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.mem.WriteAt(p, off); err != nil {
		panic(err)
	}
}

// Lie lets flushes do nothing from now on: a power cut takes what was written
// last, however long ago it was flushed.
func (m *Member) Lie() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lies = true
	m.fault.Add(faultdev.Rule{Do: faultdev.Lose, On: faultdev.Flush, Times: faultdev.Always})
}

// Writes is how many writes reached the device since it was put in.
func (m *Member) Writes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

// Opens is how often the device was opened.
func (m *Member) Opens() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.opens
}

func (m *Member) open() (*gate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.w.dead.Load() != nil:
		return nil, errDead
	case m.gone:
		return nil, errGone
	case m.holder != nil:
		return nil, ErrBusy
	}
	m.opens++
	m.holder = &gate{m: m, dev: m.fault, life: m.w.life.Load()}
	return m.holder, nil
}

// A gate is one open of a member's device.
type gate struct {
	m    *Member
	dev  *faultdev.Device
	life int64 // the process that has it
}

var _ ondisk.Device = (*gate)(nil)

// alive says why a request does not pass or does not report success.
func (g *gate) alive() error {
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	switch {
	case g.m.w.dead.Load() != nil || g.m.w.life.Load() != g.life:
		return errDead
	case g.m.gone || g.m.fault != g.dev:
		return errGone
	}
	return nil
}

// pass lets one request through the traps.
func (g *gate) pass(op faultdev.Op, off int64, n int, do func() error) error {
	before, after := g.m.sprung(op, off, n)
	for _, t := range before {
		t.Do()
	}
	if err := g.alive(); err != nil {
		return err
	}
	err := do()
	for _, t := range after {
		t.Do()
	}
	if dead := g.alive(); dead != nil {
		return dead
	}
	if op == faultdev.Write && err == nil {
		g.m.mu.Lock()
		g.m.writes++
		g.m.mu.Unlock()
	}
	return err
}

// sprung returns the traps that this request springs.
func (m *Member) sprung(op faultdev.Op, off int64, n int) (before, after []*Trap) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.traps {
		if t.done || t.On != faultdev.Any && t.On != op || t.Match != nil && !t.Match(off, n) {
			continue
		}
		if t.seen++; t.seen < t.Nth {
			continue
		}
		t.done = true
		if t.After {
			after = append(after, t)
		} else {
			before = append(before, t)
		}
	}
	return before, after
}

// ReadAt implements ondisk.Device.
func (g *gate) ReadAt(p []byte, off int64) (n int, err error) {
	err = g.pass(faultdev.Read, off, len(p), func() error { n, err = g.dev.ReadAt(p, off); return err })
	return n, err
}

// WriteAt implements ondisk.Device.
func (g *gate) WriteAt(p []byte, off int64) (n int, err error) {
	err = g.pass(faultdev.Write, off, len(p), func() error { n, err = g.dev.WriteAt(p, off); return err })
	if err != nil {
		n = 0
	}
	return n, err
}

// Flush implements ondisk.Device.
func (g *gate) Flush() error {
	return g.pass(faultdev.Flush, 0, 0, func() error { return g.dev.Flush() })
}

// Discard implements ondisk.Device.
func (g *gate) Discard(off, n int64) error {
	return g.pass(faultdev.Discard, off, int(n), func() error { return g.dev.Discard(off, n) })
}

// Measure implements ondisk.Device.
func (g *gate) Measure() (int64, error) { return g.dev.Measure() }

// Size implements ondisk.Device.
func (g *gate) Size() int64 { return g.dev.Size() }

// BlockSize implements ondisk.Device.
func (g *gate) BlockSize() int { return g.dev.BlockSize() }

// Name implements ondisk.Device.
func (g *gate) Name() string { return g.m.Name }

// Close implements ondisk.Device. The memory stays as it is.
func (g *gate) Close() error {
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	if g.m.holder == g {
		g.m.holder = nil
	}
	return nil
}
