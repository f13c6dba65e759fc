package sim

import (
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
)

// A prim is a process that wants to be primary.
type prim struct {
	w     *world
	index int
	core  *core.Primary // nil while down
	life  int
	skew  time.Duration
	cut   []bool // messages to node i are lost
	deaf  []bool // messages from node i are lost
	goal  map[int]core.Position
}

func (p *prim) clock() time.Duration { return p.w.now + p.skew }

func (p *prim) start() {
	p.life++
	p.goal = make(map[int]core.Position)
	p.skew = time.Duration(p.w.rng.IntN(100000)) * time.Millisecond
	p.core = core.NewPrimary(core.PrimaryOptions{
		Seed: p.w.rng.Uint64(), Make: makeCharter, Wait: 200 * time.Millisecond,
		Retry: 100 * time.Millisecond, Lease: p.w.lease, Window: int64(1 + p.w.rng.IntN(10)), Omit: p.w.opt.Omit})
	for _, n := range p.w.nodes {
		p.reattach(n)
	}
	p.step(core.Campaign{})
	p.work(p.life)
}

func (p *prim) stop() {
	p.core = nil
	p.life++
}

// reattach stands for the greeting of a node that was reached; it is told
// after a while, when it may be outdated.
func (p *prim) reattach(n *node) {
	if p.core == nil || n.core == nil || p.cut[n.index] || p.deaf[n.index] {
		return
	}
	life, nlife := p.life, n.life
	d := n.core.State()
	a := core.Answer{Node: n.id, Pos: d.Pos, Charter: d.Charter, Promised: d.Promised.Epoch}
	p.w.after(p.w.delay(), func() {
		if p.life == life && n.life == nlife {
			p.step(core.Attach{Answer: a})
		}
	})
}

func (p *prim) detach(n *node) {
	life := p.life
	p.w.after(p.w.delay(), func() {
		if p.life == life {
			p.step(core.Detach{Node: n.id})
			p.reattach(n) // it may be back already
		}
	})
}

func (p *prim) step(ev core.Event) {
	if p.core == nil {
		return
	}
	w := p.w
	for _, e := range p.core.Step(p.clock(), ev) {
		switch e := e.(type) {
		case core.Send:
			w.toNode(p, e.Msg)
		case core.Committed:
			w.stats.Commits++
			w.check.committed(w, e.Txg.Pos)
		case core.Serve:
			w.stats.Elections++
			w.logf("p%d serves %v on %v", p.index, e.Pos, p.core.Adopted())
			w.check.serves(w, p, e.Pos)
		case core.Behind:
			p.resync(e, p.core.Ballot())
		case core.Trouble:
			p.retry(w.nodes[e.Node[0]-1])
		case core.Refuse:
			w.fail("p%d refuses: %v", p.index, e.Err)
		case core.Reconfigured:
			w.stats.Changes++
		}
	}
	p.tick()
}

// retry attaches a node again that said it had no space.
func (p *prim) retry(n *node) {
	life := p.life
	p.w.after(200*time.Millisecond, func() {
		if p.life == life {
			p.reattach(n)
		}
	})
}

func (p *prim) tick() {
	at, ok := p.core.Deadline()
	if !ok {
		return
	}
	life := p.life
	p.w.after(max(at-p.clock(), time.Millisecond), func() {
		if p.life != life || p.core == nil {
			return
		}
		if at2, ok := p.core.Deadline(); ok && at2 <= p.clock() {
			p.step(core.Tick{})
		}
	})
}

// resync copies a whole state to a node, if somebody within reach has it.
func (p *prim) resync(b core.Behind, ballot core.Ballot) {
	w, n, life := p.w, p.w.nodes[b.Node[0]-1], p.life
	w.after(time.Duration(5+w.rng.IntN(100))*time.Millisecond, func() {
		if p.life != life || p.core == nil || p.core.Ballot() != ballot || p.core.Phase() < core.Barrier {
			return
		}
		pos, charter := p.core.Adopted(), p.core.AdoptedCharter()
		if p.core.Phase() == core.Serving {
			pos = p.core.Committed()
			charter = w.check.charterAt(pos)
		}
		if charter == nil || !w.held(p, pos) {
			p.resync(b, ballot) // try again later
			return
		}
		w.stats.Resyncs++
		p.goal[n.index] = pos
		w.toNode(p, &core.Message{Kind: core.Apply, Node: n.id, Ballot: ballot, Whole: true,
			Txg: &core.Txg{Pos: pos, Charter: charter}})
		w.after(300*time.Millisecond, func() {
			if p.life == life && p.goal[n.index] == pos {
				p.resync(b, ballot)
			}
		})
	})
}

// held reports whether a node within reach has that state.
func (w *world) held(p *prim, pos core.Position) bool {
	return slices.ContainsFunc(w.nodes, func(n *node) bool {
		return n.core != nil && !p.cut[n.index] && w.check.ancestor(pos, n.core.State().Pos)
	})
}

// work proposes batches and now and then a change of members.
func (p *prim) work(life int) {
	w := p.w
	w.after(time.Duration(5+w.rng.IntN(60))*time.Millisecond, func() {
		if p.life != life || p.core == nil {
			return
		}
		switch {
		case !p.core.Free():
		case !w.calm && w.chance(0.02):
			p.step(core.Reconfigure{Members: w.shuffled(p.core.Charter().Config.Members)})
		default:
			b, m := w.newBatch()
			p.step(core.Propose{Batch: b, Manifest: m, Size: 1})
		}
		p.work(life)
	})
}

// shuffled swaps the roles of two members, at times only drops one from the
// masters or adds one.
func (w *world) shuffled(ms []core.Member) []core.Member {
	ms = slices.Clone(ms)
	i, j := w.rng.IntN(len(ms)), w.rng.IntN(len(ms))
	if w.chance(0.5) {
		ms[i].Role, ms[j].Role = ms[j].Role, ms[i].Role
	} else if n := len(core.Masters(ms)); n > 2 || ms[i].Role != ms[0].Role {
		ms[i].Role = ms[j].Role
	}
	if len(core.Masters(ms)) == 0 {
		ms[0].Role = 6
	}
	return ms
}
