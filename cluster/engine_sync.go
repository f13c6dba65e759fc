package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A ResyncTarget is a member that a resync may write, and nobody else.
type ResyncTarget struct {
	Name     string
	Volume   *chain.Volume
	Label    string
	Position Position // zero: nothing there can be relied on
	Lineage  Lineage
	Foreign  bool              // somebody else changed it since Position: txgs cannot be replayed on it
	Resume   ondisk.StateEntry // to be written back with what changed

	hold *hold
}

// A hold is one taking of a member by a resync. Who had the member before may
// still be letting go of it, and must not end the hold of who has it now.
type hold struct {
	m *member
	c *conn
}

// A Source is a node to copy from.
type Source struct {
	Name     string
	View     *chain.View
	Position Position
	Lineage  Lineage
}

// resyncWanted names the members that are reachable and not in sync, except
// those whose fate an operator must decide.
func (e *engine) resyncWanted() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var names []string
	for _, v := range e.pub.members {
		if v.conn != nil && e.pub.serving && (v.report.State == NodeResync || v.report.State == NodeTainted) {
			names = append(names, v.report.Name)
		}
	}
	return names
}

// acquireTarget gives a member to a resync: no txg and no promise reaches it
// until release. The primary looks at it anew then.
func (e *engine) acquireTarget(name string) (*ResyncTarget, func(), error) {
	if e.o.ReadOnly {
		return nil, nil, ErrReadOnly
	}
	var h *hold
	err := ErrPoolClosed
	e.ask(func() { h, err = e.takeMember(name) })
	if err != nil {
		return nil, nil, err
	}
	return e.targetOf(h)
}

// targetOf is the member that a resync holds, once it is at rest.
func (e *engine) targetOf(h *hold) (t *ResyncTarget, release func(), err error) {
	h.c.pause()
	lost := false
	if err := h.c.Level(e.ctx); err != nil {
		// What it holds is compared with its tree: the two must be the same.
		if lost = h.c.GiveUpLog(e.ctx, err); !lost {
			e.releaseTarget(h)
			return nil, nil, fmt.Errorf("%s: %w", h.c.name, err)
		}
		h.c.setReason(whyLogLost)
	}
	d := h.c.state()
	if !e.ask(func() {
		if lost {
			h.m.flags |= core.Tainted
		}
		t = h.c.Target(d, e.primary.Charter(), e.primary.Leads(), h.m.flags&core.Tainted == 0 || h.m.discarded)
		t.Foreign, t.hold = h.m.discarded, h
	}) {
		return nil, nil, ErrPoolClosed
	}
	var once sync.Once
	return t, func() { once.Do(func() { e.releaseTarget(h) }) }, nil
}

func (e *engine) takeMember(name string) (*hold, error) {
	m := e.byName(name)
	switch {
	case m == nil:
		return nil, e.noMember(name)
	case m.conn == nil || m.hold != nil:
		return nil, fmt.Errorf("%s cannot be resynced now: %s", name, m.state)
	case m.state == NodeForeign:
		return nil, fmt.Errorf("%s was changed by another system: anvilfs node discard MNT NODE drops that change", name)
	}
	m.hold = &hold{m, m.conn}
	e.step(core.Detach{Node: m.fsid})
	return m.hold, nil
}

func (e *engine) byName(name string) *member {
	for _, m := range e.members {
		if m.spec.Name == name {
			return m
		}
	}
	for _, m := range e.members {
		if m.fsid.String() == name {
			return m
		}
	}
	return nil
}

// named is byName without those that were removed, or replaced.
func (e *engine) named(name string) *member {
	if m := e.byName(name); m != nil && !m.expelled {
		return m
	}
	return nil
}

// releaseTarget reads what the resync left, if it has not joined.
func (e *engine) releaseTarget(h *hold) {
	err := e.rejoin(h, Position{})
	if err == nil || errors.Is(err, errNotHeld) {
		return
	}
	e.post(func() {
		if h.m.hold == h {
			h.m.hold = nil
			e.fail(h.m, err.Error())
		}
	})
}

// errNotHeld: the member was given back, or given up, before.
var errNotHeld = errors.New("the node is not being resynced any more")

// rejoin reads a member's state and attaches it. want is the position it must
// have; zero = any.
//
// A join and a release of one hold may come together: the second finds the
// member given back, perhaps to the next who holds it, and leaves it alone.
func (e *engine) rejoin(h *hold, want Position) error {
	m, c := h.m, h.c
	c.back.Lock()
	defer c.back.Unlock()
	mine := false
	if !e.ask(func() { mine = m.hold == h }) {
		return ErrPoolClosed
	}
	if !mine {
		return fmt.Errorf("%s: %w", m.called(), errNotHeld)
	}
	if err := c.vol.Failed(); err != nil {
		return err // only opening it again helps
	}
	if !want.IsZero() {
		if err := c.Mended(want); err != nil {
			return err
		}
	}
	d, err := c.resume(e.ctx, e.now())
	if err != nil {
		return err
	}
	ok := e.ask(func() {
		if m.hold != h {
			return // given up meanwhile
		}
		m.hold = nil
		if !want.IsZero() {
			m.discarded = false
		}
		e.attach(m, d)
	})
	if !ok {
		return ErrPoolClosed
	}
	return nil
}

