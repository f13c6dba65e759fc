package scrub

import (
	"errors"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// maxDamaged bounds the places that a lane remembers. A disk with more of them
// is beyond a count that is exact: of the others one is counted for each PFS
// and file that it is in.
const maxDamaged = 4096

// An outcome is what became of a damaged place.
type outcome uint8

const (
	found outcome = iota
	mended
	lost // in one PFS that has it at least
)

// damaged is the places of a member that were found bad, by their offset: what
// snapshots or files share is one block, however often it is met. The job's mu
// guards it.
type damaged map[uint64]outcome

// A finding is a bad block as one PFS refers to it.
type finding struct {
	cluster.Damage
	off uint64 // 0: it has no block of its own
	err error  // what was wrong; nil: that is not known
}

func findingOf(node, label string, e *chain.NodeError) finding {
	return finding{cluster.DamageOf(node, label, e), e.Ref.Off(), e}
}

// silent reports whether the device may not have given it at all.
func (f finding) silent() bool { return !errors.Is(f.err, ondisk.ErrCorrupt) }

// add reports whether the place was not known.
func (d damaged) add(off uint64) bool {
	if off == 0 {
		return true
	}
	if _, ok := d[off]; ok {
		return false
	}
	if len(d) < maxDamaged {
		d[off] = found
	}
	return true
}

// settle notes what became of a place, and returns by how much the numbers of
// repaired and of lost places change.
func (d damaged) settle(off uint64, ok bool) (repaired, unrepaired int64) {
	was, known := d[off]
	switch {
	case !known && ok:
		return 1, 0
	case !known:
		return 0, 1
	case was == found && ok:
		d[off] = mended
		return 1, 0
	case was == found:
		d[off] = lost
		return 0, 1
	case was == mended && !ok:
		d[off] = lost
		return -1, 1
	}
	return 0, 0
}
