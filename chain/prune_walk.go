package chain

import (
	"context"
	"errors"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A treeIter stands at an element of a tree: a leaf, or a table that the
// caller may step over or enter.
type treeIter struct {
	reader *treeReader
	own    owner
	target bool
	stack  [][]ondisk.Blockref // what is left of each array, the current element first
}

func newIter(v *View, own owner, set []ondisk.Blockref, target bool) *treeIter {
	it := &treeIter{reader: &v.reader, own: own, target: target, stack: [][]ondisk.Blockref{set}}
	it.seek(0)
	return it
}

// cur is the current element, nil at the end.
func (it *treeIter) cur() *ondisk.Blockref {
	if len(it.stack) == 0 {
		return nil
	}
	return &it.stack[len(it.stack)-1][0]
}

// seek steps over all elements that end before k. Within tables entered, that is.
func (it *treeIter) seek(k uint64) {
	for n := len(it.stack) - 1; n >= 0; n-- {
		it.stack[n] = it.stack[n][search(it.stack[n], k):]
		if len(it.stack[n]) > 0 {
			break
		}
		it.stack = it.stack[:n]
	}
}

// enter goes from a table to its first element with keys >= k. A damaged table
// of the target counts as empty: what should be in it then comes from the source.
func (it *treeIter) enter(ctx context.Context, k uint64) error {
	ref := it.cur()
	refs, err := it.reader.table(ctx, it.own, ref)
	if err == nil && len(it.stack) > maxDepth {
		err = it.own.fail(ref, errTooDeep)
	}
	if it.target && errors.Is(err, ondisk.ErrCorrupt) {
		refs, err = nil, nil
	}
	if err != nil {
		return &DiffError{it.target, err}
	}
	n := len(it.stack) - 1
	it.stack[n] = it.stack[n][1:]
	it.stack = append(it.stack, refs)
	it.seek(k)
	return nil
}

// A pairWalk goes through two trees side by side, in order of key.
type pairWalk struct {
	common ondisk.Tid
	lo, hi uint64 // keys of interest
	// leaf is called for each key with a leaf on either side; the other is nil
	// if it has none. more = false ends the walk before this leaf.
	leaf func(s, d *ondisk.Blockref) (more bool, err error)
	// region is called for each run of keys that was compared leaf by leaf.
	region func(span) error
	tables *int // counts tables entered

	equals  *Equals // nil: nothing is remembered
	changes *int    // differences found so far
	open    []openPair
}

// run walks. Where both sides have a table that did not change since common,
// the keys in both were equal then and are now, so they are passed over; if
// only one side is a table, the other may have lost or gained something.
// done is false if leaf ended the walk.
func (w *pairWalk) run(ctx context.Context, s, d *treeIter) (done bool, err error) {
	walked := w.lo // start of the run being compared
	end := func(last uint64) error {
		if walked > last {
			return nil
		}
		return w.region(span{walked, last})
	}
	for k := w.lo; ; {
		if k > w.lo {
			w.passed(k - 1)
		}
		s.seek(k)
		d.seek(k)
		sr, dr := inReach(s, w.hi), inReach(d, w.hi)
		if sr == nil && dr == nil {
			w.passed(w.hi)
			return true, end(w.hi)
		}
		if last, ok := w.prunable(sr, dr, k); ok {
			if start := max(sr.Key, dr.Key, k); start > 0 {
				if err := end(start - 1); err != nil {
					return false, err
				}
			}
			if last >= w.hi {
				w.passed(w.hi)
				return true, nil
			}
			walked, k = last+1, last+1
			continue
		}
		if entered, err := w.enter(ctx, s, d, sr, dr, k); err != nil {
			return false, err
		} else if entered {
			continue
		}
		sr, dr = lowerOf(sr, dr)
		at := sr
		if at == nil {
			at = dr
		}
		key, last := at.Key, at.LastKey()
		more, err := w.leaf(sr, dr)
		if err != nil {
			return false, err
		}
		if !more {
			if key == 0 {
				return false, nil
			}
			return false, end(key - 1)
		}
		if last >= w.hi {
			w.passed(w.hi)
			return true, end(w.hi)
		}
		k = last + 1
	}
}

func inReach(it *treeIter, hi uint64) *ondisk.Blockref {
	if ref := it.cur(); ref != nil && ref.Key <= hi {
		return ref
	}
	return nil
}

func isTable(r *ondisk.Blockref) bool { return r != nil && r.Type == ondisk.TypeIndirect }

// prunable returns the last of the keys that need no comparison, which begin
// where both elements do, or at k inside them.
func (w *pairWalk) prunable(s, d *ondisk.Blockref, k uint64) (last uint64, ok bool) {
	if !isTable(s) || !isTable(d) {
		return 0, false
	}
	if k <= s.Key && w.equals.has(s, d) {
		return s.LastKey(), true
	}
	if s.MirrorTid > w.common || d.MirrorTid > w.common {
		return 0, false
	}
	if max(s.Key, k) != max(d.Key, k) {
		return 0, false
	}
	return min(s.LastKey(), d.LastKey()), true
}

// enter enters the table that stands in the way of comparing leaves: the first
// in order, and of two that overlap the wider one, or both of equal ones. It
// reports whether there was one.
func (w *pairWalk) enter(ctx context.Context, s, d *treeIter, sr, dr *ondisk.Blockref, k uint64) (bool, error) {
	doS, doD := isTable(sr), isTable(dr)
	switch {
	case sr == nil || dr == nil:
	case doS && doD && (sr.Key > dr.LastKey() || dr.Key > sr.LastKey()):
		doS, doD = sr.Key < dr.Key, dr.Key < sr.Key
	case doS && doD:
		doS, doD = sr.KeyBits >= dr.KeyBits, dr.KeyBits >= sr.KeyBits
	default:
		doS, doD = doS && sr.Key <= dr.Key, doD && dr.Key <= sr.Key
	}
	if doS && doD {
		w.opened(sr, dr, k)
	}
	if doS {
		*w.tables++
		if err := s.enter(ctx, k); err != nil {
			return false, err
		}
	}
	if doD {
		*w.tables++
		if err := d.enter(ctx, k); err != nil {
			return false, err
		}
	}
	return doS || doD, nil
}

// lowerOf leaves of two elements the one with the lower key, or both if equal.
func lowerOf(s, d *ondisk.Blockref) (*ondisk.Blockref, *ondisk.Blockref) {
	switch {
	case s == nil || d == nil || s.Key == d.Key:
		return s, d
	case s.Key < d.Key:
		return s, nil
	}
	return nil, d
}
