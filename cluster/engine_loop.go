package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// post has the loop run f. It never blocks; false: the engine is closed.
func (e *engine) post(f func()) bool {
	e.qmu.Lock()
	defer e.qmu.Unlock()
	select {
	case <-e.quit:
		return false
	default:
	}
	e.queue = append(e.queue, f)
	select {
	case e.wake <- struct{}{}:
	default:
	}
	return true
}

// ask has the loop run f and publish what it did; false: the engine is closed.
func (e *engine) ask(f func()) bool {
	done := make(chan struct{})
	if !e.post(func() { f(); e.refresh(); close(done) }) {
		return false
	}
	select {
	case <-done:
	case <-e.ended:
	}
	return e.ran(done)
}

// ran reports whether f of an ask was run before the loop ended: it may have
// been what ended it, and then both channels are closed.
func (e *engine) ran(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// loop runs what is posted, and looks after deadlines.
func (e *engine) loop() {
	defer close(e.ended)
	look := min(max(e.deadline/8, 10*time.Millisecond), time.Second)
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-e.wake:
		case <-ticker.C:
			e.lookForHung()
			e.tick()
			e.noteReadable()
			e.sealIdle()
		case <-e.quit:
			return
		}
		for {
			e.qmu.Lock()
			todo := e.queue
			e.queue = nil
			e.qmu.Unlock()
			if len(todo) == 0 {
				break
			}
			for _, f := range todo {
				f()
			}
		}
		e.refresh()
	}
}

func (e *engine) tick() {
	if e.primary == nil {
		return
	}
	if at, ok := e.primary.Deadline(); ok && at <= e.now() {
		e.step(core.Tick{})
	}
}

// step gives the primary an event and does what it asks for.
func (e *engine) step(ev core.Event) {
	effects := e.primary.Step(e.now(), ev)
	e.noteEpoch()
	for _, eff := range effects {
		e.effect(eff)
	}
}

// noteEpoch remembers the epochs that this primary led, and finds out when it
// was elected on top of one that it did not: the members were elsewhere.
// Caches, overlays and the batch under way are of another past then.
func (e *engine) noteEpoch() {
	if p := e.primary.Phase(); p != core.Barrier && p != core.Serving {
		return
	}
	base, epoch := e.primary.Adopted().T.Epoch(), e.primary.Ballot().Epoch
	if len(e.led) > 0 && !e.led[epoch] && !e.led[base] && !e.solo && !e.past && e.everServed {
		e.past = true
		e.log.Error("the members were mounted and changed elsewhere: nothing is served any more; unmount, and mount anew",
			"adopted", e.primary.Adopted().T.String())
	}
	e.led[epoch] = true
}

func (e *engine) effect(eff core.Effect) {
	switch eff := eff.(type) {
	case core.Send:
		if m := e.byFsid(eff.Msg.Node); m != nil && m.conn != nil {
			m.conn.deliver(e.now(), core.Recv{Msg: eff.Msg})
		}
	case core.Committed:
		e.noteCommit(eff.Txg)
		e.committedTxg(eff.Txg)
	case core.Serve:
		e.everServed = true
		if e.solo {
			e.base = eff.Pos // there is no barrier
		}
		e.log.Info("serving", "at", eff.Pos.T.String(), "epoch", e.primary.Ballot().Epoch)
		e.served()
	case core.Lost:
		e.log.Warn("another primary was promised a higher epoch; electing again", "epoch", eff.Heard)
	case core.Refuse:
		e.refused = e.conflict(eff.Err)
	case core.Waiting:
		e.waiting = eff.Err
	case core.Behind:
		e.behind(eff)
	case core.Trouble:
		e.trouble(eff)
	case core.QuorumChanged:
		if !eff.Have {
			e.log.Error("no quorum: writing stops until members return")
			e.lookForAbsent()
			e.copyNext()
		}
	case core.Reconfigured:
		e.reconfigured(eff.Config)
	}
}

func (e *engine) conflict(err error) error {
	var clash *core.Conflict
	if errors.As(err, &clash) {
		return refusef("%s and %s have different histories: %v and %v", e.nameOf(clash.A), e.nameOf(clash.B), clash.PosA, clash.PosB)
	}
	return err
}

func (e *engine) byFsid(id ondisk.UUID) *member {
	for _, m := range e.members {
		if m.fsid == id {
			return m
		}
	}
	return nil
}

// attach tells the primary of a member that was opened or came back.
func (e *engine) attach(m *member, d core.Durable) {
	c := m.conn
	if e.returns(c) {
		e.noteBranch(m)
		return
	}
	if e.solo {
		d.Pos = e.soloPosition(d.Pos)
		c.setPosition(d.Pos)
	}
	if c.node == nil {
		c.start(e.now(), d, func(msg *core.Message) {
			e.post(func() {
				if m.conn == c {
					e.step(core.Recv{Msg: msg})
				}
			})
		})
	}
	a := answerOf(c, d)
	flags := e.primary.Judge(a)
	switch {
	case flags == a.Flags:
	case flags&core.Tainted != 0:
		c.setReason(whyLost)
	case flags&core.Disputed != 0:
		c.setReason(whyDisputed)
	}
	if m.discarded && (flags == core.Foreign || flags == core.Disputed) {
		flags = core.Tainted // the operator gave up the change: resync may drop it
	}
	m.flags, a.Flags = flags, flags
	m.enter(NodeBehind, "", "")
	e.step(core.Attach{Answer: a})
}

