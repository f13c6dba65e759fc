package chain

import (
	"context"
	"errors"

	"github.com/anvilfs/anvilfs/ondisk"
)

// applyInode makes the new INODE blockref for a group; old is nil if the
// index has none.
func (a *applier) applyInode(ctx context.Context, g *inodeGroup, old *ondisk.Blockref) (ref ondisk.Blockref, ok bool, err error) {
	var rec *InodeRec
	c := g.inode
	if old != nil {
		if rec = a.ahead.take(old); rec == nil {
			rec, err = a.reader.inode(ctx, rootOwner, old)
		}
		if c != nil && c.Delete && errors.Is(err, ondisk.ErrCorrupt) {
			a.store.dropBlock(old) // what it refers to is left to bulkfree
			return ref, false, nil
		}
		if c != nil && a.batch.Discard && errors.Is(err, ondisk.ErrCorrupt) {
			a.store.dropBlock(old)
			rec, err = nil, nil
		}
		if err != nil {
			return ref, false, err
		}
	}
	switch {
	case c != nil && c.Delete:
		if err := g.checkPresent(true); err != nil || rec == nil {
			return ref, false, err
		}
		return ref, false, a.deleteInode(ctx, rec)
	case c == nil && rec == nil:
		return ref, false, g.checkPresent(false)
	}
	ino, ref := startInode(g, rec)
	m := a.merger(owner{g.inum, kindOf(ino.Meta.Type)})
	m.shared = ino.Meta.SharedTid
	if err := g.checkShape(&ino.Meta); err != nil {
		return ref, false, err
	}
	if ino.Blockset, err = a.keepSet(ctx, rec, &ino.Meta); err != nil {
		return ref, false, err
	}
	changes, j := g.leaves()
	m.leaf = func(i int, old *ondisk.Blockref, methods uint8) (ondisk.Blockref, bool, error) {
		if changes[i].Kind == KindDirent {
			return m.applyDirent(&changes[i], old, methods)
		}
		return m.applyData(&changes[i], old)
	}
	changed := false
	if ino.Meta.DirectData() {
		j.ops, j.dels = nil, nil // deletions only, and there is nothing to delete
	} else if ino.Blockset, changed, err = m.run(ctx, ino.Blockset, j, ref.Methods); err != nil {
		return ref, false, err
	}
	a.markInode(g.inum, ino)
	if c == nil && !changed && len(j.touch) == 0 && ino.Meta.SharedTid == m.shared {
		return *old, true, nil
	}
	switch {
	case c != nil:
		ref.ModifyTid = c.modifyTid(a.batch.T)
	case changed:
		ref.ModifyTid = max(ref.ModifyTid, g.newest(a.batch.T))
	}
	if rec != nil {
		a.store.dropBlock(old)
	}
	err = m.writeInode(treeRoot, &ref, ino)
	return ref, true, err
}

// startInode is the new inode without its blockset, and its blockref as far as
// it is known.
func startInode(g *inodeGroup, rec *InodeRec) (*ondisk.Inode, ondisk.Blockref) {
	ino := new(ondisk.Inode)
	ref := ondisk.Blockref{Type: ondisk.TypeInode, Key: g.inum}
	if rec != nil {
		ref = rec.Ref
		ino.Meta = rec.Meta
		copy(ino.Inline[:], rec.Inline)
	}
	if c := g.inode; c != nil {
		ino.Meta = *c.Inode
		ino.Meta.SharedTid = 0
		if rec != nil {
			ino.Meta.SharedTid = rec.Meta.SharedTid // what is said by others of their blocks
		}
		clear(ino.Inline[copy(ino.Inline[:], c.Inline):])
	}
	comp := ondisk.CompMethod(ino.Meta.CompAlgo & 15)
	ref.SetMethods(metaCheck(ondisk.CheckMethod(ino.Meta.CheckAlgo&15)), comp)
	return ino, ref
}

// checkShape looks for leaves that such an inode cannot have.
func (g *inodeGroup) checkShape(meta *ondisk.InodeMeta) error {
	for i := range g.dirents {
		if c := &g.dirents[i]; meta.Type != ondisk.ObjDir {
			return c.bad("a %v has no entries", meta.Type)
		}
	}
	for i := range g.data {
		switch c := &g.data[i]; {
		case meta.Type == ondisk.ObjDir:
			return c.bad("a directory has no data")
		case !c.Delete && meta.DirectData():
			return c.bad("the inode has its content inline")
		}
	}
	return nil
}

// keepSet is the blockset to go on with. It is dropped when the content
// becomes inline, and when a number stands for another kind of file, as it may
// where two histories part.
func (a *applier) keepSet(ctx context.Context, rec *InodeRec, meta *ondisk.InodeMeta) ([]ondisk.Blockref, error) {
	if rec == nil || rec.set == nil {
		return nil, nil
	}
	if !meta.DirectData() && kindOf(meta.Type) == kindOf(rec.Meta.Type) {
		return rec.set, nil
	}
	return nil, a.dropAll(ctx, rec)
}

func (a *applier) deleteInode(ctx context.Context, rec *InodeRec) error {
	if err := a.dropAll(ctx, rec); err != nil {
		return err
	}
	a.store.dropBlock(&rec.Ref)
	return nil
}

// dropAll drops all that an inode refers to.
func (a *applier) dropAll(ctx context.Context, rec *InodeRec) error {
	m := a.merger(rec.owner(rootOwner))
	m.shared = rec.Meta.SharedTid
	return m.dropSet(ctx, rec.set, 0)
}

// applyDirent makes the leaf of an entry.
func (m *merger) applyDirent(c *Change, old *ondisk.Blockref, methods uint8) (ref ondisk.Blockref, ok bool, err error) {
	if old != nil {
		m.dropLeaf(old)
	}
	if c.Delete {
		return ref, false, nil
	}
	ref, block := c.Dirent.Blockref()
	ref.Methods = methods
	ref.MirrorTid, ref.ModifyTid = m.tid, c.modifyTid(m.tid)
	if block != nil {
		err = m.store.writeBlock(&ref, block, ref.Key)
	}
	return ref, true, err
}

// applyData makes the leaf of a data block.
func (m *merger) applyData(c *Change, old *ondisk.Blockref) (ondisk.Blockref, bool, error) {
	if c.Share != nil {
		return m.applyShare(c, old)
	}
	if old != nil {
		m.dropLeaf(old)
	}
	ref := ondisk.Blockref{Key: c.Key, MirrorTid: m.tid, ModifyTid: c.modifyTid(m.tid)}
	c.Block.SetRef(&ref)
	err := m.writeData(&ref, c)
	return ref, true, err
}
