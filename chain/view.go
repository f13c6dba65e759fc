package chain

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/ondisk"
)

// An InodeRec is an inode as it is on media. It is immutable and may be shared.
type InodeRec struct {
	Meta   ondisk.InodeMeta
	Inline []byte // the 512 bytes of inline content; nil without DIRECTDATA
	Ref    ondisk.Blockref
	set    []ondisk.Blockref // its blockset
	in     treeKind          // of the tree in which it was judged
}

func (rec *InodeRec) size() int64 {
	return 1024 + int64(len(rec.set))*ondisk.BlockrefSize
}

// A View is a read-only, consistent picture of one PFS. It is safe for
// concurrent use, and the blocks it reaches are not reused until Release.
// Errors of its methods are *NodeError, or the context's.
type View struct {
	reader  treeReader
	root    InodeRec
	refs    atomic.Int64 // Retain minus Release, from 1
	release func()       // may be nil
}

// newView returns the picture of the PFS whose root inode is at root. release
// is called once, when the last holder lets go; on an error it is not called.
func newView(ctx context.Context, src blockSource, cache *tableCache, root ondisk.Blockref, release func()) (*View, error) {
	v := &View{reader: treeReader{src, cache}, release: release}
	rec, err := v.reader.inode(ctx, superOwner, &root)
	if err != nil {
		return nil, err
	}
	v.root = *rec
	v.refs.Store(1)
	return v, nil
}

// superRootOwner is the header, which refers to the super-root.
var superRootOwner = owner{}

// superOwner is the tree that PFS roots are in.
var superOwner = owner{0, treeSuper}

// rootOwner is the tree of a PFS root: inode index and root directory.
var rootOwner = owner{ondisk.InumRoot, treeRoot}

// T is the tid of the last change in the view.
func (v *View) T() ondisk.Tid { return v.root.Ref.MirrorTid }

// Root is the blockref of the PFS root inode.
func (v *View) Root() ondisk.Blockref { return v.root.Ref }

// PFS describes the PFS.
func (v *View) PFS() PFSInfo { return describePFS(&v.root) }

// Retain adds a holder, who calls Release later.
func (v *View) Retain() {
	if v.refs.Add(1) <= 1 {
		panic("chain: view retained after its release")
	}
}

// Release ends the use of the view by one holder.
func (v *View) Release() {
	switch n := v.refs.Add(-1); {
	case n < 0:
		panic("chain: view released twice")
	case n == 0 && v.release != nil:
		v.release()
	}
}

// Inode returns the inode of that number; 1 is the root directory.
func (v *View) Inode(ctx context.Context, inum uint64) (in *InodeRec, ok bool, err error) {
	if inum == ondisk.InumRoot {
		return &v.root, true, nil
	}
	if inum >= ondisk.DirBit {
		return nil, false, nil
	}
	refs, err := v.reader.find(ctx, rootOwner, v.root.set, inum)
	if err != nil || refs == nil {
		return nil, false, err
	}
	if in = v.reader.cachedInode(rootOwner, &refs[0]); in != nil {
		return in, true, nil
	}
	in, err = v.reader.inodeAndNext(ctx, refs)
	return in, err == nil, err
}

// Inodes calls fn for the inodes with numbers in [from, to] in order, until
// it returns false. The root directory is not among them.
func (v *View) Inodes(ctx context.Context, from, to uint64, fn func(*InodeRec) bool) error {
	to = min(to, ondisk.DirBit-1)
	ahead := inodeRun{size: runMin}
	err := v.reader.scan(ctx, rootOwner, v.root.set, from, to, func(ref *ondisk.Blockref) (bool, error) {
		if ahead.refs = append(ahead.refs, *ref); len(ahead.refs) < ahead.size {
			return true, nil
		}
		return ahead.flush(ctx, &v.reader, fn)
	})
	if err == nil && !ahead.stopped {
		_, err = ahead.flush(ctx, &v.reader, fn)
	}
	return err
}

// own is the owner of a record's own tree.
func (v *View) own(rec *InodeRec) owner {
	if rec == &v.root {
		return rootOwner
	}
	return rec.owner(rootOwner)
}

