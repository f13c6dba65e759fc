package cluster

import (
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	reopenFirst = time.Second
	reopenMax   = time.Minute     // of what opens, and fails again or is refused
	reopenSoon  = 5 * time.Second // of what is not there, and of all without a quorum
)

// An absence is why the devices of a member cannot be opened: to look again
// costs nothing, and whoever plugs one in waits for it.
type absence struct{ err error }

func (a *absence) Error() string { return a.err.Error() }

func (a *absence) Unwrap() error { return a.err }

// reopenLater plans the next attempt, each after twice the time. why is what
// came of the last one; nil: it could be opened, and failed then.
func (e *engine) reopenLater(m *member, why error) {
	var away *absence
	most := reopenMax
	if errors.As(why, &away) || e.primary != nil && !e.primary.Quorum() {
		most = reopenSoon
	}
	wait := min(max(m.backoff, reopenFirst), most)
	// That it was away says nothing about how long it holds when it is back.
	m.backoff = max(m.backoff, min(2*wait, most))
	attempt := m.attempt
	time.AfterFunc(wait, func() {
		e.post(func() {
			if m.attempt == attempt && m.state == NodeFailed && m.conn == nil && !m.opening && !m.closing {
				e.reopen(m)
			}
		})
	})
}

// lookForAbsent plans the first attempt for those that were not there at the
// mount, and a nearer one for all that are away when the quorum is lost.
func (e *engine) lookForAbsent() {
	if e.showsSnapshot() {
		return // one that comes later cannot be told from those that are there
	}
	for _, m := range e.members {
		if m.state == NodeFailed && m.conn == nil && !m.opening && !m.closing {
			e.reopenLater(m, nil)
		}
	}
}

func (e *engine) reopen(m *member) {
	m.opening = true
	m.attempt++
	spec, o := m.spec, e.o
	e.tasks.Go(func() {
		c, d, err := openMember(e.ctx, spec, &o, e.log)
		r := opening{m: m, c: c, d: d, err: err}
		if !e.post(func() { e.reopened(r) }) && c != nil {
			c.close()
		}
	})
}

// reopened takes in a member that was opened late or again.
func (e *engine) reopened(r opening) {
	m := r.m
	m.opening = false
	err := r.err
	if err == nil {
		err = e.fits(m, r.c)
	}
	waiters := m.waiters
	m.waiters = nil
	for _, w := range waiters {
		w <- err
	}
	switch {
	case err == nil && m.state == NodeOffline && len(waiters) == 0:
		e.tasks.Go(func() { r.c.close() })
	case err != nil:
		if r.c != nil {
			e.tasks.Go(func() { r.c.close() })
		}
		m.lost(err)
		e.reopenLater(m, err)
	default:
		m.take(r.c, r.d)
		if e.o.ReadOnly {
			e.readOnlyState(m, r.d)
			return
		}
		e.attach(m, r.d)
		if e.primary.Phase() == core.Serving {
			e.expel()
		}
		e.log.Info("member is back", "member", m.spec.Name, "at", r.d.Pos.T.String())
	}
}

// remedyOf is what the operator can do about a member that does not open; "" if
// there is nothing but to look at its device. One that was never open may be none.
func (m *member) remedyOf(err error) string {
	var missing *chain.MissingVolume
	var misfit *chain.Misfit
	switch {
	case errors.As(err, &missing):
		return "mount again, and " + missing.Remedy()
	case m.fsid.IsZero() && (errors.Is(err, ondisk.ErrNotHammer2) || errors.Is(err, chain.ErrNoPFS) || errors.As(err, &misfit)):
		return "mount again with the right device, or without it"
	}
	return ""
}

// readOnlyState lets a member be read if it has the state that is shown.
func (e *engine) readOnlyState(m *member, d core.Durable) {
	m.flags = d.Flags
	switch {
	case e.returns(m.conn):
		e.noteBranch(m)
	case m.flags&(core.Foreign|core.Disputed) != 0:
		m.enter(NodeForeign, m.conn.reason(), "")
	case m.flags != 0:
		m.enter(NodeTainted, m.conn.reason(), "")
	case d.Pos != e.pub.committed:
		m.enter(NodeBehind, fmt.Sprintf("at %v, shown is %v", d.Pos.T, e.pub.committed.T), "")
	default:
		m.enter(NodeReadOnly, "", "")
	}
}

// fits refuses a member that is not what was mounted.
func (e *engine) fits(m *member, c *conn) error {
	for _, o := range e.members {
		if o != m && o.conn != nil && o.fsid == c.info.Fsid {
			return fmt.Errorf("%s and %s are copies of one node (fsid %v)", o.spec.Name, c.name, c.info.Fsid)
		}
	}
	switch {
	case !m.fsid.IsZero() && c.info.Fsid != m.fsid:
		return fmt.Errorf("%s is another copy than before (fsid %v, was %v)", c.name, c.info.Fsid, m.fsid)
	case e.returns(c):
	case c.info.Clid != e.clid && !e.solo, c.solo != e.solo:
		return fmt.Errorf("%s is not of this cluster", c.name)
	}
	return nil
}
