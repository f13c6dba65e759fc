package core

import (
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// maxSeq is where an epoch ends: the primary elects itself anew.
const maxSeq = 1 << 31

func (p *Primary) propose(now time.Duration, ev Propose) []Effect {
	if !p.Free() {
		return []Effect{Rejected{}}
	}
	return p.launch(now, ev)
}

// start makes a txg that stores a charter. force, if not nil, is counted in
// addition to it until the txg is committed.
func (p *Primary) start(now time.Duration, c, force *Charter) []Effect {
	p.inForce = force
	batch, manifest, size := p.opt.Make(p.NextT(), c)
	return p.launch(now, Propose{Batch: batch, Manifest: manifest, Size: size, Charter: c})
}

func (p *Primary) launch(now time.Duration, ev Propose) []Effect {
	version := p.charter.Config.Version
	if ev.Charter != nil {
		version = ev.Charter.Config.Version
		p.charter = ev.Charter
	}
	T := p.NextT()
	x := &Txg{Pos: Position{T, NextH(p.head.H, T, version, ev.Manifest)},
		Prev: p.head, Batch: ev.Batch, Size: ev.Size, Charter: ev.Charter, Snapshot: ev.Snapshot, Acked: p.ackedBy(T, p.head, p.charter)}
	p.head, p.flight = x.Pos, x
	if n := len(p.window); n > 0 && p.window[n-1].rollsBack() {
		// Only who has the snapshot can replay a rollback. Who was not sent it
		// by now may have come without: it is brought in sync by a copy.
		p.window, p.kept = nil, 0
	}
	p.window = append(p.window, x)
	p.kept += x.Size
	p.trim()
	var out []Effect
	for i := range p.peers {
		out = append(out, p.feed(now, &p.peers[i])...)
	}
	return out
}

// wantsSnapshot reports whether the txg takes blocks from a snapshot, or puts
// back all of its content: a node that lacks it fails, and is sent it once.
func (x *Txg) wantsSnapshot() bool { return x.Snapshot || x.rollsBack() }

// rollsBack reports whether the txg put back the content of an older one.
func (x *Txg) rollsBack() bool {
	if x.Charter == nil {
		return false
	}
	marks := x.Charter.Lineage.Rollbacks
	return len(marks) > 0 && marks[len(marks)-1].At == x.Pos.T
}

// feed sends a node the txg that follows its position, if there is one and
// it may have it: masters get txgs at once, others when committed.
func (p *Primary) feed(now time.Duration, n *peer) []Effect {
	if !n.attached || n.out != nil || n.behind || n.pos == p.head && n.flags == 0 {
		return nil
	}
	if n.flags == 0 {
		for _, x := range p.window {
			if x.Prev != n.pos || x.Pos.T == n.refused && x != p.flight {
				continue // what failed may be that it lacks the snapshot: a copy does not ask for it
			}
			if x == p.flight && !p.charter.Config.IsMaster(n.id) && !p.countsAsMaster(n.id) {
				return nil
			}
			n.out = x
			p.resend = now + p.opt.Retry
			return []Effect{p.send(now, n, &Message{Kind: Apply, Txg: x, Committed: p.done.T})}
		}
	}
	n.behind = true
	a := *n.answer
	a.Pos, a.Flags = n.pos, n.flags
	if p.opt.Omit&OmitProven == 0 && p.charter.Lineage.denies(p.head, &a) {
		n.flags, a.Flags = Disputed, Disputed // it could not be asked in the election
	}
	common := ondisk.Tid(0)
	if n.flags == 0 && a.Charter != nil {
		common = CommonTid(&a.Charter.Lineage, n.pos, &p.charter.Lineage, p.head)
	}
	return []Effect{Behind{n.id, a, common, p.urgent()}}
}

func (p *Primary) countsAsMaster(id ondisk.UUID) bool {
	return p.inForce != nil && p.inForce.Config.IsMaster(id)
}

// soft reports whether a node is one that nobody waits for.
func (p *Primary) soft(id ondisk.UUID) bool {
	m, ok := p.charter.Config.Member(id)
	return ok && m.Role.Soft()
}

// urgent reports whether the barrier waits for copies of the adopted state.
func (p *Primary) urgent() bool {
	return p.phase == Barrier && p.flight != nil && p.flight.Pos.T.Seq() == 0
}

func (p *Primary) joined(now time.Duration, ev Joined) []Effect {
	n := p.peer(ev.Node)
	if n == nil || !n.attached || p.phase != Barrier && p.phase != Serving {
		return nil
	}
	n.behind, n.flags, n.out, n.pos, n.acked = false, 0, nil, ev.Pos, ev.Pos.T
	n.answer = &Answer{Node: n.id, Pos: ev.Pos, Charter: p.charter, Incarnation: n.answer.Incarnation}
	return p.feedAndCount(now, n)
}

func (p *Primary) receive(now time.Duration, m *Message) []Effect {
	n := p.peer(m.Node)
	if n == nil {
		return nil
	}
	switch m.Kind {
	case PreVoted:
		return p.preVoted(now, n, m)
	case Promised:
		return p.promised(now, n, m)
	case Refused:
		return p.refused(now, n, m)
	case Stale:
		return p.stale(now, n, m)
	}
	if p.phase != Barrier && p.phase != Serving || m.Ballot != p.ballot || !n.attached {
		return p.troubleBefore(n, m)
	}
	switch m.Kind {
	case Ack:
		return p.ack(now, n, m.Pos)
	case Need:
		if n.out == nil || n.out.Prev != m.Pos {
			return nil // of an older message
		}
		n.out, n.pos, n.answer = nil, m.Answer.Pos, m.Answer
		return p.feed(now, n)
	case Failed, NoSpace:
		if n.out != nil && n.out.wantsSnapshot() {
			n.refused = n.out.Pos.T
		}
		n.attached, n.out = false, nil
		return []Effect{Trouble{n.id, m.Kind}}
	case BeatAck:
		// One that asks only whether the epoch is still ours grants nothing.
		if m.Lease >= p.opt.Lease && (!n.hasBeat || m.Sent > n.beat) {
			n.beat, n.hasBeat = m.Sent, true
		}
	}
	return nil
}

// troubleBefore handles a node that failed during the election.
func (p *Primary) troubleBefore(n *peer, m *Message) []Effect {
	if m.Kind != Failed && m.Kind != NoSpace || m.Ballot != p.ballot || !n.attached {
		return nil
	}
	n.attached, n.vote = false, false
	return []Effect{Trouble{n.id, m.Kind}}
}

func (p *Primary) stale(now time.Duration, n *peer, m *Message) []Effect {
	p.hear(n.flags, m.Heard)
	if n.flags != 0 || m.Ballot != p.ballot || p.phase != Barrier && p.phase != Serving {
		return nil
	}
	return p.lose(now, m.Heard)
}

func (p *Primary) ack(now time.Duration, n *peer, pos Position) []Effect {
	if n.out != nil && (n.out.Pos == pos || n.out.Pos.T < pos.T) {
		n.out = nil // done, or before what is done
	}
	if n.behind {
		return nil
	}
	if pos.T <= n.pos.T && n.pos.T.Epoch() == p.ballot.Epoch {
		return p.feed(now, n) // an older fact, which it may have been waited for
	}
	n.pos, n.acked = pos, pos.T
	n.answer = &Answer{Node: n.id, Pos: pos, Charter: p.charter, Incarnation: n.answer.Incarnation}
	return p.feedAndCount(now, n)
}

// feedAndCount goes on after a node came to a new position.
func (p *Primary) feedAndCount(now time.Duration, n *peer) []Effect {
	var out []Effect
	if x := p.flight; x != nil && p.counts(func(n *peer) bool { return n.pos == x.Pos }) {
		out = p.commit(now, x)
	}
	return append(out, p.feed(now, n)...)
}

func (p *Primary) commit(now time.Duration, x *Txg) []Effect {
	p.flight, p.done, p.inForce = nil, x.Pos, nil
	out := []Effect{Committed{x}}
	if p.phase == Barrier {
		out = append(out, p.open()...)
	}
	for _, soft := range []bool{false, true} { // soft nodes come last
		for i := range p.peers {
			if n := &p.peers[i]; p.soft(n.id) == soft {
				out = append(out, p.feed(now, n)...)
			}
		}
	}
	if x.Charter != nil && x.Pos.T.Seq() != 0 && p.charter.Config.Joint == nil {
		out = append(out, Reconfigured{&p.charter.Config})
	}
	if x.Pos.T.Seq() >= maxSeq {
		out = append(out, Lost{p.heard})
		return append(out, p.campaign(now)...)
	}
	return append(out, p.goOn(now)...)
}

func (p *Primary) reconfigure(now time.Duration, members []Member) []Effect {
	p.pending = slices.Clone(members)
	return p.goOn(now)
}

// goOn takes the next step of a change of members, if one is wanted or was
// left half way.
func (p *Primary) goOn(now time.Duration) []Effect {
	if p.phase != Serving || p.flight != nil || p.opt.Solo {
		return nil
	}
	old := p.charter
	c := &Charter{*old.Config.Clone(), old.Lineage, old.Ops}
	switch {
	case old.Config.Joint != nil: // final
		c.Config.Joint = nil
		c.Config.Version++
		return p.start(now, c, old)
	case p.pending != nil:
		if !slices.Equal(Masters(p.pending), Masters(old.Config.Members)) {
			c.Config.Joint = c.Config.Members
		}
		c.Config.Members, p.pending = p.pending, nil
		c.Config.Version++
		return p.start(now, c, old)
	}
	return nil
}

// trim drops the oldest txgs of the window while it is too large.
func (p *Primary) trim() {
	for p.kept > p.opt.Window && len(p.window) > 1 {
		p.kept -= p.window[0].Size
		p.window[0] = nil // the array behind the slice lives on
		p.window = p.window[1:]
	}
}

// Window returns the committed txgs that are kept for replay, oldest first.
func (p *Primary) Window() []*Txg {
	if n := len(p.window); n > 0 && p.window[n-1] == p.flight {
		return slices.Clone(p.window[:n-1])
	}
	return slices.Clone(p.window)
}

// keepGoing sends again what got no answer, and beats.
func (p *Primary) keepGoing(now time.Duration) []Effect {
	var out []Effect
	if now >= p.resend {
		p.resend = now + p.opt.Retry
		for i := range p.peers {
			n := &p.peers[i]
			switch {
			case !n.attached:
			case n.out != nil && now-n.sent >= p.opt.Retry:
				out = append(out, p.send(now, n, p.again(n.out)))
			case n.out == nil && p.phase == Barrier: // is the epoch still ours?
				out = append(out, p.send(now, n, &Message{Kind: Beat, Sent: now}))
			}
		}
	}
	if p.opt.Lease > 0 && p.phase == Serving && now >= p.nextBeat {
		p.nextBeat = now + p.opt.Lease/4
		for i := range p.peers {
			if n := &p.peers[i]; n.attached && n.out == nil {
				out = append(out, p.send(now, n, &Message{Kind: Beat, Sent: now, Lease: p.opt.Lease, Committed: p.done.T}))
			}
		}
	}
	return out
}

// again is the same txg to the byte, unless the rule is left out.
func (p *Primary) again(x *Txg) *Message {
	if p.opt.Omit&OmitImmutable != 0 && x.Charter == nil {
		c := *x
		c.Pos.H[0] ^= 0xff
		x = &c
	}
	return &Message{Kind: Apply, Txg: x, Committed: p.done.T}
}
