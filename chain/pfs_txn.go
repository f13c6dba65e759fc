package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// pfs returns the transaction's picture of the PFS of that label.
func (t *Txn) pfs(ctx context.Context, label string) (*pfsInfo, error) {
	for _, p := range t.changed {
		if p != nil && p.meta.Name() == label {
			return p, nil
		}
	}
	rec, err := findRoot(ctx, t.v, t.v.cache, t.sroot, label, t.changed)
	if err == nil {
		if p, ok := t.changed[rec.Ref.Key]; ok && p == nil {
			err = fmt.Errorf("%q: %w", label, ErrNoPFS)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.v.Name(), err)
	}
	return &pfsInfo{ref: rec.Ref, meta: rec.Meta}, nil
}

// replaceRoot makes ref the root of p, whose inode is written already.
func (t *Txn) replaceRoot(ctx context.Context, p *pfsInfo, ref ondisk.Blockref) error {
	r := treeReader{t, t.v.cache}
	rec, err := r.inode(ctx, superOwner, &ref)
	if err != nil {
		return err
	}
	t.changed[ref.Key] = &pfsInfo{ref: ref, meta: rec.Meta}
	return nil
}

// writeRoot writes a new root inode for p, which refers to set, with the tids
// that ref has already.
func (t *Txn) writeRoot(p *pfsInfo, ref ondisk.Blockref, meta ondisk.InodeMeta, set []ondisk.Blockref) error {
	ref.SetMethods(metaCheck(ref.CheckMethod()), ref.CompMethod())
	ref.Flags |= ondisk.FlagPFSRoot
	setCounts(&ref, set)
	block := make([]byte, ondisk.InodeSize)
	(&ondisk.Inode{Meta: meta, Blockset: set}).Encode(block)
	if p != nil {
		t.dropBlock(&p.ref, p)
	}
	if err := t.writeBlock(&ref, block, ref.Key); err != nil {
		return err
	}
	t.changed[ref.Key] = &pfsInfo{ref: ref, meta: meta}
	return nil
}

// rootSet is the blockset of a PFS's root.
func (t *Txn) rootSet(ctx context.Context, p *pfsInfo) ([]ondisk.Blockref, error) {
	r := treeReader{t, t.v.cache}
	rec, err := r.inode(ctx, superOwner, &p.ref)
	if err != nil {
		return nil, err
	}
	return rec.set, nil
}

// freeKey finds a key in the super-root for a new label.
func (t *Txn) freeKey(ctx context.Context, label string) (uint64, error) {
	if err := validLabel(label); err != nil {
		return 0, err
	}
	if _, err := t.pfs(ctx, label); err == nil {
		return 0, fmt.Errorf("%s: %q: %w", t.v.Name(), label, ErrPFSExists)
	} else if !errors.Is(err, ErrNoPFS) {
		return 0, err
	}
	r, set, err := superSet(ctx, t.v, t.v.cache, t.sroot)
	if err != nil {
		return 0, err
	}
	hash := ondisk.NameHash(label)
	for key := hash; key <= hash|ondisk.CollisionMask; key++ {
		// A key that was freed in this transaction is not used again: a view
		// of the old PFS may know it by key.
		if _, ok := t.changed[key]; ok {
			continue
		}
		if ref, err := r.find(ctx, superOwner, set, key); err != nil {
			return 0, err
		} else if ref == nil {
			return key, nil
		}
	}
	return 0, fmt.Errorf("%s: %q: too many PFSs with this hash: %w", t.v.Name(), label, ErrNoSpace)
}

// rootRef is the blockref of a new PFS root, without its block.
func rootRef(key uint64, mirror, modify ondisk.Tid) ondisk.Blockref {
	ref := ondisk.Blockref{Type: ondisk.TypeInode, Key: key, MirrorTid: mirror, ModifyTid: modify, Flags: ondisk.FlagPFSRoot}
	ref.SetMethods(ondisk.CheckXXHash64, ondisk.CompAutoZero)
	return ref
}

