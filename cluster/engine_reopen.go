package cluster

import (
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
)

const (
	reopenFirst = time.Second
	reopenMax   = time.Minute
)

// reopenLater plans the next attempt, each after twice the time.
func (e *engine) reopenLater(m *member) {
	wait := m.backoff
	m.backoff = min(max(2*wait, reopenFirst), reopenMax)
	if wait == 0 {
		wait, m.backoff = reopenFirst, 2*reopenFirst
	}
	attempt := m.attempt
	time.AfterFunc(wait, func() {
		e.post(func() {
			if m.attempt == attempt && m.state == NodeFailed && m.conn == nil && !m.opening && !m.closing {
				e.reopen(m)
			}
		})
	})
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
		m.enter(NodeFailed, err.Error(), remedyOf(err))
		e.reopenLater(m)
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
// there is nothing but to look at its device.
func remedyOf(err error) string {
	var missing *chain.MissingVolume
	if errors.As(err, &missing) {
		return "mount again, and " + missing.Remedy()
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
