package core

import (
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// MaxMarks is how many epochs and rollbacks a lineage remembers.
const MaxMarks = 1024

// An EpochMark says on which state the barrier of an epoch was built.
type EpochMark struct {
	Epoch uint32
	On    Position
	Cand  uint32 // who was elected, see Ballot.mark; 0 = not known
}

// A Rollback says that txg At put back the content of txg To.
type Rollback struct{ At, To ondisk.Tid }

// A Lineage tells which txgs are in the history of a position: of each epoch
// those up to the one that the next epoch was built on. Both lists rise. It
// is immutable once shared; the methods that add return a new one.
type Lineage struct {
	Epochs    []EpochMark
	Rollbacks []Rollback
}

// WithEpoch returns l and a further epoch, built on the state on.
func (l *Lineage) WithEpoch(epoch uint32, on Position) *Lineage {
	n := l.clone()
	n.Epochs = keepLast(append(n.Epochs, EpochMark{Epoch: epoch, On: on}))
	return n
}

// WithRollback returns l and a further rollback.
func (l *Lineage) WithRollback(at, to ondisk.Tid) *Lineage {
	n := l.clone()
	n.Rollbacks = keepLast(append(n.Rollbacks, Rollback{at, to}))
	return n
}

func (l *Lineage) clone() *Lineage {
	if l == nil {
		return &Lineage{}
	}
	return &Lineage{slices.Clone(l.Epochs), slices.Clone(l.Rollbacks)}
}

func keepLast[E any](s []E) []E { return s[max(0, len(s)-MaxMarks):] }

// Contains reports whether txg T is in the history of a node at pos with
// this lineage. Epochs older than the lineage remembers are taken as agreed.
func (l *Lineage) Contains(pos Position, T ondisk.Tid) bool {
	return T <= l.limit(pos, T)
}

// ContainsPos is Contains, but where the hash is known it must be equal too:
// at pos itself and at the states that epochs were built on.
func (l *Lineage) ContainsPos(pos, q Position) bool {
	if q.T == pos.T {
		return q.H == pos.H
	}
	if l != nil {
		for _, m := range l.Epochs {
			if m.On.T == q.T && m.Epoch <= pos.T.Epoch() {
				return m.On.H == q.H
			}
		}
	}
	return l.Contains(pos, q.T)
}

// limit is the last txg of pos's history that is not of a later epoch than T.
func (l *Lineage) limit(pos Position, T ondisk.Tid) ondisk.Tid {
	end := pos.T
	if l == nil {
		if T.Epoch() == end.Epoch() {
			return end
		}
		return min(T, end)
	}
	for i := len(l.Epochs) - 1; i >= 0 && end.Epoch() > T.Epoch(); i-- {
		if m := l.Epochs[i]; m.Epoch <= end.Epoch() {
			end = m.On.T
		}
	}
	return end
}

// CommonTid is the last txg that two nodes surely share, 0 if none: every
// table with a mirror_tid up to it has the same content below it on both.
// Rollbacks are heeded: a mark (at, to) around the common txg says that
// content from after to came back at at, so that only to is common.
func CommonTid(a *Lineage, at Position, b *Lineage, bt Position) ondisk.Tid {
	common := commonEpochs(a, at, b, bt)
	for again := true; again; {
		again = false
		for _, l := range []*Lineage{a, b} {
			if l == nil {
				continue
			}
			for _, r := range l.Rollbacks {
				if r.To < common && common < r.At {
					common, again = r.To, true
				}
			}
		}
	}
	return common
}

func commonEpochs(a *Lineage, at Position, b *Lineage, bt Position) ondisk.Tid {
	if at.IsZero() || bt.IsZero() {
		return 0
	}
	ra, rb := a.runs(at), b.runs(bt)
	for i := len(ra) - 1; i >= 0; i-- {
		for _, y := range rb {
			x := ra[i]
			if x.Epoch != y.Epoch {
				continue
			}
			if x.On != y.On {
				return 0 // two epochs of one number: nothing is sure
			}
			if !x.sameElection(y.EpochMark) {
				return x.On.T
			}
			if x.end.T == y.end.T && x.end.H != y.end.H {
				return 0
			}
			return min(x.end.T, y.end.T)
		}
	}
	return 0
}

// A run is the part of a history in one epoch.
type run struct {
	EpochMark // On is zero if it is not known
	end       Position
}

func (l *Lineage) runs(pos Position) []run {
	var rs []run
	end := pos
	if l != nil {
		for i := len(l.Epochs) - 1; i >= 0; i-- {
			m := l.Epochs[i]
			if m.Epoch > end.T.Epoch() {
				continue
			}
			if m.Epoch == end.T.Epoch() {
				rs = append(rs, run{m, end})
				if m.On.T.Epoch() >= m.Epoch {
					break // no epoch is built on itself: what came before is not known
				}
				end = m.On
			}
		}
	}
	if len(rs) == 0 {
		rs = append(rs, run{EpochMark{Epoch: end.T.Epoch()}, end})
	}
	slices.Reverse(rs)
	return rs
}
