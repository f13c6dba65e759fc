package sim

import (
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A tally is what a primary was told, counted anew by the world: I8. A node has
// one vote, whoever says how often that it gave it; only clean masters of the
// configuration count, of both while members change.
type tally struct {
	ballot core.Ballot
	there  map[ondisk.UUID]bool          // attached: from others nothing is taken
	votes  map[ondisk.UUID]bool          // a clean one; for that ballot
	at     map[ondisk.UUID]core.Position // by its last word
	clean  map[ondisk.UUID]bool          // as the primary holds it
}

func newTally() tally {
	return tally{there: make(map[ondisk.UUID]bool), votes: make(map[ondisk.UUID]bool),
		at: make(map[ondisk.UUID]core.Position), clean: make(map[ondisk.UUID]bool)}
}

// hears takes note of an event before the primary handles it.
func (t *tally) hears(p *prim, ev core.Event) {
	switch ev := ev.(type) {
	case core.Attach:
		t.says(&ev.Answer)
		t.there[ev.Answer.Node] = true
		delete(t.votes, ev.Answer.Node)
	case core.Detach:
		delete(t.votes, ev.Node)
		delete(t.there, ev.Node)
	case core.Joined:
		if t.there[ev.Node] {
			t.at[ev.Node], t.clean[ev.Node] = ev.Pos, true
		}
	case core.Recv:
		m := ev.Msg
		switch {
		case m.Ballot != p.core.Ballot() || !t.there[m.Node]:
		case m.Kind == core.Promised && p.core.Phase() == core.Promising:
			if _, voted := t.votes[m.Node]; !voted {
				t.says(m.Answer)
				t.votes[m.Node] = m.Answer.Flags == 0
			}
		case m.Kind == core.Ack && p.w.check.ancestor(t.at[m.Node], m.Pos):
			t.at[m.Node] = m.Pos
		}
	}
}

func (t *tally) says(a *core.Answer) { t.at[a.Node], t.clean[a.Node] = a.Pos, a.Flags == 0 }

// decides checks that a primary which adopted a state in this step had the
// votes for it.
func (t *tally) decides(p *prim, before core.Phase) {
	if p.core.Phase() == core.Barrier && before < core.Barrier {
		p.w.stats.Tallies++
		if short := t.short(p.core.AdoptedCharter(), func(id ondisk.UUID) bool { return t.votes[id] }); short {
			p.w.fail("I8: p%d adopted %v with the votes %v, of %v", p.index, p.core.Adopted(), t.votes, p.core.AdoptedCharter().Config)
		}
	}
	if b := p.core.Ballot(); b != t.ballot {
		t.ballot = b
		clear(t.votes)
	}
}

// commits checks that enough clean masters said that they have a txg.
func (t *tally) commits(p *prim, x *core.Txg) {
	c := &p.w.check
	laws := []*core.Charter{c.charterAt(x.Pos)}
	if x.Charter != nil && x.Pos.T.Seq() != 0 {
		laws = append(laws, c.charterAt(x.Prev)) // a change of members
	}
	p.w.stats.Tallies++
	for _, law := range laws {
		if t.short(law, func(id ondisk.UUID) bool { return t.clean[id] && c.ancestor(x.Pos, t.at[id]) }) {
			p.w.fail("I8: p%d committed %v, clean are %v at %v, of %v", p.index, x.Pos, t.clean, t.at, law.Config)
		}
	}
}

// short reports whether fewer than a quorum of some set say yes. It does not
// ask the product what a quorum is.
func (t *tally) short(law *core.Charter, yes func(ondisk.UUID) bool) bool {
	for _, set := range [][]core.Member{law.Config.Members, law.Config.Joint} {
		masters, n := 0, 0
		for _, m := range set {
			if m.Role != ondisk.PFSMaster {
				continue
			}
			if masters++; yes(m.Fsid) {
				n++
			}
		}
		if masters > 0 && 2*n <= masters {
			return true
		}
	}
	return false
}
