package sim

import (
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A prim is a process that wants to be primary, a mount.
type prim struct {
	w     *world
	index int
	core  *core.Primary // nil while down
	life  int
	skew  time.Duration
	drift time.Duration
	sleep time.Duration // until then the process does not run
	cut   []bool        // messages to node i are lost
	deaf  []bool        // messages from node i are lost
	away  []bool        // node i does not take part: it waits for a copy, or has no room
	goal  map[int]core.Position
	held  int // resyncs that hold the txg boundary
	tally tally
}

func (p *prim) clock() time.Duration { return p.w.clock(p.skew, p.drift) }

func (p *prim) start() {
	w := p.w
	p.life++
	p.goal, p.held, p.sleep, p.tally = make(map[int]core.Position), 0, 0, newTally()
	p.skew, p.drift = w.newClock()
	for i := range p.away {
		p.away[i] = true
	}
	window := int64(1 + w.rng.IntN(10))
	if w.opt.Volumes {
		window *= 4000
	}
	p.core = core.NewPrimary(core.PrimaryOptions{
		Seed: w.rng.Uint64(), Make: cluster.CharterTxg, Wait: 200 * time.Millisecond,
		Retry: 100 * time.Millisecond, Lease: w.lease, Window: window, Omit: w.opt.Omit})
	for _, n := range w.nodes {
		p.reattach(n)
	}
	p.step(core.Campaign{})
	p.work(p.life)
}

func (p *prim) stop() {
	p.core = nil
	p.life++
}

// later runs f after a while, when the process is awake.
func (p *prim) later(d time.Duration, f func()) {
	life := p.life
	p.w.after(d, func() {
		switch {
		case p.life != life:
		case p.w.now < p.sleep:
			p.later(p.sleep-p.w.now, f)
		default:
			f()
		}
	})
}

// suspend stops the process without its knowledge.
func (p *prim) suspend(d time.Duration) {
	if p.w.now < p.sleep {
		return // what waits for its end keeps its order
	}
	p.w.logf("p%d sleeps for %v", p.index, d)
	p.sleep = p.w.now + d
}

func answerOf(n *node) core.Answer {
	d := n.core.State()
	return d.Answer(n.id)
}

// reattach stands for the greeting of a node that was reached; it is told
// after a while, when it may be outdated.
func (p *prim) reattach(n *node) {
	if p.core == nil || n.core == nil || n.taken != nil || n.hung || p.cut[n.index] || p.deaf[n.index] {
		return
	}
	nlife := n.life
	a := answerOf(n)
	p.later(p.w.delay(), func() {
		if n.life != nlife || n.taken != nil || n.hung {
			return
		}
		fresh := n.core.State().Pos == a.Pos // an old greeting proves nothing
		if fresh {                           // as a mount does
			own := a.Flags
			if a.Flags = p.core.Judge(a); a.Flags != own {
				p.w.judged(n, a.Flags)
			}
		}
		p.step(core.Attach{Answer: a})
	})
}

func (p *prim) detach(n *node) {
	p.later(p.w.delay(), func() {
		p.step(core.Detach{Node: n.id})
		p.reattach(n) // it may be back already
	})
}

func (p *prim) step(ev core.Event) {
	w := p.w
	if p.core == nil {
		return
	}
	if w.now < p.sleep {
		p.later(p.sleep-w.now, func() { p.step(ev) })
		return
	}
	switch ev := ev.(type) {
	case core.Attach:
		w.unvoted(p, ev.Answer.Node)
		p.away[ev.Answer.Node[0]-1] = false
		w.lie.met[ev.Answer.Node] = w.nodes[ev.Answer.Node[0]-1].life
		w.logf("p%d attaches %s at %v %v", p.index, nodeName(ev.Answer.Node), ev.Answer.Pos, ev.Answer.Flags)
	case core.Detach:
		w.unvoted(p, ev.Node)
		p.away[ev.Node[0]-1] = true
		w.logf("p%d detaches %s", p.index, nodeName(ev.Node))
	}
	p.tally.hears(p, ev)
	before := p.core.Phase()
	effects := p.core.Step(p.clock(), ev)
	p.tally.decides(p, before)
	for _, e := range effects {
		p.effect(e)
	}
	p.tick()
}

func (p *prim) effect(e core.Effect) {
	w := p.w
	switch e := e.(type) {
	case core.Send:
		w.toNode(p, e.Msg)
	case core.Committed:
		w.stats.Commits++
		w.check.committed(w, e.Txg.Pos)
		p.tally.commits(p, e.Txg)
	case core.Serve:
		w.stats.Elections++
		w.logf("p%d serves %v on %v", p.index, e.Pos, p.core.Adopted())
		w.check.serves(w, p, e.Pos)
	case core.Behind:
		p.away[e.Node[0]-1] = true
		if w.known(p, e); e.Answer.Flags&core.Disputed != 0 {
			break // an operator must decide
		}
		if w.opt.Volumes {
			p.copyTo(e)
		} else {
			p.resync(e, p.core.Ballot())
		}
	case core.Trouble:
		p.away[e.Node[0]-1] = true
		if w.kind.calm && (e.Kind != core.NoSpace || p.core.Charter().Config.IsMaster(e.Node)) {
			w.fail("calm: %v of %s", e.Kind, nodeName(e.Node))
		}
		if n := w.nodes[e.Node[0]-1]; e.Kind == core.NoSpace {
			p.retryFull(n)
		} else {
			p.retry(n)
		}
	case core.Refuse:
		w.refuses(p, e.Err)
	case core.Lost:
		if w.kind.calm {
			w.fail("calm: p%d lost its epoch", p.index)
		}
	case core.Waiting:
		w.logf("p%d waits: %v", p.index, e.Err)
	case core.Reconfigured:
		w.stats.Changes++
	}
}

// retry attaches a node again that had trouble.
func (p *prim) retry(n *node) {
	p.later(200*time.Millisecond, func() { p.reattach(n) })
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
		switch at2, ok := p.core.Deadline(); {
		case ok && at2 <= p.clock():
			p.step(core.Tick{})
		case ok && at2 == at: // the clock is slow
			p.tick()
		}
	})
}

