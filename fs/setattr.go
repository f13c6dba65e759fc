package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A Stamp is a time to set: nil leaves it alone.
type Stamp struct {
	Sec  int64
	Nsec uint32
}

// A Change says what Setattr changes; nil fields stay as they are.
type Change struct {
	Mode     *uint32
	UID, GID *uint32
	Size     *uint64
	Atime    *Stamp
	Mtime    *Stamp
	Ctime    *Stamp
	KillPriv bool // take setuid and setgid
	Exact    bool // a time is one that the caller chose, not the present
	// DropGroupBit takes setgid where the group may not execute.
	DropGroupBit bool
}

// cost bounds what the change adds.
func (c *Change) cost() Cost {
	if c.Size == nil {
		return Cost{Leaves: 4, Bytes: ondisk.LogicalBlock}
	}
	return writeCost(ondisk.LogicalBlock)
}

// Setattr changes attributes of an inode, all in one step, and returns its
// new record.
func (f *FS) Setattr(ctx context.Context, inum uint64, c Change) (*Record, error) {
	n, rec, err := f.lock(ctx, inum)
	if err != nil {
		return nil, err
	}
	defer f.unlock(n)
	if err := checkChange(&rec.Meta, &c); err != nil {
		return nil, err
	}
	dropCaps := false
	if c.Size != nil || c.UID != nil || c.GID != nil {
		if dropCaps, err = f.hasCaps(ctx, n); err != nil {
			return nil, err
		}
	}
	acl, err := f.aclAfterChmod(ctx, n, &c)
	if err != nil {
		return nil, err
	}
	t, err := f.beginChange(ctx, rec, &c)
	if err != nil {
		return nil, err
	}
	defer t.End()
	r := &Record{Meta: rec.Meta, Inline: rec.Inline}
	if c.Size != nil {
		if err := f.setSize(ctx, t, r, *c.Size); err != nil {
			return nil, err
		}
	}
	if acl != nil {
		if err := f.putAttr(ctx, t, n, aclAccess, acl); err != nil {
			return nil, err
		}
	}
	f.apply(&r.Meta, &c)
	if c.Atime != nil {
		n.atime.Store(0) // a read before this call no longer counts
	}
	f.put(t, n, r)
	if c.DropGroupBit && f.modeFell != nil {
		f.modeFell(inum)
	}
	if dropCaps {
		f.removeCaps(ctx, t, n)
	}
	return r, nil
}

// beginChange starts the transaction: shrinking must work on a full volume.
func (f *FS) beginChange(ctx context.Context, rec *Record, c *Change) (Txn, error) {
	if c.Size != nil && *c.Size < rec.Meta.Size {
		return f.store.BeginFree(ctx)
	}
	return f.store.Begin(ctx, c.cost())
}

func checkChange(m *ondisk.InodeMeta, c *Change) error {
	if m.UFlags&flagsImmutable != 0 {
		return errPerm
	}
	if m.UFlags&flagsAppend != 0 && (c.Size != nil || c.Mode != nil || c.UID != nil || c.GID != nil || c.Exact) {
		return errPerm
	}
	if c.Size == nil {
		return nil
	}
	switch {
	case m.Type == ondisk.ObjDir:
		return errIsDir
	case m.Type != ondisk.ObjFile:
		return errInvalid
	case *c.Size > sizeMax:
		return errTooBig
	}
	return nil
}

// apply changes everything but the data.
func (f *FS) apply(m *ondisk.InodeMeta, c *Change) {
	if c.Mode != nil {
		m.Mode = *c.Mode & modeBits
	}
	if c.UID != nil {
		m.UID = *c.UID
	}
	if c.GID != nil {
		m.GID = *c.GID
	}
	if c.KillPriv {
		killPrivs(m)
	}
	if c.DropGroupBit && m.Mode&modeGroupX == 0 {
		m.Mode &^= modeSetgid
	}
	if c.Size != nil {
		m.SetMtime(f.clock())
	}
	if c.Mtime != nil {
		if m.Atime == 0 && c.Atime == nil {
			m.SetAtime(m.MtimeNs()) // it followed the old mtime
		}
		m.SetMtime(c.Mtime.Sec, c.Mtime.Nsec)
	}
	if c.Atime != nil {
		m.SetAtime(c.Atime.Sec, c.Atime.Nsec)
	}
	m.SetCtime(f.clock())
	if c.Ctime != nil {
		m.SetCtime(c.Ctime.Sec, c.Ctime.Nsec)
	}
}
