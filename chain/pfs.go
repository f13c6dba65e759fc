package chain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A pfsInfo is one PFS as its root stands in a transaction.
type pfsInfo struct {
	ref  ondisk.Blockref  // in the super-root; ref.Key is the PFS's key
	meta ondisk.InodeMeta // of the root inode
}

// sroot is the blockref of the super-root inode, zero if there is none.
func sroot(h *ondisk.VolumeHeader) ondisk.Blockref {
	for i := range h.Sroot {
		if r := h.Sroot[i]; r.Type == ondisk.TypeInode && r.Key == 0 {
			return r
		}
	}
	return ondisk.Blockref{}
}

// superSet returns the reader and top array of a super-root.
func superSet(ctx context.Context, src blockSource, cache *tableCache, root ondisk.Blockref) (*treeReader, []ondisk.Blockref, error) {
	r := &treeReader{src, cache}
	if root.Type != ondisk.TypeInode {
		return nil, nil, damaged("the volume header has no super-root")
	}
	rec, err := r.inode(ctx, superRootOwner, &root)
	if err != nil {
		return nil, nil, err
	}
	return r, rec.set, nil
}

// scanRoots calls fn for the PFS roots with keys in [from, to] below a
// super-root. A root that cannot be read stops nothing: it is passed to bad.
func scanRoots(ctx context.Context, src blockSource, cache *tableCache, root ondisk.Blockref, from, to uint64,
	fn func(*InodeRec) bool, bad func(error)) error {
	r, set, err := superSet(ctx, src, cache, root)
	if err != nil {
		return err
	}
	return r.scan(ctx, superOwner, set, from, to, func(ref *ondisk.Blockref) (bool, error) {
		rec, err := r.inode(ctx, superOwner, ref)
		if err != nil {
			bad(err)
			return ctx.Err() == nil, ctx.Err()
		}
		return fn(rec), nil
	})
}

// findRoot returns the root inode of the PFS of that label. Roots with the keys of
// gone, which cannot be read, are not there any more.
func findRoot(ctx context.Context, src blockSource, cache *tableCache, root ondisk.Blockref, label string, gone map[uint64]*pfsInfo) (found *InodeRec, err error) {
	var damage error
	hash := ondisk.NameHash(label)
	err = scanRoots(ctx, src, cache, root, hash, hash|ondisk.CollisionMask, func(rec *InodeRec) bool {
		if rec.Meta.Name() == label {
			found = rec
		}
		return found == nil
	}, func(err error) {
		var where *NodeError
		if errors.As(err, &where) {
			if p, ok := gone[where.Ref.Key]; ok && p == nil {
				return
			}
		}
		damage = errors.Join(damage, err)
	})
	switch {
	case err != nil:
		return nil, err
	case found == nil && damage != nil:
		return nil, damage
	case found == nil:
		return nil, fmt.Errorf("%q: %w", label, ErrNoPFS)
	}
	return found, nil
}

// View opens the committed state of a PFS. The caller releases it.
func (v *Volume) View(ctx context.Context, label string) (*View, error) {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", v.Name(), ErrClosed)
	}
	root := sroot(v.hdr)
	// The super-root is pinned until the PFS's root is known, then that.
	p := v.pinLocked(root)
	v.mu.Unlock()
	rec, err := findRoot(ctx, v, v.cache, root, label, nil)
	if err == nil {
		v.mu.Lock()
		p.root = rec.Ref
		v.mu.Unlock()
		var view *View
		if view, err = newView(ctx, v, v.cache, rec.Ref, func() { v.unpin(p) }); err == nil {
			return view, nil
		}
	}
	v.unpin(p)
	return nil, fmt.Errorf("%s: %w", v.Name(), err)
}

// PFSs lists the PFSs of the committed state in order of their keys. Roots
// that cannot be read are left out and their errors returned beside the list.
func (v *Volume) PFSs(ctx context.Context) ([]PFSInfo, error) {
	v.mu.Lock()
	p := v.pinLocked(sroot(v.hdr))
	v.mu.Unlock()
	defer v.unpin(p)
	var list []PFSInfo
	var damage error
	err := scanRoots(ctx, v, v.cache, p.root, 0, ^uint64(0), func(rec *InodeRec) bool {
		list = append(list, describePFS(rec))
		return true
	}, func(err error) { damage = errors.Join(damage, err) })
	return list, errors.Join(err, damage)
}

// UnreadableRoots are the keys of the PFS roots of the committed state that cannot be
// read. A key begins with the hash of the label.
func (v *Volume) UnreadableRoots(ctx context.Context) (keys []uint64, err error) {
	v.mu.Lock()
	p := v.pinLocked(sroot(v.hdr))
	v.mu.Unlock()
	defer v.unpin(p)
	err = scanRoots(ctx, v, v.cache, p.root, 0, ^uint64(0), func(*InodeRec) bool { return true }, func(err error) {
		var where *NodeError
		if errors.As(err, &where) {
			keys = append(keys, where.Ref.Key)
		}
	})
	return keys, err
}

