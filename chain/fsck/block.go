package fsck

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// block judges a block that was read; err says that it could not be, or that
// its check code is wrong. ok means that c is to be walked.
func (w *walk) block(ctx context.Context, pl place, r *ondisk.Blockref, block []byte, err error) (c child, ok bool) {
	table := r.Type == ondisk.TypeInode || r.Type == ondisk.TypeIndirect
	if table && w.newest && pl.tree != fileTree {
		if pl.p != nil && !pl.p.first(r) {
			w.found(pl, r, Error, fmt.Sprintf("%v: the PFS refers to this block more than once", r), remedyTree)
			pl.p.lose()
			return c, false
		}
		// The quiet way through what another PFS shares.
		pl.again = w.c.seen.add(r) || pl.again
	}
	if !pl.again {
		w.c.count(r)
	}
	if err != nil {
		if !pl.again {
			w.unreadable(pl, r, err)
		}
		if table && pl.p != nil {
			pl.p.lose()
		}
		return c, false
	}
	switch r.Type {
	case ondisk.TypeIndirect:
		c = child{pl: pl, ref: *r}
		c.pl.depth++
		c.refs, c.whole = w.elements(pl, r, block)
		return c, true
	case ondisk.TypeInode:
		return w.inode(ctx, pl, r, block)
	case ondisk.TypeDirent:
		if _, err := ondisk.DecodeDirent(r, block); err != nil {
			w.found(pl, r, Error, err.Error(), remedyTree)
		}
	case ondisk.TypeData:
		w.data(pl, r, block)
	}
	return c, false
}

func (w *walk) unreadable(pl place, r *ondisk.Blockref, err error) {
	remedy := remedyTree
	if r.Type == ondisk.TypeData {
		remedy = remedyFile
	}
	what := fmt.Sprintf("%v cannot be read: %v", r, err)
	if ce := (*ondisk.CheckError)(nil); errors.As(err, &ce) {
		what = fmt.Sprintf("%v: check code %s, want %s: the block is damaged", r, ce.Got, ce.Want)
	}
	if r.Type == ondisk.TypeData {
		what = fmt.Sprintf("bytes from %d on: %s", r.Key, what)
	}
	w.found(pl, r, Error, what, remedy)
}

func (w *walk) data(pl place, r *ondisk.Blockref, block []byte) {
	dst := dataPool.Get().(*[ondisk.LogicalBlock]byte)
	defer dataPool.Put(dst)
	if _, err := ondisk.DecodeData(r, block, dst[:]); err != nil {
		w.found(pl, r, Error, fmt.Sprintf("bytes from %d on: %v", r.Key, err), remedyFile)
	}
	if end := (pl.size + ondisk.LogicalBlock - 1) &^ (ondisk.LogicalBlock - 1); r.Key >= end {
		w.found(pl, r, Warning, fmt.Sprintf("%v lies behind the end of the file at %d", r, pl.size), "")
	}
}

// inode judges an inode, and returns its array.
func (w *walk) inode(ctx context.Context, pl place, r *ondisk.Blockref, block []byte) (c child, ok bool) {
	meta, err := ondisk.DecodeInodeMeta(block)
	if err != nil {
		if !pl.again {
			w.found(pl, r, Error, fmt.Sprintf("%v: %v", r, err), remedyTree)
		}
		if pl.p != nil {
			pl.p.lose()
		}
		return c, false
	}
	if pl.tree == superTree {
		w.pfsRoot(r, &meta, block)
		return c, false
	}
	if !pl.again {
		w.ordinary(pl, r, &meta)
	}
	if w.newest {
		pl.p.addInode(r.Key, &meta)
	}
	c = child{ref: *r, pl: place{p: pl.p, inum: r.Key, size: meta.Size, tree: treeOf(meta.Type), again: pl.again}}
	if r.Key&ondisk.AttrBit != 0 && w.newest && !pl.again {
		w.attributes(ctx, c.pl, r, &meta, block)
	}
	if meta.DirectData() {
		c.whole = true // no elements, and so no counts
	} else {
		c.refs, c.whole = w.elements(c.pl, r, block[ondisk.InodeMetaSize:])
	}
	if c.whole && !c.pl.again && w.newest {
		w.charged(c.pl, r, &meta, c.refs)
	}
	if c.pl.again && c.pl.tree != dirTree {
		return c, false
	}
	return c, true
}

func treeOf(t ondisk.ObjType) treeKind {
	switch t {
	case ondisk.ObjDir:
		return dirTree
	case ondisk.ObjFile, ondisk.ObjSymlink:
		return fileTree
	}
	return noTree
}

// ordinary judges an inode of the index.
func (w *walk) ordinary(pl place, r *ondisk.Blockref, m *ondisk.InodeMeta) {
	want := ondisk.NewInodeMeta(r.Key, m.Type)
	switch {
	case m.Inum != r.Key:
		w.found(pl, r, Error, fmt.Sprintf("the inode under number %d says it is %d", r.Key, m.Inum), remedyTree)
	case r.Flags&ondisk.FlagPFSRoot != 0 || m.OpFlags&ondisk.OpPFSRoot != 0:
		w.found(pl, r, Error, "marked as root of a PFS, but is an ordinary inode", remedyTree)
	case m.NameKey != want.NameKey || m.Name() != want.Name():
		w.found(pl, r, Warning, fmt.Sprintf("carries the name %q with key %016x instead of its number", m.Name(), m.NameKey), "")
	case r.Key == ondisk.InumRoot || r.Key == 0:
		w.found(pl, r, Error, fmt.Sprintf("number %d is in the index", r.Key), remedyTree)
	case unnamed(r.Key) && m.Type != ondisk.ObjFile:
		w.found(pl, r, Error, fmt.Sprintf("inode %d, which is the filesystem's own, is a %v", r.Key, m.Type), remedyTree)
	}
}

// attributes judges the inode that holds the extended attributes of another.
func (w *walk) attributes(ctx context.Context, pl place, r *ondisk.Blockref, m *ondisk.InodeMeta, block []byte) {
	if m.Type != ondisk.ObjFile || m.Size > ondisk.XattrTotalMax {
		w.found(pl, r, Error, fmt.Sprintf("holds attributes, but is a %v of %d bytes", m.Type, m.Size), "delete the attributes")
		return
	}
	content := make([]byte, m.Size)
	if m.DirectData() {
		copy(content, block[ondisk.InodeMetaSize:])
	} else if w.c.opts.SkipData {
		return
	} else {
		_, _, refs, err := w.c.set.Inode(r)
		if err != nil {
			return // reported with the array
		}
		whole := true
		_ = w.c.set.Scan(ctx, refs, 0, m.Size, func(d *ondisk.Blockref, err error) bool {
			stored, rerr := w.c.set.Read(d)
			if err != nil || rerr != nil || d.Type != ondisk.TypeData || d.Key >= m.Size {
				whole = false
				return false
			}
			_, err = ondisk.DecodeData(d, stored, content[d.Key:min(d.Key+ondisk.LogicalBlock, m.Size)])
			whole = err == nil
			return whole
		})
		if !whole {
			return // reported with the data
		}
	}
	if _, err := ondisk.DecodeXattrs(content); err != nil {
		w.found(pl, r, Error, fmt.Sprintf("extended attributes: %v", err), "delete the attributes")
	}
}
