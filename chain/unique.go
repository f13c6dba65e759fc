package chain

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A Unique is what only the views of one group reach.
type Unique struct {
	Bytes uint64
	Err   error // not nil: it is not known, since tables cannot be read
}

// ofOthers is the group of views that nobody asks about, and of what views of
// several groups reach.
const ofOthers = -1

// UniqueBytes counts for each of groups the blocks that its views reach and no
// other: about what becomes free when their PFSs are deleted together. views are
// all of one volume; of[i] is the group of views[i], or -1. What is returned as
// an error is the context's.
//
// All trees are gone through side by side, and what is at one place once,
// whoever has it: the cost is that of reading, once, the tables at those places
// at which some group differs from all others.
//
// Blocks that have several places are looked for in all inodes that say they
// have some; of what a group may have from an older snapshot, which says nothing,
// all of the others is looked through, twice at most. Those that other writers shared
// under different keys count as unique.
func UniqueBytes(ctx context.Context, views []*View, of []int, groups int) ([]Unique, error) {
	u := &uniqueCount{views: views, of: of, out: make([]Unique, groups)}
	if len(views) == 0 {
		return u.out, nil
	}
	u.reader = &views[0].reader
	var roots []placed
	for i, v := range views {
		if v.root.Meta.SharedTid != 0 && u.data == nil {
			u.data = make(map[uint64]claim)
		}
		if of[i] != ofOthers {
			u.out[of[i]].Bytes += uint64(v.root.Ref.Size())
		}
		roots = appendPlaced(roots, v.root.set, placed{group: of[i], mark: v.root.Meta.SharedTid})
	}
	err := u.tree(ctx, rootOwner, roots)
	for i := range views {
		if err == nil && len(u.data) > 0 {
			err = u.elsewhere(ctx, i)
		}
	}
	if err == nil && len(u.data) > 0 {
		err = u.lenders(ctx)
	}
	return u.out, err
}

type uniqueCount struct {
	views  []*View
	of     []int
	reader *treeReader
	out    []Unique
	data   map[uint64]claim // data blocks that were counted, by address; nil = each has one place
}

// A placed is a reference in one of the trees that are gone through, or in
// several that have it at the same place.
type placed struct {
	ref   *ondisk.Blockref
	group int
	depth int        // tables above it in its tree
	mark  ondisk.Tid // SharedTid of the inode that it is in
}

// A claim is that a data block is of one group only.
type claim struct {
	group int // ofOthers: it was found to be not
	size  uint64
	lent  bool // an inode of the group may have it from elsewhere
}

// appendPlaced appends refs, all but their place as in like.
func appendPlaced(to []placed, refs []ondisk.Blockref, like placed) []placed {
	for i := range refs {
		if like.ref = &refs[i]; like.ref.DataOff != 0 {
			to = append(to, like)
		}
	}
	return to
}

// tree counts what is at some places of one tree, as all have it.
func (u *uniqueCount) tree(ctx context.Context, o owner, at []placed) error {
	slices.SortFunc(at, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.ref.Key, b.ref.Key), cmp.Compare(b.ref.LastKey(), a.ref.LastKey()), cmp.Compare(a.ref.DataOff, b.ref.DataOff))
	})
	n := 0
	for i := range at {
		if n > 0 && at[n-1].same(&at[i]) {
			at[n-1].join(&at[i])
			continue
		}
		at[n] = at[i]
		n++
	}
	for at = at[:n]; len(at) > 0; {
		// Ranges lie in each other or apart, and the widest comes first.
		end, last := 1, at[0].ref.LastKey()
		for end < len(at) && at[end].ref.Key <= last {
			end++
		}
		if err := u.spot(ctx, o, at[:end]); err != nil {
			return err
		}
		at = at[end:]
	}
	return nil
}

// same reports whether p and q are one block at one place.
func (p *placed) same(q *placed) bool {
	return p.ref.DataOff == q.ref.DataOff && p.ref.Key == q.ref.Key && p.ref.KeyBits == q.ref.KeyBits
}

func (p *placed) join(q *placed) {
	if p.group != q.group {
		p.group = ofOthers
	}
	p.depth, p.mark = max(p.depth, q.depth), max(p.mark, q.mark)
}

// spot counts what is at keys of which at[0] covers all.
func (u *uniqueCount) spot(ctx context.Context, o owner, at []placed) error {
	if !slices.ContainsFunc(at, func(p placed) bool { return p.group != ofOthers }) {
		return nil
	}
	var err error
	if at[0].ref.Type == ondisk.TypeIndirect {
		err = u.tables(ctx, o, at)
	} else {
		err = u.leaves(ctx, o, at)
	}
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	// What is in the table may be what others seem to have alone.
	for i := range at {
		if g := at[i].group; g != ofOthers {
			u.out[g].Err = err
		}
	}
	return nil
}

