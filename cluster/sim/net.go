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
	life := p.life
	w.carry(func() bool { return p.deaf[n.index] }, func() {
		if p.life != life || p.core == nil {
			return
		}
		w.logf("p%d < %s %v", p.index, nodeName(n.id), describe(m))
		goal, resyncing := p.goal[n.index]
		if resyncing && m.Kind == core.Ack && m.Pos == goal {
			delete(p.goal, n.index)
			if m.Ballot == p.core.Ballot() {
				p.step(core.Joined{Node: n.id, Pos: goal})
				return
			}
		}
		p.step(core.Recv{Msg: m})
	})
}

func (w *world) carry(cut func() bool, deliver func()) {
	w.stats.Messages++
	if cut() || !w.calm && w.chance(w.lossy) {
		return
	}
	w.after(w.delay(), deliver)
	if !w.calm && w.chance(w.lossy/2) {
		w.after(w.delay()*5, deliver)
	}
}

// faults plans the next fault.
func (w *world) faults() {
	w.after(time.Duration(20+w.rng.IntN(400))*time.Millisecond, func() {
		if w.calm {
			return
		}
		w.stats.Faults++
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		p := w.prims[w.rng.IntN(len(w.prims))]
		switch w.rng.IntN(7) {
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
		}
		w.faults()
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
	w.after(time.Duration(w.rng.IntN(600))*time.Millisecond, func() {
		if n.core == nil {
			n.open()
		}
	})
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