// need is Inode for a number that must exist.
func (v *View) need(ctx context.Context, inum uint64) (*InodeRec, error) {
	rec, ok, err := v.Inode(ctx, inum)
	if err == nil && !ok {
		err = fmt.Errorf("inode %d: %w", inum, ErrNoInode)
	}
	return rec, err
}

// Lookup finds a name in a directory.
func (v *View) Lookup(ctx context.Context, dir uint64, name string) (d ondisk.Dirent, ok bool, err error) {
	rec, err := v.need(ctx, dir)
	if err != nil || rec.Meta.Type != ondisk.ObjDir {
		return d, false, err
	}
	o, hash := v.own(rec), ondisk.NameHash(name)
	if v.reader.absent(o, rec.set, span{hash, hash | ondisk.CollisionMask}) {
		return d, false, nil
	}
	err = v.reader.scan(ctx, o, rec.set, hash, hash|ondisk.CollisionMask, func(ref *ondisk.Blockref) (bool, error) {
		if !mayBeNamed(ref, name) {
			return true, nil
		}
		e, err := v.reader.dirent(ctx, o, ref)
		if err == nil && e.Name == name {
			d, ok = e, true
		}
		return !ok, err
	})
	return d, ok, err
}

// mayBeNamed is false if the entry surely has another name, found without
// reading or decoding.
func mayBeNamed(ref *ondisk.Blockref, name string) bool {
	if int(ref.Embed[8])|int(ref.Embed[9])<<8 != len(name) {
		return false
	}
	return len(name) > ondisk.NameInRef || string(ref.Check[:len(name)]) == name
}

// Dirents calls fn for the entries of a directory with keys in [from, to], in
// order, until it returns false. The blockref must not be changed.
func (v *View) Dirents(ctx context.Context, dir uint64, from, to uint64, fn func(ondisk.Dirent, *ondisk.Blockref) bool) error {
	rec, err := v.need(ctx, dir)
	if err != nil || rec.Meta.Type != ondisk.ObjDir {
		return err
	}
	o, from := v.own(rec), max(from, ondisk.DirBit)
	if to-from <= ondisk.CollisionMask && v.reader.absent(o, rec.set, span{from, to}) {
		return nil
	}
	return v.reader.scan(ctx, o, rec.set, from, to, func(ref *ondisk.Blockref) (bool, error) {
		d, err := v.reader.dirent(ctx, o, ref)
		return err == nil && fn(d, ref), err
	})
}

// DataRefs calls fn for the data blocks of an inode that hold bytes of
// [from, to), in order, until it returns false. Holes have none; neither has
// inline content. The blockref must not be changed.
func (v *View) DataRefs(ctx context.Context, inum uint64, from, to uint64, fn func(*ondisk.Blockref) bool) error {
	rec, err := v.need(ctx, inum)
	if err != nil {
		return err
	}
	return v.dataRefs(ctx, rec, from, to, func(ref *ondisk.Blockref) (bool, error) { return fn(ref), nil })
}

func (v *View) dataRefs(ctx context.Context, rec *InodeRec, from, to uint64, fn func(*ondisk.Blockref) (bool, error)) error {
	o := v.own(rec)
	if o.kind != treeFile || from >= to {
		return nil
	}
	return v.reader.scan(ctx, o, rec.set, from, min(to-1, math.MaxInt64), fn)
}

// ReadBlock returns a data block as stored, its check code verified. ref is
// one of this view's DATA blockrefs.
func (v *View) ReadBlock(ctx context.Context, ref *ondisk.Blockref) (*ondisk.EncodedBlock, error) {
	if ref.Type != ondisk.TypeData {
		return nil, fmt.Errorf("%v: not a data block", ref)
	}
	stored, err := v.reader.src.readRaw(ctx, ref)
	if err != nil {
		return nil, &NodeError{Path: fmt.Sprintf("block %v", ref), Key: ref.Key, Ref: *ref, Err: err}
	}
	return &ondisk.EncodedBlock{
		Bytes: stored, Radix: ref.Radix(),
		Comp: ref.CompMethod(), Check: ref.CheckMethod(), Code: ref.Check,
	}, nil
}