// resync copies a whole state to a node with an imagined disk, if somebody
// within reach has it.
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
		waits := p.core.Phase() == core.Barrier && !p.core.Charter().Config.IsMaster(n.id)
		if charter == nil || waits || !w.held(p, pos) {
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

// reaches reports whether what the process asks of a node gets there.
func (p *prim) reaches(n *node) bool {
	return n.core != nil && !n.hung && !p.cut[n.index] && !p.deaf[n.index]
}

// held reports whether a node within reach has that state.
func (w *world) held(p *prim, pos core.Position) bool {
	return slices.ContainsFunc(w.nodes, func(n *node) bool {
		return n.core != nil && !p.cut[n.index] && w.check.ancestor(pos, n.core.State().Pos)
	})
}

// work proposes batches, reads, and now and then changes members.
func (p *prim) work(life int) {
	w := p.w
	w.after(time.Duration(5+w.rng.IntN(60))*time.Millisecond, func() {
		if p.life != life || p.core == nil {
			return
		}
		awake := w.now >= p.sleep
		if awake && w.opt.Volumes && w.chance(0.5) {
			p.read()
		}
		if awake && w.kind.snaps && w.chance(0.3) {
			p.copySnapshots()
		}
		if awake && w.trim && w.kind.full {
			p.dropClones()
		}
		switch {
		case !awake || !p.core.Free() || p.held > 0:
		case !w.calm && w.chance(w.kind.change):
			p.reconfigure(w.shuffled(p.core.Charter().Config.Members))
		default:
			p.propose()
		}
		p.work(life)
	})
}

// propose makes the next txg.
func (p *prim) propose() {
	w, head := p.w, p.core.Head()
	b, m, next, bytes, against := p.newBatch(p.core.NextT(), w.check.content[head])
	propose := core.Propose{Batch: b, Manifest: m, Size: bytes}
	if b, ok := b.(*chain.Batch); ok {
		propose.Snapshot = cluster.WantsSnapshot(b)
		if marked, law, ok := cluster.MarkRollback(b, p.core.Charter()); ok {
			propose = core.Propose{Batch: marked, Manifest: cluster.Manifest(marked), Size: bytes, Charter: law}
		}
	}
	p.step(propose)
	if now := p.core.Head(); now != head {
		w.check.holdsContent(now, next)
		p.granted(now, against)
	}
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
		ms[0].Role = ondisk.PFSMaster
	}
	return ms
}
