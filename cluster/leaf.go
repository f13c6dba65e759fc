package cluster

import (
	"context"
	"errors"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Leaf is a place in a PFS where something could not be read.
type Leaf struct {
	Inum uint64           `json:"inode"`
	Key  uint64           `json:"key"`
	Kind ondisk.BlockType `json:"kind"`
}

// LeafOf is the place that an error names.
func LeafOf(e *chain.NodeError) Leaf { return Leaf{e.Inum, e.Ref.Key, e.Ref.Type} }

// Single reports whether the leaf can be rewritten by itself. Damage above the
// leaves loses whole ranges.
func (l Leaf) Single() bool { return l.Kind == ondisk.TypeData || l.Kind == ondisk.TypeDirent }

// Fetch makes the change that writes the leaf as v has it; ok is false if it
// is not there any more.
func (l Leaf) Fetch(ctx context.Context, v *chain.View) (c chain.Change, ok bool, err error) {
	c = chain.Change{Inum: l.Inum, Key: l.Key}
	if l.Kind == ondisk.TypeDirent {
		c.Kind = chain.KindDirent
		err = v.Dirents(ctx, l.Inum, l.Key, l.Key, func(e ondisk.Dirent, ref *ondisk.Blockref) bool {
			c.Dirent, c.ModifyTid, ok = e, ref.ModifyTid, true
			return false
		})
		return c, ok, unlessGone(err)
	}
	c.Kind = chain.KindData
	ref, ok, err := dataRef(ctx, v, l.Inum, l.Key)
	if err != nil || !ok {
		return c, false, err
	}
	c.ModifyTid = ref.ModifyTid
	c.Block, err = v.ReadBlock(ctx, &ref)
	return c, err == nil, err
}

// Rewrite puts the leaf in place of the damaged one, if that is still the
// same version of it.
func (m *Media) Rewrite(ctx context.Context, l Leaf, change chain.Change) (written bool, err error) {
	return m.Replace(ctx, change, func(v *chain.View) (bool, error) { return l.still(ctx, v, change.ModifyTid) })
}

// Replace applies one change to the PFS as it is, if still finds that it is
// wanted. Tree and state keep their numbers: the content is what the cluster has
// at this txg.
func (m *Media) Replace(ctx context.Context, change chain.Change, still func(*chain.View) (bool, error)) (written bool, err error) {
	return replaceLeaf(ctx, m.vol, m.label, change, still)
}

// replaceLeaf is Replace in any PFS of a volume.
func replaceLeaf(ctx context.Context, vol *chain.Volume, label string, change chain.Change, still func(*chain.View) (bool, error)) (written bool, err error) {
	t, err := vol.Begin(ctx)
	if err != nil {
		return false, err
	}
	t.UseReserve()
	v, err := t.View(ctx, label)
	if err != nil {
		t.Abort()
		return false, err
	}
	same, err := still(v)
	T := v.T()
	v.Release()
	if err == nil && same {
		err = t.Apply(ctx, label, &chain.Batch{T: T, Changes: []chain.Change{change}, Discard: true})
	}
	if err != nil || !same {
		t.Abort()
		return false, err
	}
	if err := t.Commit(ctx); err != nil {
		return false, err
	}
	return true, nil
}

// unlessGone is err, nil if all it says is that the inode was removed: what was bad
// in it is gone with it.
func unlessGone(err error) error {
	if errors.Is(err, chain.ErrNoInode) {
		return nil
	}
	return err
}

// dataRef finds the data block of an inode that holds the byte at key. The inode
// need not be there.
func dataRef(ctx context.Context, v *chain.View, inum, key uint64) (ref ondisk.Blockref, found bool, err error) {
	err = v.DataRefs(ctx, inum, key, key+1, func(r *ondisk.Blockref) bool {
		ref, found = *r, true
		return false
	})
	return ref, found, unlessGone(err)
}

// still reports whether the leaf has that modify_tid and cannot be read.
func (l Leaf) still(ctx context.Context, v *chain.View, modify ondisk.Tid) (bool, error) {
	if l.Kind == ondisk.TypeDirent {
		err := v.Dirents(ctx, l.Inum, l.Key, l.Key, func(ondisk.Dirent, *ondisk.Blockref) bool { return false })
		return unlessGone(err) != nil, nil
	}
	ref, found, err := dataRef(ctx, v, l.Inum, l.Key)
	if err != nil || !found || ref.ModifyTid != modify {
		return false, err
	}
	_, err = v.ReadBlock(ctx, &ref)
	return err != nil, nil
}
