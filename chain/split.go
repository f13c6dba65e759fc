package chain

import (
	"cmp"
	"slices"
	"sort"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Sizes of the tables we write, in elements. Larger ones are read, and come
// back in this size when they change.
const (
	tableMax   = 128 // 16 KiB
	tableSmall = 32  // 4 KiB
	// Tables that change and have at most so many elements move into their
	// parent where there is room. Below tableMax, so that a table on the edge
	// is not made and dissolved in turn.
	dissolveMax = tableMax * 3 / 4
	// Fewer elements get a table of their own only if there is no other room.
	groupMin = tableMax / 8
)

// An elem is an element of an array that is being rewritten. With kids it is
// a table not yet written, and of ref only type and range are set.
type elem struct {
	ref      ondisk.Blockref
	kids     []elem // never empty
	divided  bool   // kids are settled, and had overflowed
	dissolve bool   // kids are to take its place
}

// settle brings an array to at most capacity elements: tables that became
// small, and those that had to be divided, dissolve into it, and elements move
// into new tables when it overflows. So a tree grows and shrinks at its top,
// and stays about evenly deep. The tables below are settled first. keyBits is
// the width of the array's range, 64 for the blockset of an inode. divided says
// that the array overflowed.
func settle(elems []elem, capacity int, keyBits uint8) (out []elem, divided bool) {
	total := len(elems)
	dissolving := false
	for i := range elems {
		e := &elems[i]
		if e.kids == nil {
			continue
		}
		var split bool
		e.kids, split = settle(e.kids, tableMax, e.ref.KeyBits)
		if n := len(e.kids); dissolves(n, total, capacity, split || e.divided) {
			total += n - 1
			e.dissolve, dissolving = true, true
		}
	}
	if dissolving {
		elems = dissolve(elems, total)
	}
	for len(elems) > capacity {
		elems, divided = group(elems, capacity, keyBits), true
	}
	return elems, divided
}

// dissolves decides whether a table of n elements moves into its parent, which
// now has total.
func dissolves(n, total, capacity int, split bool) bool {
	return n == 1 || n <= dissolveMax && (split || total+n-1 <= min(capacity, dissolveMax))
}

func dissolve(elems []elem, total int) []elem {
	out := make([]elem, 0, total)
	for _, e := range elems {
		if e.dissolve {
			out = append(out, e.kids...)
		} else {
			out = append(out, e)
		}
	}
	return out
}

// A keyGroup is a run [lo, hi) of elements that alone lie in an aligned range.
type keyGroup struct {
	lo, hi  int
	key     uint64
	keyBits uint8
}

// group moves elements of an array of more than capacity into new tables, the
// most numerous groups first: all that are worth a table, and smaller ones
// until the rest fits; it always makes one. Groups are the widest aligned
// ranges, narrower than the array's, with at most tableMax elements: keys that
// come later find room in them. No range is wider than 63 bits, which keeps
// the halves of a PFS root apart.
func group(elems []elem, capacity int, keyBits uint8) []elem {
	var groups []keyGroup
	half := keyBits - 1
	base := elems[0].ref.Key &^ (1<<keyBits - 1)
	mid := base + 1<<half
	cut := lowerBound(elems, 0, len(elems), mid)
	groups = widest(groups, elems, 0, cut, base, half)
	groups = widest(groups, elems, cut, len(elems), mid, half)
	slices.SortStableFunc(groups, func(a, b keyGroup) int { return cmp.Compare(b.hi-b.lo, a.hi-a.lo) })
	left := len(elems)
	for i, g := range groups {
		if left <= capacity && g.hi-g.lo < groupMin {
			groups = groups[:i]
			break
		}
		left -= g.hi - g.lo - 1
	}
	slices.SortFunc(groups, func(a, b keyGroup) int { return cmp.Compare(a.lo, b.lo) })
	out := make([]elem, 0, left)
	at := 0
	for _, g := range groups {
		out = append(out, elems[at:g.lo]...)
		out = append(out, elem{
			ref:  ondisk.Blockref{Type: ondisk.TypeIndirect, Key: g.key, KeyBits: g.keyBits},
			kids: elems[g.lo:g.hi:g.hi],
		})
		at = g.hi
	}
	return append(out, elems[at:]...)
}

// widest appends the groups among elems[lo:hi], which lie in the range of keyBits at key.
func widest(groups []keyGroup, elems []elem, lo, hi int, key uint64, keyBits uint8) []keyGroup {
	switch {
	case hi-lo < 2:
		return groups
	case hi-lo <= tableMax:
		return append(groups, keyGroup{lo, hi, key, keyBits})
	}
	mid := key + 1<<(keyBits-1)
	cut := lowerBound(elems, lo, hi, mid)
	groups = widest(groups, elems, lo, cut, key, keyBits-1)
	return widest(groups, elems, cut, hi, mid, keyBits-1)
}

// lowerBound is the index of the first of elems[lo:hi] with a key >= k, else hi.
func lowerBound(elems []elem, lo, hi int, k uint64) int {
	return lo + sort.Search(hi-lo, func(i int) bool { return elems[lo+i].ref.Key >= k })
}