// join ends a resync: the target is at pos and gets the next txg.
func (e *engine) join(t *ResyncTarget, pos Position) error { return e.rejoin(t.hold, pos) }

// pinSource returns a node at a state that a node can join at, other than not.
func (e *engine) pinSource(ctx context.Context, not string) (Source, func(), error) {
	return e.pinOther(ctx, []string{not})
}

// pinOther is pinSource, other than all of these. The first is who it is for.
func (e *engine) pinOther(ctx context.Context, not []string) (Source, func(), error) {
	if e.o.ReadOnly {
		return Source{}, nil, ErrReadOnly
	}
	for {
		var s Source
		var ok bool
		e.wantLevel()
		if !e.ask(func() { s, ok = e.source(not...) }) {
			return s, nil, ErrPoolClosed
		}
		if ok {
			return s, s.View.Release, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return s, nil, fmt.Errorf("no node in sync to copy from: %w", ctx.Err())
		}
	}
}

func (e *engine) source(not ...string) (Source, bool) {
	var target ondisk.UUID
	if m := e.byName(not[0]); m != nil {
		target = m.fsid
	}
	for _, goal := range e.primary.Goals(target) {
		if s, ok := e.sourceAt(goal, not); ok {
			return s, true
		}
	}
	return Source{}, false
}

func (e *engine) sourceAt(goal Position, not []string) (Source, bool) {
	var best *member
	for _, m := range e.members {
		if m.conn == nil || m.hold != nil || m.flags != 0 || slices.Contains(not, m.spec.Name) || m.conn.position() != goal {
			continue
		}
		if best == nil || m.latency.Load() < best.latency.Load() {
			best = m
		}
	}
	if best == nil {
		return Source{}, false
	}
	v, pos, law, ok := best.conn.shown()
	if !ok {
		return Source{}, false
	}
	if pos != goal || law == nil {
		v.Release()
		return Source{}, false
	}
	return Source{best.spec.Name, v, pos, law.Lineage}, true
}

// retained returns the committed batches that follow the state after; false
// if they are not all in the window.
func (e *engine) retained(after Position) ([]*chain.Batch, bool) {
	var out []*chain.Batch
	found := false
	e.ask(func() {
		if e.primary == nil {
			return
		}
		found = after == e.primary.Committed() || after == e.primary.Head()
		for _, x := range e.primary.Window() {
			found = found || x.Prev == after
			if found && x.Pos.T > after.T {
				out = append(out, x.Batch.(*chain.Batch))
			}
		}
		rolls := func(b *chain.Batch) bool { _, ok := rollbackOf(b); return ok }
		if slices.ContainsFunc(out, rolls) { // who is behind may lack its snapshot
			out, found = nil, false
		}
	})
	return out, found
}

// copying reports whether a copy for the barrier is under way.
func (e *engine) copying() bool { return e.copier != nil && e.copier.m.hold == e.copier }

// copyNext copies the barrier's state to a master that does not have what the
// barrier was built on: one at a time, in turn, until there are enough.
//
// The member is held from here on, not from when the copy begins: a second copy
// for the same reason would hold it when it has long been in sync.
func (e *engine) copyNext() {
	if e.copying() || e.primary.Phase() != core.Barrier || e.primary.Quorum() {
		return
	}
	for i := range e.members {
		m := e.members[(e.copyFrom+i)%len(e.members)]
		if !m.urgent || m.hold != nil || m.conn == nil {
			continue
		}
		e.copyFrom = m.index + 1
		h, err := e.takeMember(m.spec.Name)
		if err != nil {
			continue
		}
		m.urgent, e.copier = false, h
		e.tasks.Go(func() {
			err := e.catchUpHeld(e.ctx, h)
			e.post(func() {
				if err != nil {
					e.log.Warn("copying the adopted state failed", "member", m.spec.Name, "err", err)
				}
				if e.copier == h {
					e.copier = nil
				}
				e.copyNext()
			})
		})
		return
	}
}

// Limits of one batch of a copy.
const (
	copyChanges = 10000
	copyBytes   = 16 << 20
)

// catchUp makes a member equal to a source and gives it back.
func (e *engine) catchUp(ctx context.Context, name string) error {
	var h *hold
	err := ErrPoolClosed
	e.ask(func() { h, err = e.takeMember(name) })
	if err != nil {
		return err
	}
	return e.catchUpHeld(ctx, h)
}

// catchUpHeld is catchUp for who holds the member.
func (e *engine) catchUpHeld(ctx context.Context, h *hold) error {
	t, release, err := e.targetOf(h)
	if err != nil {
		return err
	}
	name := t.Name
	defer release()
	s, unpin, err := e.pinSource(ctx, name)
	if err != nil {
		return err
	}
	defer unpin()
	// A source that hangs is not waited for longer than any other member.
	common, err := CatchUp(chain.Patient(ctx, e.deadline, nil), t, s)
	if err != nil {
		return err
	}
	e.log.Info("copied the adopted state", "member", name, "from", s.Name, "since", common.String())
	return e.join(t, s.Position)
}