// A PFSInfo describes one PFS of a volume.
type PFSInfo struct {
	Label      string
	Key        uint64 // in the super-root
	Type       ondisk.PFSType
	Subtype    uint8
	NMasters   uint8
	Clid, Fsid ondisk.UUID
	T          ondisk.Tid // mirror_tid of its root
	ModifyTid  ondisk.Tid
	LsnapTid   ondisk.Tid // of the last snapshot
	LastInum   uint64     // highest inode number handed out
	Inodes     uint64     // below the root
	DataBytes  uint64     // referred to, shared blocks included
	Meta       ondisk.InodeMeta
}

func describePFS(rec *InodeRec) PFSInfo {
	m := rec.Meta
	return PFSInfo{
		Label: m.Name(), Key: rec.Ref.Key, Type: m.PFSType, Subtype: m.PFSSubtype,
		NMasters: m.PFSNMasters, Clid: m.PFSClid, Fsid: m.PFSFsid,
		T: rec.Ref.MirrorTid, ModifyTid: rec.Ref.ModifyTid, LsnapTid: m.PFSLsnapTid,
		LastInum: m.PFSInum, Inodes: rec.Ref.InodeCount(), DataBytes: rec.Ref.DataCount(),
		Meta: m,
	}
}

// A PFSSpec says how a PFS is made.
type PFSSpec struct {
	Label      string
	Type       ondisk.PFSType // 0 = master
	NMasters   uint8
	Clid, Fsid ondisk.UUID       // zero = random
	Comp       uint8             // comp_algo byte; 0 = LZ4, but AUTOZERO for "boot"
	Check      uint8             // check_algo byte; 0 = XXHASH64
	Plain      bool              // Comp and Check are meant as they are, 0 included
	T          ondisk.Tid        // of its root; 0 = the header's next
	Meta       *ondisk.InodeMeta // owner, mode, times and flags; nil = 0:0, 0755, now
}

// rootMeta builds the root inode of a new PFS with that key.
func (s *PFSSpec) rootMeta(key uint64) ondisk.InodeMeta {
	m := ondisk.NewInodeMeta(ondisk.InumRoot, ondisk.ObjDir)
	m.OpFlags, m.Mode, m.Nlinks, m.Iparent = ondisk.OpPFSRoot, 0o755, 1, ondisk.InumRoot
	now := time.Now()
	m.SetCtime(now.Unix(), uint32(now.Nanosecond()))
	m.SetMtime(now.Unix(), uint32(now.Nanosecond()))
	m.SetBtime(now.Unix(), uint32(now.Nanosecond()))
	m.CompAlgo, m.CheckAlgo = s.Comp, s.Check
	if !s.Plain && m.CompAlgo == 0 {
		m.CompAlgo = uint8(ondisk.CompLZ4)
		if s.Label == "boot" || s.Label == "BOOT" {
			m.CompAlgo = uint8(ondisk.CompAutoZero)
		}
	}
	if !s.Plain && m.CheckAlgo == 0 {
		m.CheckAlgo = uint8(ondisk.CheckXXHash64)
	}
	if s.Meta != nil {
		copyAppearance(&m, s.Meta)
	}
	m.NameKey, m.Filename, m.NameLen = key, s.Label, uint16(len(s.Label))
	m.PFSType, m.PFSNMasters = s.Type, s.NMasters
	if m.PFSType == ondisk.PFSNone {
		m.PFSType = ondisk.PFSMaster
	}
	m.PFSClid, m.PFSFsid = orNew(s.Clid), orNew(s.Fsid)
	return m
}

// copyAppearance copies what users see of a root directory.
func copyAppearance(m, from *ondisk.InodeMeta) {
	m.UID, m.GID, m.Mode, m.UFlags = from.UID, from.GID, from.Mode, from.UFlags
	m.Ctime, m.Mtime, m.Atime, m.Btime, m.Nanos = from.Ctime, from.Mtime, from.Atime, from.Btime, from.Nanos
}

func orNew(u ondisk.UUID) ondisk.UUID {
	if u.IsZero() {
		return ondisk.NewUUID()
	}
	return u
}

// OwnLabel reports whether a PFS of that label is no filesystem of anybody: what every
// volume has beside them, or a copy that is being made.
func OwnLabel(label string) bool {
	return label == "LOCAL" || strings.HasPrefix(label, ".anvilfs-")
}

func validLabel(label string) error {
	if label == "" || len(label) > ondisk.NameMax {
		return fmt.Errorf("PFS label %q: 1 to %d bytes are allowed", label, ondisk.NameMax)
	}
	for i := range len(label) {
		if label[i] == 0 || label[i] == '/' {
			return fmt.Errorf("PFS label %q contains NUL or a slash", label)
		}
	}
	return nil
}
