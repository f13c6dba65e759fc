package sim

import (
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A checker knows everything that was ever made and compares.
type checker struct {
	prev    map[core.Position]core.Position
	charter map[core.Position]*core.Charter
	content map[core.Position]*content // with volumes
	byT     map[ondisk.Tid]core.Position
	top     core.Position        // the last committed txg of all
	voters  map[ondisk.UUID]bool // of every charter there was
	dirty   bool                 // a disk or top changed since the last step
}

func (c *checker) init() {
	c.prev = make(map[core.Position]core.Position)
	c.charter = make(map[core.Position]*core.Charter)
	c.content = make(map[core.Position]*content)
	c.voters = make(map[ondisk.UUID]bool)
	c.byT = make(map[ondisk.Tid]core.Position)
}

func (c *checker) first(pos core.Position, ch *core.Charter) {
	c.prev[pos], c.charter[pos], c.byT[pos.T], c.top = core.Position{}, ch, pos, pos
	c.content[pos] = &content{}
	c.enfranchise(ch)
}

// enfranchise takes note of who votes.
func (c *checker) enfranchise(ch *core.Charter) {
	for _, set := range ch.Config.Sets() {
		for _, id := range set {
			c.voters[id] = true
		}
	}
}

// holdsContent says what a reader must find at pos.
func (c *checker) holdsContent(pos core.Position, x *content) { c.content[pos] = x }

// sent: I3 and I7, one T has one batch and one hash.
func (c *checker) sent(w *world, m *core.Message) {
	x := m.Txg
	if m.Whole {
		return
	}
	if have, ok := c.byT[x.Pos.T]; ok && have != x.Pos && !w.lie.forgot { // a forgotten promise is given twice
		w.fail("I3/I7: txg %v was also sent as %v", x.Pos, have)
	}
	c.byT[x.Pos.T] = x.Pos
	if x.Charter != nil {
		c.enfranchise(x.Charter)
	}
	c.record(w, x)
}

func (c *checker) record(w *world, x *core.Txg) {
	if have, ok := c.prev[x.Pos]; ok && have != x.Prev {
		w.fail("I3: %v follows %v and %v", x.Pos, have, x.Prev)
	}
	if _, ok := c.prev[x.Pos]; !ok && x.Pos.T.Seq() == 0 && w.lying() && !w.asked(c.top) {
		w.lie.blind[x.Pos] = c.top
	}
	c.prev[x.Pos], w.lie.acked[x.Pos] = x.Prev, x.Acked
	if c.content[x.Pos] == nil {
		c.content[x.Pos] = c.content[x.Prev] // a charter: holdsContent follows otherwise
	}
	if _, ok := c.charter[x.Pos]; !ok {
		c.charter[x.Pos] = x.Charter
	}
}

// ancestor reports whether the history of b contains a.
func (c *checker) ancestor(a, b core.Position) bool {
	for b.T > a.T {
		b = c.prev[b]
	}
	return a == b
}

// charterAt is the charter in force at pos.
func (c *checker) charterAt(pos core.Position) *core.Charter {
	for !pos.IsZero() {
		if ch := c.charter[pos]; ch != nil {
			return ch
		}
		pos = c.prev[pos]
	}
	return nil
}

// committed: I1, of two committed txgs one's history contains the other.
func (c *checker) committed(w *world, pos core.Position) {
	switch {
	case c.ancestor(c.top, pos):
		c.top = pos
	case c.ancestor(pos, c.top):
	case c.excused(w, pos):
		c.top = pos
	default:
		w.fail("I1: %v and %v are both committed", c.top, pos)
	}
	c.holds(w, pos)
}

// serves: I6 and, where it is the only thing that can go wrong, I9.
func (c *checker) serves(w *world, p *prim, pos core.Position) {
	if !c.ancestor(c.top, pos) && !c.ancestor(pos, c.top) {
		w.fail("I9: p%d serves %v without the committed %v", p.index, pos, c.top)
	}
	c.holds(w, pos)
	if c.ancestor(c.top, pos) {
		c.top = pos // shown from now on: may never be lost
	}
}

// holds: I2, a quorum's disks contain it.
func (c *checker) holds(w *world, pos core.Position) {
	if !w.lie.forgot && !c.onQuorum(w, pos) {
		w.fail("I2: committed %v is not on a quorum of %v", pos, c.charterAt(pos).Config)
	}
}

func (c *checker) onQuorum(w *world, pos core.Position) bool {
	return c.charterAt(pos).Config.HasQuorum(func(id ondisk.UUID) bool {
		return c.has(w.nodes[id[0]-1], pos)
	})
}

// changed says that a disk is not what it was.
func (c *checker) changed() { c.dirty = true }

// answer: I4 and I5, what is told is durable.
func (c *checker) answer(w *world, n *node, m *core.Message) {
	switch m.Kind {
	case core.Promised:
		if n.durable.Promised.Epoch < m.Ballot.Epoch || m.Answer.Pos != n.durable.Pos {
			w.fail("I5: %s promises %v at %v, durable are %v at %v", nodeName(n.id), m.Ballot, m.Answer.Pos, n.durable.Promised, n.durable.Pos)
		}
		n.promise = max(n.promise, m.Ballot.Epoch)
	case core.Ack:
		if !c.ancestor(m.Pos, n.durable.Pos) {
			w.fail("I5: %s acknowledges %v, durable is %v", nodeName(n.id), m.Pos, n.durable.Pos)
		}
		if m.Pos.T.Epoch() == m.Ballot.Epoch { // a txg raises the promise as an answer does
			n.promise = max(n.promise, m.Ballot.Epoch)
		}
	}
}

// durable: I4, a job of an epoch below a promise that was told may not end.
func (c *checker) durable(w *world, n *node, j *core.Job) {
	if j.Ballot.Epoch < n.promise {
		w.fail("I4: %s makes %v durable after promising %d", nodeName(n.id), j.Ballot, n.promise)
	}
}

// step runs after each event.
func (c *checker) step(w *world) {
	if c.dirty {
		c.dirty = false
		c.holds(w, c.top)
	}
	for _, n := range w.nodes {
		if n.durable.Promised.Epoch < n.promise {
			w.fail("I4: promise of %s sank from %d to %v", nodeName(n.id), n.promise, n.durable.Promised)
		}
	}
	c.followers(w)
	if w.lease == 0 {
		return
	}
	for _, p := range w.prims {
		if p.core != nil && p.core.MayServe(p.clock()) && !c.ancestor(c.top, p.core.Committed()) {
			w.fail("I9: p%d may serve %v, committed is %v", p.index, p.core.Committed(), c.top)
		}
	}
}

// followers: I22, who does not vote has nothing that is not committed. A node
// that voted once may keep what it had then.
func (c *checker) followers(w *world) {
	for _, n := range w.nodes {
		if n.voted = n.voted || c.voter(n.id); n.voted || n.followed == n.durable.Pos {
			continue
		}
		if n.followed = n.durable.Pos; !n.spoilt && !c.ancestor(n.followed, c.top) && !c.onQuorum(w, n.followed) {
			w.fail("I22: %s, no master, is at %v, committed is %v", nodeName(n.id), n.durable.Pos, c.top)
		}
	}
}

// voter reports whether a node is a master in any charter there was.
func (c *checker) voter(id ondisk.UUID) bool { return c.voters[id] }