// CreatePFS makes an empty PFS.
func (t *Txn) CreatePFS(ctx context.Context, spec PFSSpec) error {
	if err := t.ready(); err != nil {
		return err
	}
	key, err := t.freeKey(ctx, spec.Label)
	if err != nil {
		return err
	}
	tid := spec.T
	if tid == 0 {
		tid = t.tid
	}
	return t.spoil(t.writeRoot(nil, rootRef(key, tid, tid), spec.rootMeta(key), nil))
}

// DeletePFS removes a PFS. What it alone refers to is left to Bulkfree.
func (t *Txn) DeletePFS(ctx context.Context, label string) error {
	if err := t.ready(); err != nil {
		return err
	}
	p, err := t.pfs(ctx, label)
	if err != nil {
		return err
	}
	t.leave(&p.ref)
	t.dropBlock(&p.ref, p)
	t.changed[p.ref.Key] = nil
	return nil
}

// DropUnreadable removes the roots that cannot be read and whose keys say that they
// are of a PFS of that label, and reports whether there was one. Their names are in
// them, but the keys are made of the names. What they refer to is left to Bulkfree.
func (t *Txn) DropUnreadable(ctx context.Context, label string) (dropped bool, err error) {
	hash := ondisk.NameHash(label)
	return t.dropUnreadable(ctx, hash, hash|ondisk.CollisionMask)
}

// DropUnreadableRoot is DropUnreadable of the root with that key.
func (t *Txn) DropUnreadableRoot(ctx context.Context, key uint64) (dropped bool, err error) {
	return t.dropUnreadable(ctx, key, key)
}

func (t *Txn) dropUnreadable(ctx context.Context, from, to uint64) (dropped bool, err error) {
	if err := t.ready(); err != nil {
		return false, err
	}
	r, set, err := superSet(ctx, t.v, t.v.cache, t.sroot)
	if err != nil {
		return false, err
	}
	err = r.scan(ctx, superOwner, set, from, to, func(ref *ondisk.Blockref) (bool, error) {
		if _, ok := t.changed[ref.Key]; ok {
			return true, nil
		}
		_, err := r.inode(ctx, superOwner, ref)
		switch {
		case err == nil:
			return true, nil
		case ctx.Err() != nil:
			return false, ctx.Err()
		case !errors.Is(err, ondisk.ErrCorrupt) && t.v.Probe() != nil:
			return false, err // the device is gone, not the root
		}
		t.leave(ref)
		t.changed[ref.Key], dropped = nil, true
		return true, nil
	})
	return dropped, err
}

// leave counts the content of a PFS as left to Bulkfree: all of it, although
// other PFSs may still refer to some.
func (t *Txn) leave(root *ondisk.Blockref) {
	t.stats.Left += int64(root.DataCount())
	t.limit.net -= min(int64(root.DataCount()), LastRoom/4) // enough to get rid of it
}

// SetPFS edits the PFS fields of a root inode: role, masters, cluster. Tids
// stay, since the files do.
func (t *Txn) SetPFS(ctx context.Context, label string, edit func(*ondisk.InodeMeta)) error {
	if err := t.ready(); err != nil {
		return err
	}
	p, err := t.pfs(ctx, label)
	if err != nil {
		return err
	}
	set, err := t.rootSet(ctx, p)
	if err != nil {
		return err
	}
	meta := p.meta
	edit(&meta)
	meta.NameKey, meta.Filename, meta.NameLen = p.meta.NameKey, p.meta.Filename, p.meta.NameLen
	meta.Inum, meta.Type, meta.OpFlags = p.meta.Inum, p.meta.Type, p.meta.OpFlags
	if err := meta.Validate(); err != nil {
		return err
	}
	return t.spoil(t.writeRoot(p, p.ref, meta, set))
}

