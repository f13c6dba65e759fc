package chain

import (
	"bytes"
	"context"
	"errors"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A Cursor is a place in the order of changes; zero is the beginning.
type Cursor struct {
	Inum uint64
	Kind Kind
	Key  uint64
}

// DiffLimits say when Diff stops early: before the leaf with which a number
// would be exceeded. 0 = no limit.
type DiffLimits struct {
	Changes int
	Bytes   int64 // of data blocks
	Leaves  int   // compared
	// Strict compares inodes by all their fields, not by modify_tid: two nodes
	// that are said to be equal are to be found so.
	Strict bool
	// Shared, if not nil, lets the target share blocks as the source does.
	Shared *SharedPlaces
	// Bare leaves data blocks out of the changes: which differ is asked, not
	// what is in them.
	Bare bool
	// Equals, if not nil, is what earlier calls found equal; so will this one.
	Equals *Equals
	// Sound: the target's leaves were verified, and are not read once more.
	Sound bool
}

// DiffStats counts what one call of Diff did.
type DiffStats struct {
	Tables  int // entered, on both sides
	Leaves  int // compared
	Changes int // emitted
	Bytes   int64
}

// A DiffError says which side of a Diff could not be read.
type DiffError struct {
	Target bool // else the source
	Err    error
}

func (e *DiffError) Error() string {
	if e.Target {
		return "target: " + e.Err.Error()
	}
	return "source: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *DiffError) Unwrap() error { return e.Err }

// Diff finds the changes that turn dst's content into src's, given that both
// hold the state at common, each with its own later changes; 0 compares all,
// and reads dst's leaves too: nothing there is relied on.
// emit gets them sorted, with data verified and modify_tids as they are; touch
// gets the keys that were compared, whose tables in dst must be stamped when
// the changes are applied (with Batch.Discard, since damaged tables of dst
// count as empty). An error of theirs ends the walk and is returned.
//
// done is false if a limit ended the walk: next is where another call with
// the same views goes on.
func Diff(ctx context.Context, src, dst *View, common ondisk.Tid, from Cursor, limits DiffLimits,
	emit func(Change) error, touch func(Touch) error) (next Cursor, done bool, stats DiffStats, err error) {
	d := &differ{src: src, dst: dst, common: common, from: from, limits: limits, emit: emit, touch: touch}
	done, err = d.run(ctx)
	return d.next, done, d.stats, err
}

type differ struct {
	src, dst *View
	common   ondisk.Tid
	from     Cursor
	limits   DiffLimits
	emit     func(Change) error
	touch    func(Touch) error
	stats    DiffStats
	next     Cursor // where it stopped
	found    int    // differences, on whatever side of a stop
}

func (d *differ) run(ctx context.Context) (done bool, err error) {
	if d.from.Inum <= ondisk.InumRoot {
		if d.from.Kind == KindInode {
			if err := d.diffRootInode(); err != nil {
				return false, err
			}
		}
		lo := max(d.from.Key, ondisk.DirBit)
		leaf := d.leafFunc(ctx, ondisk.InumRoot, rootOwner, 0)
		if done, err := d.walk(ctx, rootOwner, d.src.root.set, d.dst.root.set, span{lo, ^uint64(0)}, leaf, true); err != nil || !done {
			return false, err
		}
	}
	lo := d.from.Inum
	if lo <= ondisk.InumRoot {
		lo = 0
	}
	leaf := func(s, t *ondisk.Blockref) (bool, error) { return d.diffInode(ctx, s, t) }
	return d.walk(ctx, rootOwner, d.src.root.set, d.dst.root.set, span{lo, ondisk.DirBit - 1}, leaf, true)
}

// walk compares the keys of two trees; stamp says that the target's tables
// there need the new tid.
func (d *differ) walk(ctx context.Context, o owner, sset, dset []ondisk.Blockref, keys span,
	leaf func(s, t *ondisk.Blockref) (bool, error), stamp bool) (done bool, err error) {
	w := pairWalk{
		common: d.common, lo: keys.lo, hi: keys.hi, leaf: leaf, tables: &d.stats.Tables,
		equals: d.limits.Equals, changes: &d.found,
		region: func(r span) error {
			if !stamp {
				return nil
			}
			return d.touch(Touch{Inum: o.inum, Lo: r.lo, Hi: r.hi})
		},
	}
	return w.run(ctx, newIter(d.src, o, sset, false), newIter(d.dst, o, dset, true))
}

// full reports whether a limit is reached, and remembers where.
func (d *differ) full(at Cursor) bool {
	l := &d.limits
	if l.Changes > 0 && d.stats.Changes >= l.Changes || l.Bytes > 0 && d.stats.Bytes >= l.Bytes || l.Leaves > 0 && d.stats.Leaves >= l.Leaves {
		d.next = at
		return true
	}
	return false
}

func (d *differ) send(c Change) error {
	d.stats.Changes++
	d.found++
	if c.Block != nil {
		d.stats.Bytes += int64(len(c.Block.Bytes))
	}
	return d.emit(c)
}

// diffRootInode compares what is the same on all nodes. The modify_tid of a
// root is that of the whole PFS and says nothing about the inode.
func (d *differ) diffRootInode() error {
	meta := mergeRootMeta(&d.src.root.Meta, &d.dst.root.Meta)
	if meta == d.dst.root.Meta {
		return nil
	}
	return d.send(Change{Inum: ondisk.InumRoot, Kind: KindInode, ModifyTid: d.src.root.Ref.ModifyTid, Inode: &meta})
}

// diffInode compares two inodes of one number with all below them.
func (d *differ) diffInode(ctx context.Context, s, t *ondisk.Blockref) (more bool, err error) {
	if s != nil && t != nil && s.MirrorTid <= d.common && t.MirrorTid <= d.common {
		return true, nil
	}
	if s != nil && t != nil && d.limits.Equals.has(s, t) {
		return true, nil
	}
	at := s
	if s == nil {
		at = t
	}
	inum := at.Key
	start := Cursor{Inum: inum}
	if d.from.Inum == inum {
		start = d.from
	}
	if s != nil && t != nil && start.Kind == KindInode {
		defer d.noteEqual(s, t, d.found, &more, &err)
	}
	if d.full(start) {
		return false, nil
	}
	d.stats.Leaves++
	if s == nil {
		return true, d.send(Change{Inum: inum, Kind: KindInode, Delete: true})
	}
	srec, err := d.src.reader.inode(ctx, rootOwner, s)
	if err != nil {
		return false, &DiffError{false, err}
	}
	trec, err := d.targetInode(ctx, t)
	if err != nil {
		return false, &DiffError{true, err}
	}
	same := trec != nil && t.ModifyTid == s.ModifyTid && kindOf(trec.Meta.Type) == kindOf(srec.Meta.Type) &&
		trec.Meta.DirectData() == srec.Meta.DirectData() &&
		(!d.limits.Strict || trec.ComparedMeta() == srec.ComparedMeta() && bytes.Equal(trec.Inline, srec.Inline))
	if !same {
		d.found++
		// Again after a stop in the middle of it: changes below an inode
		// raise its tid, so each batch that has some must say the right one.
		// It does not count then, or a small limit would get us nowhere.
		if start.Kind == KindInode {
			d.stats.Changes++
		}
		meta := srec.SharedMeta()
		err := d.emit(Change{Inum: inum, Kind: KindInode, ModifyTid: s.ModifyTid, Inode: &meta, Inline: srec.Inline})
		if err != nil {
			return false, err
		}
	}
	if srec.Meta.DirectData() {
		return true, nil
	}
	var tset []ondisk.Blockref
	if trec != nil && kindOf(trec.Meta.Type) == kindOf(srec.Meta.Type) {
		tset = trec.set
	}
	o := srec.owner(rootOwner)
	return d.walk(ctx, o, srec.set, tset, span{start.Key, ^uint64(0)}, d.leafFunc(ctx, inum, o, srec.Meta.SharedTid), trec != nil)
}

// noteEqual remembers a pair of inodes that were compared as a whole.
func (d *differ) noteEqual(s, t *ondisk.Blockref, found int, more *bool, err *error) {
	if e := d.limits.Equals; e != nil && *more && *err == nil && d.found == found {
		e.note(pairOf(s, t))
	}
}

// targetInode is nil if the target has none, or a damaged one.
func (d *differ) targetInode(ctx context.Context, t *ondisk.Blockref) (*InodeRec, error) {
	if t == nil {
		return nil, nil
	}
	rec, err := d.dst.reader.inode(ctx, rootOwner, t)
	if errors.Is(err, ondisk.ErrCorrupt) {
		return nil, nil
	}
	return rec, err
}

// leafFunc compares the entries or data blocks of one inode. At the source those
// up to shared may have other places.
func (d *differ) leafFunc(ctx context.Context, inum uint64, o owner, shared ondisk.Tid) func(s, t *ondisk.Blockref) (bool, error) {
	return func(s, t *ondisk.Blockref) (more bool, err error) {
		at := s
		if s == nil {
			at = t
		}
		c := Change{Inum: inum, Kind: KindDirent, Key: at.Key}
		if at.Type == ondisk.TypeData {
			c.Kind = KindData
		}
		if d.full(Cursor{inum, c.Kind, c.Key}) {
			return false, nil
		}
		d.stats.Leaves++
		switch {
		case s == nil:
			c.Delete = true
			return true, d.send(c)
		case t != nil && sameLeaf(s, t):
			if ok, err := d.sound(ctx, o, t); ok || err != nil {
				return true, err
			}
		}
		c.ModifyTid = s.ModifyTid
		if c.Kind == KindData && d.limits.Bare {
			return true, d.send(c)
		}
		if c.Kind == KindData {
			err = d.content(ctx, &c, s, shared)
		} else {
			c.Dirent, err = d.src.reader.dirent(ctx, o, s)
		}
		if err != nil {
			return false, &DiffError{false, err}
		}
		return true, d.send(c)
	}
}

// content brings the block at s into a change.
func (d *differ) content(ctx context.Context, c *Change, s *ondisk.Blockref, shared ondisk.Tid) (err error) {
	p := d.limits.Shared
	if s.MirrorTid > shared {
		p = nil
	}
	if p != nil && p.take(c, s) {
		return nil
	}
	if c.Block, err = d.src.ReadBlock(ctx, s); err == nil && p != nil {
		p.note(c, s)
	}
	return err
}

// sound reports whether a leaf of the target is what its blockref says. It is
// read only if nothing there is relied on.
func (d *differ) sound(ctx context.Context, o owner, t *ondisk.Blockref) (ok bool, err error) {
	if d.common != 0 || d.limits.Sound {
		return true, nil
	}
	if t.Type == ondisk.TypeData {
		_, err = d.dst.ReadBlock(ctx, t)
	} else {
		_, err = d.dst.reader.dirent(ctx, o, t)
	}
	if err != nil && !errors.Is(err, ondisk.ErrCorrupt) {
		return false, &DiffError{true, err}
	}
	return err == nil, nil
}

// sameLeaf compares entries or data blocks of one key. The tid would do where
// all works; the rest, equal on all nodes too, costs nothing.
func sameLeaf(s, t *ondisk.Blockref) bool {
	return s.Type == t.Type && s.ModifyTid == t.ModifyTid && s.Radix() == t.Radix() && s.Embed == t.Embed &&
		(s.Type != ondisk.TypeData || s.Methods == t.Methods) && (s.Check == t.Check || s.Type == ondisk.TypeDirent && s.DataOff != 0)
}