// soloPosition adds the history to the position of a single copy, which has
// no place for it: there is but one writer, so the number says it all.
func (e *engine) soloPosition(pos Position) Position {
	for _, known := range []Position{e.primary.Head(), e.primary.Committed()} {
		if known.T == pos.T {
			return known
		}
	}
	return pos
}

// Why members do not count that say nothing against themselves.
const (
	whyLost     = "it has lost writes it had acknowledged, or was restored from an image"
	whyDisowned = "its record of the cluster is not that of others at the same txg"
	whyDisputed = "it has changes that were committed elsewhere, without the others: there are two histories"
)

// behind takes note that a member needs a copy. In an election the engine
// makes copies itself, for nothing is served before; later package sync does.
func (e *engine) behind(b core.Behind) {
	m := e.byFsid(b.Node)
	if m == nil || m.conn == nil {
		return
	}
	m.flags = b.Answer.Flags
	switch {
	case m.flags&(core.Foreign|core.Disputed) != 0:
		if m.conn.reason() == "" {
			m.conn.setReason(whyDisputed)
		}
		m.enter(NodeForeign, m.conn.reason(), "anvilfs node discard MNT NODE drops that change")
		return
	case m.flags&core.Tainted != 0:
		if m.conn.reason() == "" { // the others say so, in an election
			m.conn.setReason(whyLost)
			if b.Answer.Pos.T >= e.primary.Adopted().T {
				m.conn.setReason(whyDisowned)
			}
		}
		m.enter(NodeTainted, m.conn.reason(), "")
	default:
		m.enter(NodeResync, "", "")
	}
	if b.Urgent && e.primary.Charter().Config.IsMaster(b.Node) && m.flags == 0 {
		m.urgent = true
		e.copyNext()
	}
}

// trouble handles a member that said it cannot write.
func (e *engine) trouble(t core.Trouble) {
	m := e.byFsid(t.Node)
	if m == nil || m.conn == nil {
		return
	}
	if t.Kind == core.NoSpace {
		m.enterFull()
		e.retryFull(m)
		return
	}
	if d, ok := m.conn.damaged(e.now()); ok {
		e.step(core.Detach{Node: m.fsid})
		e.attach(m, d)
		return
	}
	e.fail(m, m.conn.reason())
}

// fail gives up a member's conn and plans to reopen it.
func (e *engine) fail(m *member, why string) {
	c := m.conn
	if c == nil {
		return
	}
	e.log.Warn("member failed", "member", m.spec.Name, "err", why)
	m.conn, m.hold = nil, nil
	m.enter(NodeFailed, why, "")
	c.mute()
	e.step(core.Detach{Node: m.fsid})
	e.closeLater(m, c.close)
}

// closeLater closes the conn that m had, however long it takes; only then m is
// opened again, since a late write would land on newer data.
func (e *engine) closeLater(m *member, how func() error) {
	closed := make(chan struct{})
	m.closing, m.closed = true, closed
	e.tasks.Go(func() {
		err := how()
		defer close(closed)
		e.post(func() {
			m.closing = false
			if err != nil {
				e.log.Debug("closing a failed member", "member", m.called(), "err", err)
			}
			if m.state == NodeHung {
				m.enter(NodeFailed, "its requests have returned", "")
			}
			if m.state == NodeFailed {
				e.reopenLater(m, nil)
			}
		})
	})
}

// lookForHung gives up members with a request out beyond the deadline, whoever
// made it: the protocol, a reader, a resync. Their conn stays, with the device's
// lock, until the request returns.
func (e *engine) lookForHung() {
	for _, m := range e.members {
		c := m.conn
		if c == nil || e.o.ReadOnly {
			continue
		}
		if err := c.vol.Failed(); err != nil && m.hold == nil {
			// Found by others than the protocol, which may be idle for long.
			e.fail(m, err.Error())
			continue
		}
		if m.meter.Oldest() < e.deadline {
			continue
		}
		why := fmt.Sprintf("a request has been out for %v", e.deadline)
		e.log.Error("member hangs", "member", m.spec.Name)
		m.conn, m.hold = nil, nil
		m.enter(NodeHung, why, "it is opened again once the request returns")
		c.mute()
		e.step(core.Detach{Node: m.fsid})
		e.closeLater(m, c.close)
	}
}

// enterFull says why a member is full: it may be damage that keeps its space from
// being found.
func (m *member) enterFull() {
	if m.unreadable {
		m.enter(NodeFull, "what is in use on it cannot be read, so that nothing can be freed", "take it offline, and have it replaced by itself")
		return
	}
	m.enter(NodeFull, m.conn.reason(), "free space on it, grow it, or replace it by a larger one")
}

// retryFull attaches a member again after space was looked for.
func (e *engine) retryFull(m *member) {
	c := m.conn
	e.step(core.Detach{Node: m.fsid})
	wait := max(m.backoff, reopenFirst)
	m.backoff = min(2*wait, reopenMax)
	e.tasks.Go(func() {
		err := c.MakeRoom(e.ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			e.log.Warn("no space could be freed", "member", m.called(), "err", err)
		}
		select {
		case <-time.After(wait):
		case <-e.ctx.Done():
			return
		}
		e.post(func() {
			m.unreadable = m.conn == c && errors.Is(err, ondisk.ErrCorrupt)
			if m.conn == c && m.state == NodeFull {
				e.attach(m, c.state())
			}
		})
	})
}
