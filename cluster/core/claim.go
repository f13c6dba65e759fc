package core

import (
	"math/bits"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A position says more than where a node is. A txg is made when the one before
// it is committed, so that whoever has (e, s) proves that (e, s-1) was, and the
// txg itself says which masters had acknowledged that one. Adopt goes by both:
// a master that has less than others know of has lost writes and is silent, and
// a state that lacks what somebody proves to be committed is not adopted.

// ackedBy says which masters of c, by their place among its members, will get
// txg T at once and are at prev, its predecessor, which is committed.
func (p *Primary) ackedBy(T ondisk.Tid, prev Position, c *Charter) (mask uint64) {
	if p.opt.Solo || T.Seq() == 0 {
		return 0 // what a barrier is built on may never have been committed
	}
	for i, m := range c.Config.Members {
		n := p.peer(m.Fsid)
		if i < 64 && m.Role == ondisk.PFSMaster && n != nil && n.attached && n.flags == 0 && n.pos == prev {
			mask |= 1 << i
		}
	}
	return mask
}

// saw is the last txg that a's own state proves id to have acknowledged.
func (a *Answer) saw(id ondisk.UUID) (T ondisk.Tid, ok bool) {
	if a.Charter == nil || a.Pos.T.Seq() == 0 {
		return 0, false
	}
	i := slices.IndexFunc(a.Charter.Config.Members, func(m Member) bool { return m.Fsid == id })
	return a.Pos.T - 1, i >= 0 && i < 64 && a.Acked>>i&1 != 0
}

// sawAll is the last txg that one of the answers proves id to have acknowledged.
func sawAll(answers []Answer, id ondisk.UUID) (last ondisk.Tid) {
	for i := range answers {
		if T, ok := answers[i].saw(id); ok && answers[i].Flags == 0 {
			last = max(last, T)
		}
	}
	return last
}

// proves is the last txg that a node at pos proves to be committed, 0 if none.
// A barrier proves nothing of what it is built on, but that was a position too.
func (l *Lineage) proves(pos Position) ondisk.Tid {
	for i := len(l.Epochs) - 1; i >= 0 && pos.T.Seq() == 0; i-- {
		if m := l.Epochs[i]; m.Epoch == pos.T.Epoch() {
			pos = m.On
		}
	}
	if pos.T.Seq() == 0 {
		return 0
	}
	return pos.T - 1
}

// narrow reports whether no more masters than a quorum took part in a's last
// txg from the start: if it was acknowledged, then maybe by just so many. None
// says that nobody was there then, or that it is not known.
func (a *Answer) narrow() bool {
	return a.Pos.T.Seq() > 0 && bits.OnesCount64(a.Acked) <= Quorum(len(Masters(a.Charter.Config.Members)))
}

// raise returns the lowest of the answers of the newest epoch that is not below
// pick and contains what one of them proves to be committed there. It is pick,
// unless members lost what they had acknowledged.
//
// A narrow txg is taken as well, though nobody proves that it was committed. One
// of the few who had it may have lied, and there is no other who could tell.
func raise(pick Answer, newest []Answer) Answer {
	floor := pick.Pos.T
	for _, a := range newest {
		if T := a.Charter.Lineage.proves(a.Pos); T.Epoch() == floor.Epoch() {
			floor = max(floor, T)
		}
		if a.narrow() {
			floor = max(floor, a.Pos.T)
		}
	}
	for _, a := range newest {
		if a.Pos.T >= floor {
			return a
		}
	}
	return pick
}

// content is T, or if that is a barrier, which is empty, what it was built on.
func (l *Lineage) content(T ondisk.Tid) ondisk.Tid {
	for i := len(l.Epochs) - 1; i >= 0 && T.Seq() == 0; i-- {
		if m := l.Epochs[i]; m.Epoch == T.Epoch() {
			T = m.On.T
		}
	}
	return T
}

// denies reports whether the state pos lacks what b proves to be committed.
// Epochs older than l remembers are taken as agreed.
func (l *Lineage) denies(pos Position, b *Answer) bool {
	if b.Flags != 0 || b.Charter == nil {
		return false
	}
	proven := b.Charter.Lineage.content(b.Charter.Lineage.proves(b.Pos))
	if len(l.Epochs) == 0 || proven < ondisk.MakeTid(l.Epochs[0].Epoch, 0) {
		return false
	}
	return proven > commonEpochs(l, pos, &b.Charter.Lineage, b.Pos)
}

// sure is the last txg that this epoch knows to be committed. What it was
// built on need not be: if its barrier comes to nothing, another primary may
// rightly take nodes back behind that.
func (p *Primary) sure() ondisk.Tid {
	if p.done != p.base || p.opt.Solo {
		return p.done.T
	}
	return p.proven
}

// provenBy is the last txg that one of the answers proves to be committed.
func provenBy(answers []Answer) (last ondisk.Tid) {
	for i := range answers {
		if a := &answers[i]; a.Flags == 0 && a.Charter != nil {
			last = max(last, a.Charter.Lineage.proves(a.Pos))
		}
	}
	return last
}

// Judge returns the flags of a node that was reached: its own, and what this
// epoch knows better. Tainted: it has less than it acknowledged. Disputed: it
// proves that txgs were committed that this history does not contain. a must
// be what the node says now, not what it said a while ago.
func (p *Primary) Judge(a Answer) Flags {
	if p.charter == nil || a.Flags != 0 || a.Pos.IsZero() {
		return a.Flags
	}
	if p.opt.Omit&OmitAcked == 0 {
		n := p.peer(a.Node)
		lost := n != nil && min(n.acked, p.sure()) > a.Pos.T
		if lost || LostWrites(a, []Answer{{Charter: p.charter}}) {
			return Tainted
		}
	}
	leads := p.phase == Barrier || p.phase == Serving
	older := max(a.Promised, a.Pos.T.Epoch()) <= p.ballot.Epoch // else an election decides
	if leads && older && p.opt.Omit&OmitProven == 0 && p.charter.Lineage.denies(p.head, &a) {
		return Disputed
	}
	return 0
}

// mark tells candidates of one epoch apart in a lineage. It is never 0, which
// stands for a candidate that is not known.
func (b Ballot) mark() uint32 { return uint32(b.Cand) ^ uint32(b.Cand>>32) | 1<<31 }

// sameElection reports whether two marks of one epoch may be of one barrier.
func (m EpochMark) sameElection(o EpochMark) bool {
	return m.On == o.On && (m.Cand == o.Cand || m.Cand == 0 || o.Cand == 0)
}