// A SnapSpec says how a snapshot is made.
type SnapSpec struct {
	T          ondisk.Tid        // 0 = the source's
	Subtype    uint8             // 0 = ondisk.PFSSubSnapshot
	Type       ondisk.PFSType    // 0 = master
	Clid, Fsid ondisk.UUID       // zero = random
	Shadow     bool              // a second root to work on: neither snapshot nor cluster member
	Meta       *ondisk.InodeMeta // owner, mode and times; nil = the source's
}

// Snapshot makes a PFS named dst that shares everything with src. From then
// on neither frees what it had in common with the other.
func (t *Txn) Snapshot(ctx context.Context, src, dst string, spec SnapSpec) error {
	if err := t.ready(); err != nil {
		return err
	}
	p, err := t.pfs(ctx, src)
	if err != nil {
		return err
	}
	key, err := t.freeKey(ctx, dst)
	if err != nil {
		return err
	}
	set, err := t.rootSet(ctx, p)
	if err != nil {
		return err
	}
	tid := max(spec.T, p.ref.MirrorTid, p.meta.PFSLsnapTid)
	t.shared++ // what this transaction wrote may now have two owners
	meta := p.meta
	meta.PFSLsnapTid = tid
	if err := t.writeRoot(p, p.ref, meta, set); err != nil {
		return t.spoil(err)
	}
	snap := spec.meta(&p.meta, key, dst, tid)
	ref := rootRef(key, max(spec.T, p.ref.MirrorTid), p.ref.ModifyTid)
	return t.spoil(t.writeRoot(nil, ref, snap, set))
}

// meta is the root inode of a snapshot of src.
func (s *SnapSpec) meta(src *ondisk.InodeMeta, key uint64, label string, tid ondisk.Tid) ondisk.InodeMeta {
	m := *src
	if s.Meta != nil {
		copyAppearance(&m, s.Meta)
	}
	m.NameKey, m.Filename, m.NameLen = key, label, uint16(len(label))
	m.PFSLsnapTid, m.PFSInum, m.PFSNMasters = tid, src.PFSInum+1, 0
	m.PFSClid, m.PFSFsid = orNew(s.Clid), orNew(s.Fsid)
	m.PFSType = s.Type
	if m.PFSType == ondisk.PFSNone {
		m.PFSType = ondisk.PFSMaster
	}
	m.PFSSubtype = s.Subtype
	switch {
	case s.Shadow:
		m.PFSSubtype = ondisk.PFSSubNone
	case m.PFSSubtype == ondisk.PFSSubNone:
		m.PFSSubtype = ondisk.PFSSubSnapshot
	}
	return m
}

// SwapRoot gives label the content of the PFS shadow - files, times, inode
// numbers, tid - and removes shadow. Label, identity and role of label stay.
// What only the old content refers to is left to Bulkfree.
func (t *Txn) SwapRoot(ctx context.Context, label, shadow string) error {
	if err := t.ready(); err != nil {
		return err
	}
	p, err := t.pfs(ctx, label)
	if err != nil {
		return err
	}
	s, err := t.pfs(ctx, shadow)
	if err != nil {
		return err
	}
	set, err := t.rootSet(ctx, s)
	if err != nil {
		return err
	}
	meta := mergeRootMeta(&s.meta, &p.meta)
	meta.PFSLsnapTid = max(p.meta.PFSLsnapTid, s.meta.PFSLsnapTid)
	meta.SharedTid = max(p.meta.SharedTid, s.meta.SharedTid)
	ref := p.ref
	ref.MirrorTid, ref.ModifyTid = s.ref.MirrorTid, s.ref.ModifyTid
	t.leave(&p.ref)
	if err := t.writeRoot(p, ref, meta, set); err != nil {
		return t.spoil(err)
	}
	t.dropBlock(&s.ref, s)
	t.changed[s.ref.Key] = nil
	return nil
}
