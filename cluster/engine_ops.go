package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// What may be over in a moment.
var (
	// errChanging: who decides is not settled.
	errChanging = errors.New("a change of members is under way: try again when it has ended")
	// errClosing: a late write would land on newer data.
	errClosing = errors.New("a request of before has not returned yet")
)

// offline closes a member until online. It refuses to take away the quorum.
func (e *engine) offline(ctx context.Context, name string) error {
	return e.patiently(ctx, func() error { return e.offlineNow(ctx, name) })
}

const (
	passPatience = 5 * time.Second // it takes less, if devices answer
	passLook     = 10 * time.Millisecond
)

// patiently tries again while all that speaks against it may be over in a moment.
func (e *engine) patiently(ctx context.Context, try func() error) error {
	for end := time.Now().Add(passPatience); ; {
		err := try()
		if !errors.Is(err, errChanging) && !errors.Is(err, errClosing) || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(passLook):
		case <-ctx.Done():
			return err
		}
	}
}

func (e *engine) offlineNow(ctx context.Context, name string) error {
	var c *conn
	var m *member
	err := ErrPoolClosed
	e.ask(func() {
		if m = e.named(name); m == nil {
			err = e.noMember(name)
			return
		}
		if err = e.spare(m); err != nil {
			return
		}
		c, m.conn, m.hold = m.conn, nil, nil
		m.attempt++ // planned reopenings are void
		m.enter(NodeOffline, "by the operator", "anvilfs node online MNT NODE")
		if c != nil {
			c.mute()
			m.last, m.at = c.position(), c.since() // it may have come further since the last report
			if e.primary != nil {
				e.step(core.Detach{Node: m.fsid})
			}
		}
	})
	if err != nil || c == nil {
		return err
	}
	done := make(chan error, 1)
	e.ask(func() { m.closing = true })
	e.tasks.Go(func() {
		err := c.close()
		e.post(func() { m.closing = false })
		done <- err
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// spare refuses if the mount cannot go on without m.
func (e *engine) spare(m *member) error {
	if e.o.ReadOnly {
		others := slices.ContainsFunc(e.members, func(o *member) bool { return o != m && o.state == NodeReadOnly })
		if !others {
			return fmt.Errorf("%s is the last readable copy", m.spec.Name)
		}
		return nil
	}
	law := e.primary.Charter()
	if law == nil || m.state != NodeInSync || !law.Config.IsMaster(m.fsid) {
		return nil
	}
	rest := e.primary.QuorumOf(func(id ondisk.UUID) bool {
		o := e.byFsid(id)
		return o != nil && o != m && o.conn != nil && o.flags == 0 && (o.state == NodeInSync || o.state == NodeBehind)
	})
	switch {
	case !rest && e.primary.Changing():
		return errChanging
	case !rest:
		return fmt.Errorf("without %s there is no quorum: bring another master in sync first", m.spec.Name)
	}
	return nil
}

// online opens a member again and waits until that was tried.
func (e *engine) online(ctx context.Context, name string) error {
	return e.patiently(ctx, func() error { return e.onlineNow(ctx, name) })
}

func (e *engine) onlineNow(ctx context.Context, name string) error {
	done := make(chan error, 1)
	err := ErrPoolClosed
	e.ask(func() {
		m := e.named(name)
		switch {
		case m == nil:
			err = e.noMember(name)
			return
		case m.conn != nil:
			err = nil
			done <- nil
			return
		case m.closing:
			err = fmt.Errorf("%s: %w", name, errClosing)
			return
		}
		err = nil
		m.waiters = append(m.waiters, done)
		if !m.opening {
			m.enter(NodeFailed, "being opened", "")
			e.reopen(m)
		}
	})
	if err != nil {
		return err
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	case <-e.ended:
		err = ErrPoolClosed
	}
	select {
	case err = <-done: // it has ended as well, and that counts
	default:
	}
	e.ask(func() {}) // what came of it is published then
	return err
}

// discard gives up the change that another system made to a member: it stays
// there as a snapshot while there is room, and the member is resynced.
func (e *engine) discard(ctx context.Context, name string) error {
	var c *conn
	var d core.Durable
	err := ErrPoolClosed
	e.ask(func() {
		m := e.named(name)
		if m == nil {
			err = e.noMember(name)
			return
		}
		if m.conn == nil || m.state != NodeForeign {
			err = fmt.Errorf("%s has no change of another system to discard", name)
			return
		}
		err = nil
		c, d = m.conn, m.conn.state()
	})
	if err != nil {
		return err
	}
	if err := keepForeign(ctx, c); err != nil {
		e.log.Warn("the discarded change could not be kept as a snapshot", "member", name, "err", err)
	}
	err = ErrPoolClosed
	e.ask(func() {
		m := e.byName(name)
		if m == nil || m.conn != c {
			err = fmt.Errorf("%s went away meanwhile, with its change: discard it when it is back", name)
			return
		}
		err, m.discarded = nil, true
		e.attach(m, d)
	})
	return err
}

func keepForeign(ctx context.Context, c *conn) error {
	t, err := c.vol.Begin(ctx)
	if err != nil {
		return err
	}
	label := fmt.Sprintf("foreign-%d.%d", c.entry.T.Epoch(), c.entry.T.Seq())
	if err := t.Snapshot(ctx, c.label, label, chain.SnapSpec{}); err != nil {
		t.Abort()
		return err
	}
	return t.Commit(ctx)
}

// reconfigure changes the members and waits until the configuration is what
// change makes of those at that time. change is called by the loop.
func (e *engine) reconfigure(ctx context.Context, change func(now []Member) ([]Member, error)) error {
	if err := e.takeGate(ctx); err != nil {
		return err
	}
	defer e.giveGate()
	done := make(chan *Config, 1)
	err := ErrPoolClosed
	e.ask(func() {
		if e.reconfig != nil {
			err = errors.New("another change of members is under way")
			return
		}
		var members []Member
		if members, err = change(slices.Clone(e.primary.Charter().Config.Members)); err != nil {
			return
		}
		e.reconfig = done
		e.step(core.Reconfigure{Members: members})
	})
	if err != nil {
		return err
	}
	select {
	case <-done:
		e.ask(func() {}) // who looks at the nodes now sees it
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the change of members is not committed yet: %w", ctx.Err())
	case <-e.ended:
		return ErrPoolClosed
	}
}

// reconfigured follows a change of members: who left is closed, and the
// media are told their role.
func (e *engine) reconfigured(cfg *Config) {
	if e.reconfig != nil {
		e.reconfig <- cfg
		e.reconfig = nil
	}
	e.expel()
	for _, m := range e.members {
		if m.conn == nil {
			continue
		}
		in, _ := cfg.Member(m.fsid)
		if c := m.conn; c.info.Type != in.Role {
			c.info.Type = in.Role
			e.tasks.Go(func() {
				if err := c.setRole(e.ctx, in.Role); err != nil {
					e.log.Warn("the role was not written to the media", "member", c.name, "err", err)
				}
			})
		}
	}
	e.submit() // a batch that came while a change left half way was ended
}

// expel closes the members that the configuration does not know any more.
func (e *engine) expel() {
	cfg := &e.primary.Charter().Config
	for _, m := range e.members {
		if e.solo || m.fsid.IsZero() {
			continue
		}
		if _, ok := cfg.Member(m.fsid); ok {
			continue
		}
		c := m.conn
		if c == nil {
			switch {
			case m.state == NodeFailed && !m.opening: // it is not looked for any more
				m.attempt++
				m.leave("")
			case m.state == NodeOffline:
				m.leave(anewRemedy)
			}
			continue
		}
		last := e.farewell(m)
		m.conn, m.hold = nil, nil
		m.attempt++
		m.leave(anewRemedy)
		e.step(core.Detach{Node: m.fsid})
		e.closeLater(m, func() error { return c.leave(e.now(), last) })
	}
}

// farewell is what m has to be given yet, so that its own charter says that it is no
// member any more: the change is committed when the others have it. nil: it is too
// far behind, or not what it should be.
func (e *engine) farewell(m *member) (last []*core.Message) {
	const most = 8 // two are the change itself
	if m.flags != 0 || m.hold != nil || m.state != NodeInSync && m.state != NodeBehind {
		return nil
	}
	at := m.conn.position().T
	for _, x := range e.primary.Window() {
		if x.Pos.T <= at {
			continue
		}
		last = append(last, &core.Message{Kind: core.Apply, Node: m.fsid, Ballot: e.primary.Ballot(), Txg: x, Committed: e.primary.Committed().T})
		if x.Charter == nil {
			continue
		}
		if _, in := x.Charter.Config.Member(m.fsid); !in {
			break
		}
	}
	if len(last) > most {
		return nil
	}
	return last
}

const anewRemedy = "anvilfs node add -f MNT NODE makes it one, with new content"

// leave notes that m is no member any more: it keeps its line in the status only.
func (m *member) leave(remedy string) {
	m.expelled = true
	m.enter(NodeOffline, "not a member of the cluster any more", remedy)
}

// setRole stores a role for other systems; ours is in the charter.
func (c *conn) setRole(ctx context.Context, role ondisk.PFSType) error {
	t, err := c.vol.Begin(ctx)
	if err != nil {
		return err
	}
	if err := t.SetPFS(ctx, c.label, func(m *ondisk.InodeMeta) { m.PFSType = role }); err != nil {
		t.Abort()
		return err
	}
	return t.Commit(ctx)
}

// noMember is the answer to who names a member that the cluster does not have: it
// says which it has. The caller is the loop.
func (e *engine) noMember(name string) error {
	var have []string
	if law := e.charter(); law != nil && !e.solo {
		for _, in := range law.Config.Members {
			if m := e.byFsid(in.Fsid); m != nil {
				have = append(have, m.spec.Name)
			} else {
				have = append(have, in.Fsid.String()+" (missing)")
			}
		}
	} else {
		for _, m := range e.members {
			have = append(have, m.spec.Name)
		}
	}
	more := ""
	if m := e.byName(name); m != nil && m.expelled {
		more = " any more"
	}
	return fmt.Errorf("%s is no member%s; those that are: %s", name, more, strings.Join(have, ", "))
}
