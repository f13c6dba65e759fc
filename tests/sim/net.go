package sim

import (
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
)

// toNode sends a message: it may be lost, late or arrive twice.
func (w *world) toNode(p *prim, m *core.Message) {
	n := w.nodes[m.Node[0]-1]
	if m.Kind == core.Apply {
		w.check.sent(w, m)
	}
	life := n.life
	w.carry(func() bool { return p.cut[n.index] }, func() {
		if n.life != life {
			return // the connection ended with the process
		}
		w.logf("p%d > %s %v", p.index, nodeName(n.id), describe(m))
		n.step(core.Recv{From: p.index, Msg: m})
	})
}

func (w *world) toPrimary(n *node, p *prim, m *core.Message) {
	life, nlife := p.life, n.life
	var deliver func()
	deliver = func() {
		if p.life != life || p.core == nil {
			return
		}
		// What an honest node said stays true. Of one that forgets, nothing is
		// heard that it said before it was opened anew: as in a mount, that
		// connection is over.
		switch forgets := n.vol != nil && n.lies(); {
		case forgets && n.life != nlife:
			return
		case forgets && w.now < p.sleep:
			p.later(p.sleep-w.now, deliver)
			return
		}
		w.logf("p%d < %s %v", p.index, nodeName(n.id), describe(m))
		w.hears(n, m)
		goal, resyncing := p.goal[n.index]
		if resyncing && m.Kind == core.Ack && m.Pos == goal && m.Ballot == p.core.Ballot() {
			delete(p.goal, n.index)
			p.step(core.Joined{Node: n.id, Pos: goal})
			return
		}
		p.step(core.Recv{Msg: m})
	}
	w.carry(func() bool { return p.deaf[n.index] }, deliver)
}

func (w *world) carry(cut func() bool, deliver func()) {
	w.stats.Messages++
	if cut() || !w.calm && w.chance(w.lossy) {
		w.stats.Faults++
		return
	}
	w.after(w.delay(), deliver)
	if !w.calm && w.chance(w.lossy/2) {
		w.stats.Faults++
		w.after(w.delay()*5, deliver)
	}
}

func describe(m *core.Message) string {
	s := fmt.Sprintf("%v %d.%x", m.Kind, m.Ballot.Epoch, m.Ballot.Cand>>48)
	switch {
	case m.Txg != nil && m.Whole:
		s += fmt.Sprintf(" whole %v", m.Txg.Pos)
	case m.Txg != nil:
		s += fmt.Sprintf(" %v on %v", m.Txg.Pos, m.Txg.Prev)
	case m.Answer != nil:
		s += fmt.Sprintf(" at %v", m.Answer.Pos)
	case m.Kind == core.Ack:
		s += fmt.Sprintf(" %v", m.Pos)
	}
	return s
}

// faults plans the next fault.
func (w *world) faults() {
	wait := 20 + w.rng.IntN(400)
	if w.kind.full {
		wait *= 3 // it takes time to fill disks
	}
	w.after(time.Duration(wait)*time.Millisecond, func() {
		if w.calm {
			return
		}
		w.stats.Faults++
		switch {
		case w.kind.full && w.chance(0.3):
			w.stayAway(w.nodes[1]) // which decides how much is admitted
		case w.kind.damage >= heads && w.chance(0.2):
			w.spoil()
		default:
			w.strike(w.nodes[w.rng.IntN(len(w.nodes))], w.prims[w.rng.IntN(len(w.prims))])
		}
		w.faults()
	})
}

func (w *world) strike(n *node, p *prim) {
	switch w.rng.IntN(10) {
	case 0, 1:
		w.bounce(n, w.chance(0.5))
	case 2:
		power := w.chance(0.7)
		for _, n := range w.nodes { // everybody at once
			w.bounce(n, power)
		}
	case 3:
		p.stop()
		w.after(time.Duration(w.rng.IntN(500))*time.Millisecond, func() { p.restart() })
	case 4:
		p.cut[n.index] = !p.cut[n.index]
		p.reattach(n)
	case 5:
		p.deaf[n.index] = !p.deaf[n.index]
		p.reattach(n)
	case 6:
		p.step(core.Detach{Node: n.id})
		w.after(time.Duration(w.rng.IntN(300))*time.Millisecond, func() { p.reattach(n) })
	case 7:
		w.clog(p)
	case 8:
		p.suspend(time.Duration(100+w.rng.IntN(1500)) * time.Millisecond)
	case 9:
		w.spoil()
	}
}

// clog cuts a primary off from everybody, in both directions, for a while.
func (w *world) clog(p *prim) {
	for i := range p.cut {
		p.cut[i], p.deaf[i] = true, true
	}
	w.logf("p%d is clogged", p.index)
	w.after(time.Duration(100+w.rng.IntN(1000))*time.Millisecond, func() {
		clear(p.cut)
		clear(p.deaf)
		for _, n := range w.nodes {
			p.reattach(n)
		}
	})
}

// diskFault draws what a node's disk does next, and how long it takes.
func (w *world) diskFault(n *node, wait time.Duration) (time.Duration, diskFault) {
	switch x := w.rng.Float64(); {
	case x < 0.02:
		w.stats.Faults++
		return wait * 100, noFault
	case x < 0.024:
		w.stats.Faults++
		w.hang(n)
		return time.Duration(500+w.rng.IntN(3000)) * time.Millisecond, noFault
	case x < 0.034:
		return wait, failWrite + diskFault(w.rng.IntN(4))
	case x < 0.05 && n.damages(blocks), x < 0.15 && n.damages(heads):
		return wait, loseWrite + diskFault(w.rng.IntN(4))
	case x < 0.1 && n.damages(reads):
		return wait, failRead
	}
	return wait, noFault
}

// deadline is after how long a primary gives up a node whose disk hangs.
const deadline = 200 * time.Millisecond

// hang leaves a node's request out. Nothing it says is heard any more, and
// when the request returns it has to start anew.
func (w *world) hang(n *node) {
	life := n.life
	w.logf("%s hangs", nodeName(n.id))
	n.hung = true
	w.after(deadline, func() {
		if n.life != life {
			return
		}
		for _, p := range w.prims {
			p.step(core.Detach{Node: n.id})
		}
	})
}

func (p *prim) restart() {
	if p.core == nil && !p.w.calm {
		p.start()
	}
}

func (w *world) bounce(n *node, power bool) {
	if n.core == nil {
		return
	}
	n.crash(power)
	n.openLater(time.Duration(w.rng.IntN(600)) * time.Millisecond)
}
