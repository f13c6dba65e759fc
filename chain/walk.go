package chain

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// maxDepth bounds descents. No writer comes near it; a loop made of tables
// without check codes would.
const maxDepth = 64

// A NodeError is a failure to read one block of a tree: this node cannot
// answer, another may. It wraps ErrCorrupt or the device's error.
type NodeError struct {
	Path string // the place, in words
	Inum uint64 // inode whose tree it is
	Key  uint64 // first key that cannot be reached
	Ref  ondisk.Blockref
	Err  error
}

func (e *NodeError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *NodeError) Unwrap() error { return e.Err }

// An owner is the inode whose tree is walked, and what may be in it.
type owner struct {
	inum uint64
	kind treeKind
}

// treeKind says which leaves a tree holds.
type treeKind uint8

const (
	treeFile  treeKind = iota // data
	treeDir                   // entries
	treeRoot                  // PFS root: inodes below bit 63, entries above
	treeSuper                 // super-root: PFS roots
)

// kindOf is the kind of an ordinary inode's own tree.
func kindOf(t ondisk.ObjType) treeKind {
	if t == ondisk.ObjDir {
		return treeDir
	}
	return treeFile
}

func (o owner) fail(ref *ondisk.Blockref, err error) error {
	name := fmt.Sprintf("inode %d", o.inum)
	if o.kind == treeSuper {
		name = "super-root"
	}
	return &NodeError{
		Path: fmt.Sprintf("%s: block %v", name, ref),
		Inum: o.inum, Key: ref.Key, Ref: *ref, Err: err,
	}
}

// allows reports whether such an element may be in the tree.
func (k treeKind) allows(r *ondisk.Blockref) bool {
	upper := r.Key&ondisk.DirBit != 0
	switch r.Type {
	case ondisk.TypeIndirect:
		return true
	case ondisk.TypeData:
		return k == treeFile && !upper
	case ondisk.TypeDirent:
		return k == treeDir || k == treeRoot
	case ondisk.TypeInode:
		return k == treeRoot && !upper || k == treeSuper && upper
	}
	return false
}

// damaged is an ErrCorrupt found by comparing blocks with each other.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ondisk.ErrCorrupt}, args...)...)
}

var errTooDeep = damaged("tables nested more than %d deep", maxDepth)

// A blockSource reads stored blocks, verified: the volume, or a transaction,
// which knows blocks that are not on the device yet.
type blockSource interface {
	readRaw(ctx context.Context, ref *ondisk.Blockref) ([]byte, error)
	// readMany calls fn for each of refs; stored is valid during the call only.
	readMany(ctx context.Context, refs []ondisk.Blockref, fn func(i int, stored []byte) error) error
}

// A treeReader reads decoded blocks through a cache. Safe for concurrent use.
type treeReader struct {
	src   blockSource
	cache *tableCache
}

