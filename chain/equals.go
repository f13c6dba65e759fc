package chain

import (
	"encoding/binary"

	"github.com/anvilfs/anvilfs/ondisk"
)

// maxEquals bounds what an Equals remembers, to about 16 MiB.
const maxEquals = 1 << 18

// An Equals remembers of which pairs of tables or inodes, one of a source and one
// of a target, Diff found all that is below to be equal, so that it need not look
// again: snapshots share most of what they have with each other. A block is known
// by its address and check code, and a code is that of all below, so what it says
// stays true when space is used again.
//
// It belongs to one pair of volumes, and to calls of Diff of one kind.
type Equals struct{ pairs map[tablePair]struct{} }

type tablePair struct{ srcOff, srcCheck, dstOff, dstCheck uint64 }

// NewEquals returns an empty one.
func NewEquals() *Equals { return &Equals{pairs: make(map[tablePair]struct{})} }

func pairOf(s, d *ondisk.Blockref) tablePair {
	le := binary.LittleEndian
	return tablePair{s.DataOff, le.Uint64(s.Check[:]), d.DataOff, le.Uint64(d.Check[:])}
}

// has reports whether two tables or inodes of equal keys are known to be equal.
func (e *Equals) has(s, d *ondisk.Blockref) bool {
	if e == nil || s.Key != d.Key || s.KeyBits != d.KeyBits {
		return false
	}
	_, ok := e.pairs[pairOf(s, d)]
	return ok
}

func (e *Equals) note(p tablePair) {
	if len(e.pairs) < maxEquals {
		e.pairs[p] = struct{}{}
	}
}

// An openPair is a pair of tables of equal keys that a walk is in, from its
// first key on.
type openPair struct {
	pair    tablePair
	last    uint64 // of its keys
	changes int    // emitted before
}

// opened notes that the walk enters both tables.
func (w *pairWalk) opened(s, d *ondisk.Blockref, k uint64) {
	if w.equals == nil || s.Key != d.Key || s.KeyBits != d.KeyBits || k > s.Key || s.LastKey() > w.hi {
		return
	}
	w.open = append(w.open, openPair{pairOf(s, d), s.LastKey(), *w.changes})
}

// passed notes that all keys up to last are compared.
func (w *pairWalk) passed(last uint64) {
	for n := len(w.open) - 1; n >= 0 && w.open[n].last <= last; n-- {
		if w.open[n].changes == *w.changes {
			w.equals.note(w.open[n].pair)
		}
		w.open = w.open[:n]
	}
}