// tables counts the widest tables, and replaces them by what is in them.
func (u *uniqueCount) tables(ctx context.Context, o owner, at []placed) error {
	var below []placed
	for i := range at {
		p := &at[i]
		if p.ref.Type != ondisk.TypeIndirect || p.ref.LastKey() != at[0].ref.LastKey() || p.ref.Key != at[0].ref.Key {
			below = append(below, *p)
			continue
		}
		if p.depth == maxDepth {
			return errTooDeep
		}
		u.count(p)
		kids, err := u.reader.table(ctx, o, p.ref)
		if err != nil {
			return err
		}
		below = appendPlaced(below, kids, placed{group: p.group, depth: p.depth + 1, mark: p.mark})
	}
	return u.tree(ctx, o, below)
}

// leaves counts leaves, and what hangs below those that are inodes.
func (u *uniqueCount) leaves(ctx context.Context, o owner, at []placed) error {
	below := make(map[owner][]placed)
	for i := range at {
		p := &at[i]
		u.count(p)
		if p.ref.Type != ondisk.TypeInode {
			continue
		}
		rec, err := u.reader.inode(ctx, o, p.ref)
		if err != nil {
			return err
		}
		own := rec.owner(o)
		below[own] = appendPlaced(below[own], rec.set, placed{group: p.group, mark: rec.Meta.SharedTid})
	}
	for own, refs := range below {
		if err := u.tree(ctx, own, refs); err != nil {
			return err
		}
	}
	return nil
}

// count counts a block, once.
func (u *uniqueCount) count(p *placed) {
	if p.group == ofOthers {
		return
	}
	size := uint64(p.ref.Size())
	if u.data != nil && p.ref.Type == ondisk.TypeData {
		c, known := u.data[p.ref.Off()]
		switch {
		case !known:
			c = claim{group: p.group, size: size}
		case c.group != p.group:
			u.drop(p.ref.Off(), p.group)
			return
		default:
			size = 0
		}
		c.lent = c.lent || p.ref.MirrorTid <= p.mark
		u.data[p.ref.Off()] = c
	}
	u.out[p.group].Bytes += size
}

// drop notes that a view of some group has a block. Its claim stays as one that
// was in vain, so that no other group makes it.
func (u *uniqueCount) drop(off uint64, group int) {
	if c, ok := u.data[off]; ok && c.group != ofOthers && c.group != group {
		u.out[c.group].Bytes -= c.size
		u.data[off] = claim{group: ofOthers}
	}
}

// elsewhere takes off what views[i] has under other keys.
func (u *uniqueCount) elsewhere(ctx context.Context, i int) error {
	v := u.views[i]
	if v.root.Meta.SharedTid == 0 {
		return nil
	}
	var failed error
	err := v.Inodes(ctx, 0, ondisk.DirBit, func(rec *InodeRec) bool {
		if rec.Meta.SharedTid == 0 {
			return true
		}
		failed = v.dataRefs(ctx, rec, 0, ondisk.DirBit, func(ref *ondisk.Blockref) (bool, error) {
			if ref.MirrorTid <= rec.Meta.SharedTid {
				u.drop(ref.Off(), u.of[i])
			}
			return true, nil
		})
		return failed == nil
	})
	if err = errors.Join(err, failed); err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	for g := range u.out {
		if g != u.of[i] {
			u.out[g].Err = err
		}
	}
	return nil
}

// lenders takes off of what groups may have from elsewhere that which others have,
// wherever it is. What several trees have is entered once, as of the first: so all
// are gone through forwards and backwards, and of two groups that have something,
// each is met by the other.
func (u *uniqueCount) lenders(ctx context.Context) error {
	left, all := make([]int, len(u.out)), 0 // claims that are to be looked for
	for _, c := range u.data {
		if c.lent {
			left[c.group]++
			all++
		}
	}
	vol, ok := u.reader.src.(*Volume)
	if !ok {
		return nil
	}
	order := make([]int, len(u.views))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(u.of[a], u.of[b]) })
	for range min(2, len(u.out)) {
		from := ofOthers
		s := &treeScan{v: vol, visit: func(r *ondisk.Blockref) {
			if c := u.data[r.Off()]; r.Type == ondisk.TypeData && c.lent && c.group != from {
				u.drop(r.Off(), ofOthers)
				left[c.group]--
				all--
			}
		}}
		for _, i := range order {
			if from = u.of[i]; all == 0 || from != ofOthers && all == left[from] {
				continue // nobody else has anything to be looked for
			}
			s.errs, s.first = 0, nil // what cannot be read is met again by each that has it
			if err := s.run(ctx, u.views[i].root.Ref); err != nil {
				return err
			}
			if err := s.damage(); err != nil {
				u.blame(from, left, err)
			}
		}
		slices.Reverse(order)
	}
	return nil
}

// blame notes that what could not be read in a tree of one group may have what
// others seem to have alone.
func (u *uniqueCount) blame(from int, left []int, err error) {
	for g := range left {
		if g != from && left[g] > 0 {
			u.out[g].Err = err
		}
	}
}