// table returns the elements of an INDIRECT, which must not be changed.
func (r *treeReader) table(ctx context.Context, o owner, ref *ondisk.Blockref) ([]ondisk.Blockref, error) {
	if t, ok := r.cache.get(ref).(*table); ok && t.fits(o, ref) {
		return t.refs, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	block, err := r.src.readRaw(ctx, ref)
	if err != nil {
		return nil, o.fail(ref, err)
	}
	refs, err := ondisk.DecodeBlockrefs(block)
	if err != nil {
		return nil, o.fail(ref, err)
	}
	for i := range refs {
		if refs[i].Key < ref.Key || refs[i].LastKey() > ref.LastKey() {
			return nil, o.fail(ref, damaged("%v lies outside", &refs[i]))
		}
	}
	if err := o.check(refs); err != nil {
		return nil, o.fail(ref, err)
	}
	t := &table{refs, o.kind}
	r.cache.put(ref, t, t.size())
	return refs, nil
}

// check looks for elements that do not belong into the tree.
func (o owner) check(refs []ondisk.Blockref) error {
	for i := range refs {
		if !o.kind.allows(&refs[i]) {
			return damaged("%v does not belong here", &refs[i])
		}
	}
	return nil
}

// inode reads an INODE block; o is the tree that refers to it.
func (r *treeReader) inode(ctx context.Context, o owner, ref *ondisk.Blockref) (*InodeRec, error) {
	if rec := r.cachedInode(o, ref); rec != nil {
		return rec, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	block, err := r.src.readRaw(ctx, ref)
	if err != nil {
		return nil, o.fail(ref, err)
	}
	return r.decodeInode(o, ref, block)
}

// cachedInode is nil also if the inode was judged in another kind of tree, or
// under another number: one block may be referred to from anywhere.
func (r *treeReader) cachedInode(o owner, ref *ondisk.Blockref) *InodeRec {
	rec, _ := r.cache.get(ref).(*InodeRec)
	if rec == nil || rec.in != o.kind || rec.Ref.Key != ref.Key {
		return nil
	}
	if rec.Ref != *ref {
		clone := *rec
		clone.Ref = *ref
		rec = &clone
	}
	return rec
}

// decodeInode is judgeInode of a block that will be wanted again.
func (r *treeReader) decodeInode(o owner, ref *ondisk.Blockref, block []byte) (*InodeRec, error) {
	rec, err := judgeInode(o, ref, block)
	if err == nil {
		r.cache.put(ref, rec, rec.size())
	}
	return rec, err
}

// judgeInode checks a verified INODE block against its place.
func judgeInode(o owner, ref *ondisk.Blockref, block []byte) (*InodeRec, error) {
	ino, err := ondisk.DecodeInode(block)
	if err != nil {
		return nil, o.fail(ref, err)
	}
	if o.kind == treeRoot && ino.Meta.Inum != ref.Key {
		return nil, o.fail(ref, damaged("inode says its number is %d", ino.Meta.Inum))
	}
	if root := o.kind == treeSuper || o == superRootOwner; root && ino.Meta.Type != ondisk.ObjDir {
		return nil, o.fail(ref, damaged("the root is a %v", ino.Meta.Type))
	}
	if o.kind == treeSuper && ino.Meta.Inum != ondisk.InumRoot {
		return nil, o.fail(ref, damaged("the root says its number is %d", ino.Meta.Inum))
	}
	rec := &InodeRec{Meta: ino.Meta, Ref: *ref, set: ino.Blockset, in: o.kind}
	if ino.Meta.DirectData() {
		rec.Inline = ino.Inline[:]
	} else if err := rec.owner(o).check(ino.Blockset); err != nil {
		return nil, o.fail(ref, err)
	}
	return rec, nil
}

// owner is rec as the owner of its own tree; parent is the tree it is in.
func (rec *InodeRec) owner(parent owner) owner {
	switch {
	case parent.kind == treeSuper:
		return owner{rec.Meta.Inum, treeRoot}
	case rec.Meta.PFSType == ondisk.PFSSuperRoot && parent.inum == 0:
		return owner{0, treeSuper}
	}
	return owner{rec.Meta.Inum, kindOf(rec.Meta.Type)}
}

// dirent reads an entry, with its block if the name is long.
func (r *treeReader) dirent(ctx context.Context, o owner, ref *ondisk.Blockref) (ondisk.Dirent, error) {
	if ref.DataOff == 0 {
		d, err := ondisk.DecodeDirent(ref, nil)
		if err != nil {
			return d, o.fail(ref, err)
		}
		return d, nil
	}
	if d, ok := r.cache.get(ref).(*ondisk.Dirent); ok && sameHead(d, ref) {
		return *d, nil
	}
	block, err := r.src.readRaw(ctx, ref)
	if err != nil {
		return ondisk.Dirent{}, o.fail(ref, err)
	}
	d, err := ondisk.DecodeDirent(ref, block)
	if err != nil {
		return d, o.fail(ref, err)
	}
	r.cache.put(ref, &d, 320)
	return d, nil
}

// sameHead reports whether a cached entry is that of ref, and not of another
// reference to its name.
func sameHead(d *ondisk.Dirent, ref *ondisk.Blockref) bool {
	return d.Key == ref.Key && d.Inum == binary.LittleEndian.Uint64(ref.Embed[:]) && uint8(d.Type) == ref.Embed[10]
}

// find returns the leaf at key and what follows it in its array, nil if there
// is none. Leaves must not be changed.
func (r *treeReader) find(ctx context.Context, o owner, refs []ondisk.Blockref, key uint64) ([]ondisk.Blockref, error) {
	for depth := 0; ; depth++ {
		i := search(refs, key)
		if i == len(refs) || refs[i].Key > key {
			return nil, nil
		}
		ref := &refs[i]
		if ref.Type != ondisk.TypeIndirect {
			return refs[i:], nil
		}
		if depth == maxDepth {
			return nil, o.fail(ref, errTooDeep)
		}
		var err error
		if refs, err = r.table(ctx, o, ref); err != nil {
			return nil, err
		}
	}
}

// scan calls fn for the leaves with a key in [from, to], in order, until it
// returns false or an error. Leaves must not be changed.
func (r *treeReader) scan(ctx context.Context, o owner, refs []ondisk.Blockref, from, to uint64,
	fn func(*ondisk.Blockref) (bool, error)) error {
	_, err := r.scanTable(ctx, o, refs, from, to, 0, fn)
	return err
}

func (r *treeReader) scanTable(ctx context.Context, o owner, refs []ondisk.Blockref, from, to uint64, depth int,
	fn func(*ondisk.Blockref) (bool, error)) (more bool, err error) {
	for i := search(refs, from); i < len(refs) && refs[i].Key <= to; i++ {
		ref := &refs[i]
		if ref.Type != ondisk.TypeIndirect {
			if more, err = fn(ref); err != nil || !more {
				return false, err
			}
			continue
		}
		if depth == maxDepth {
			return false, o.fail(ref, errTooDeep)
		}
		kids, err := r.table(ctx, o, ref)
		if err != nil {
			return false, err
		}
		if more, err = r.scanTable(ctx, o, kids, from, to, depth+1, fn); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}
