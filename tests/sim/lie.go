package sim

import (
	"math/bits"
	"slices"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// With Options.Lies the disk of node 0 says of flushes that they are done, and
// keeps little of it when the power goes: txgs it acknowledged, and promises.
// One process wants to be primary, as with local members.
//
// What the liar alone had besides one other is not safe if that one is away as
// well when a state is adopted, even if it is back when the next one is. Where it answers, nothing may be lost, but for a last txg that more
// than a quorum could have had. A loss that nobody who answered could know of
// must be noticed when the one who knows comes back.

// liarWorld shapes the world for a liar.
func (w *world) liarWorld() (masters, prims int) {
	w.kind.change, w.kind.damage, w.lease = 0, none, 0
	return 3 + 2*w.rng.IntN(2), 1
}

// A lie is what the world knows of a liar.
type lie struct {
	told   map[*node]core.Position // the last txg that each node acknowledged
	voted  map[*node]vote          // whose promise the primary has
	met    map[ondisk.UUID]int     // the life in which the node was attached
	acked  map[core.Position]uint64
	blind  map[core.Position]core.Position // what was committed, and none knew of whom a barrier's election asked
	lost   []core.Position                 // committed, and dropped by who could not know
	forgot bool                            // at a power cut the liar lost a promise or a txg
}

type vote struct {
	ballot core.Ballot
	answer core.Answer
}

func newLie() lie {
	return lie{told: make(map[*node]core.Position), voted: make(map[*node]vote), met: make(map[ondisk.UUID]int), acked: make(map[core.Position]uint64),
		blind: make(map[core.Position]core.Position)}
}

func (n *node) lies() bool { return n.w.opt.Lies && n.index == 0 || n.damages(heads, reads, flushes) }

// lying reports whether some node may forget what it said.
func (w *world) lying() bool { return w.opt.Lies || w.opt.Volumes && w.kind.damage >= heads }

// liar is the node that may.
func (w *world) liar() *node {
	if w.opt.Lies {
		return w.nodes[0]
	}
	return w.nodes[w.victim]
}

// forget is a power cut of the liar.
func (d *imagined) forget() {
	n := d.n
	n.w.logf("%s forgets %v, is at %v", nodeName(n.id), d.durable.Pos, d.kept.Pos)
	if d.kept.Pos != d.durable.Pos || d.kept.Promised != d.durable.Promised {
		n.w.lie.forgot = true
		n.w.stats.Faults++
	}
	d.durable, d.cache, n.durable = d.kept, d.kept, d.kept
	n.promise = d.kept.Promised.Epoch
}

// has reports whether a node's disk contains pos, or the liar said so.
func (c *checker) has(n *node, pos core.Position) bool {
	return c.ancestor(pos, n.durable.Pos) || n.lies() && c.ancestor(pos, n.w.lie.told[n])
}

// hears takes note of what a node tells the primary.
func (w *world) hears(n *node, m *core.Message) {
	if !w.lying() {
		return
	}
	switch m.Kind {
	case core.Promised:
		if p := w.prims[0]; p.core.Phase() != core.Promising || w.now < p.sleep || !p.tally.there[n.id] {
			return // it does not count
		}
		if w.lie.voted[n].ballot != m.Ballot { // the first counts
			w.lie.voted[n] = vote{m.Ballot, *m.Answer}
		}
	case core.Ack:
		if !w.check.ancestor(m.Pos, w.lie.told[n]) {
			w.lie.told[n] = m.Pos
		}
	}
}

// unvoted: a node that was away before the primary had decided has no vote.
func (w *world) unvoted(p *prim, id ondisk.UUID) {
	if p.core.Phase() < core.Barrier {
		delete(w.lie.voted, w.nodes[id[0]-1])
	}
}

// excused reports whether top may have been dropped by whoever serves pos.
func (c *checker) excused(w *world, pos core.Position) bool {
	if !w.lying() || !w.lie.forgot {
		return false
	}
	top := c.top
	for top.T.Seq() == 0 && !c.prev[top].IsZero() {
		top = c.prev[top] // a barrier is empty
	}
	if c.ancestor(top, pos) {
		return true
	}
	for b := pos; b.T > c.top.T; b = c.prev[b] {
		if w.lie.blind[b] == c.top {
			w.lie.lost = append(w.lie.lost, c.top)
			w.logf("%v is lost: nobody whom %v's election asked had it", c.top, b)
			return true
		}
	}
	p := w.prims[0].core
	for _, n := range w.nodes {
		if n.lies() || w.lie.voted[n].ballot != p.Ballot() || !c.ancestor(c.top, w.lie.voted[n].answer.Pos) {
			continue
		}
		if cfg := c.charterAt(c.top).Config; c.ancestor(c.prev[c.top], pos) &&
			bits.OnesCount64(w.lie.acked[c.top]) > core.Quorum(len(core.Masters(cfg.Members))) {
			w.lie.lost = append(w.lie.lost, c.top)
			w.logf("the last txg %v is lost, acked by %b", c.top, w.lie.acked[c.top])
			return true
		}
		w.fail("I9: %v was dropped for %v, though %s was asked, which has it", c.top, pos, nodeName(n.id))
		return false
	}
	w.lie.lost = append(w.lie.lost, c.top)
	w.logf("%v is lost: nobody who answers has it", c.top)
	return true
}

// asked reports whether an honest node with top has a vote in this election.
func (w *world) asked(top core.Position) bool {
	ballot := w.prims[0].core.Ballot()
	return slices.ContainsFunc(w.nodes, func(n *node) bool {
		return !n.lies() && w.lie.voted[n].ballot == ballot && w.check.ancestor(top, w.lie.voted[n].answer.Pos)
	})
}

// judged checks what the primary holds against a node.
func (w *world) judged(n *node, f core.Flags) {
	switch {
	case n.spoilt || !w.opt.sound():
	case f == core.Tainted && n.lies():
		w.stats.Condemned++
	case f == core.Disputed && w.lie.forgot:
		w.stats.Refused++
	default:
		w.fail("I5: %s at %v is %v", nodeName(n.id), n.core.State().Pos, f)
	}
}

// refuses takes a refusal, which only a liar gives a reason for.
func (w *world) refuses(p *prim, err error) {
	if w.lie.forgot {
		w.logf("p%d refuses: %v", p.index, err)
		return
	}
	w.fail("p%d refuses: %v", p.index, err)
}

// undecided reports whether an operator must decide what becomes of the seed.
func (w *world) undecided() bool {
	p := w.prims[0].core
	if !w.lie.forgot || p == nil {
		return false
	}
	if p.Phase() == core.Stopped {
		return true
	}
	if p.Phase() == core.Barrier && !w.held(w.prims[0], p.Adopted()) {
		return true // the liar alone had what the barrier is built on
	}
	for _, n := range w.nodes {
		if n.core != nil && p.Judge(answerOf(n)) == core.Disputed {
			return true
		}
	}
	return false
}

// known: I8, a master that has less than the answer of another proves that it
// acknowledged is not copied to as if it were only behind.
func (w *world) known(p *prim, e core.Behind) {
	liar := w.liar()
	w.witness(p, e)
	if !w.lying() || e.Node != liar.id || e.Answer.Flags != 0 || w.lie.voted[liar].ballot != p.core.Ballot() {
		return
	}
	if liar.core == nil || liar.core.State().Pos != e.Answer.Pos || liar.life != w.lie.met[e.Node] {
		return // of an old greeting, or it is back and was not attached anew
	}
	for _, n := range w.nodes {
		if n == liar {
			continue
		}
		d := w.lie.voted[n].answer
		i := memberIndex(d.Charter, liar.id)
		if w.lie.voted[n].ballot != p.core.Ballot() || i < 0 || d.Pos.T.Seq() == 0 || d.Acked>>i&1 == 0 || e.Answer.Pos.T >= d.Pos.T-1 {
			continue
		}
		w.fail("I8: %s at %v votes, which %s at %v knows to have lost writes", nodeName(liar.id), e.Answer.Pos, nodeName(n.id), d.Pos)
	}
}

// witness: I9, who proves that what was lost was committed is not copied over.
func (w *world) witness(p *prim, e core.Behind) {
	n := w.nodes[e.Node[0]-1]
	if n.lies() || e.Answer.Flags != 0 || n.core == nil || n.core.State().Pos != e.Answer.Pos {
		return
	}
	at := e.Answer.Pos
	for at.T.Seq() == 0 && !at.IsZero() {
		at = w.check.prev[at] // a barrier proves nothing of what it is built on
	}
	for _, pos := range w.lie.lost {
		if at != pos && w.check.ancestor(pos, w.check.prev[at]) && !w.check.ancestor(pos, p.core.Head()) {
			w.fail("I9: %s at %v is copied over, which proves that the lost %v was committed", nodeName(n.id), e.Answer.Pos, pos)
		}
	}
}

func memberIndex(c *core.Charter, id ondisk.UUID) int {
	if c == nil {
		return -1
	}
	for i, m := range c.Config.Members {
		if m.Fsid == id {
			return i
		}
	}
	return -1
}
