package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// linkMax is the highest link count: others keep 32 bits.
const linkMax = 1<<32 - 1

// Link gives inode inum one more name and counts a reference.
func (f *FS) Link(ctx context.Context, inum, dir uint64, name string) (*Record, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	s := f.lockset()
	defer s.unlock()
	s.cover(min(dir, inum), max(dir, inum))
	drec, err := s.record(ctx, dir)
	if err != nil {
		return nil, err
	}
	if err := checkDir(&drec.Meta); err != nil {
		return nil, err
	}
	rec, err := s.record(ctx, inum)
	if err != nil {
		return nil, err
	}
	switch {
	case rec.Meta.Type == ondisk.ObjDir, rec.Meta.UFlags&(flagsImmutable|flagsAppend) != 0:
		return nil, errPerm
	case rec.Meta.Nlinks >= linkMax:
		return nil, errTooMany
	}
	if _, ok, err := f.store.Lookup(ctx, dir, name); err != nil || ok {
		return nil, firstError(err, errExist)
	}
	cross, err := f.crossLink(ctx, rec, &drec.Meta)
	if err != nil {
		return nil, err
	}
	defer cross.end()
	t, err := f.store.Begin(ctx, Cost{Leaves: 3})
	if err != nil {
		return nil, err
	}
	defer t.End()
	if err := t.AddDirent(dir, name, inum, rec.Meta.Type); err != nil {
		return nil, err
	}
	rec = f.update(t, s.node(inum), func(m *ondisk.InodeMeta) {
		m.Nlinks++
		m.Iparent = dir
		m.SetCtime(f.clock())
		cross.apply(t, m)
	})
	f.touchDir(t, s.node(dir), ondisk.ObjFile, 0)
	f.table.found(inum)
	f.table.ref(inum, ondisk.ObjFile)
	return rec, nil
}

// touchDir notes that the entries of a locked directory changed; by counts
// subdirectories if t is one.
func (f *FS) touchDir(t Txn, d *node, typ ondisk.ObjType, by int) {
	f.update(t, d, func(m *ondisk.InodeMeta) {
		m.SetMtime(f.clock())
		m.SetCtime(f.clock())
		if by != 0 {
			countSubdir(m, typ, by)
		}
	})
}

// Unlink removes a name that is not a directory's.
func (f *FS) Unlink(ctx context.Context, dir uint64, name string) error {
	return f.remove(ctx, dir, name, false)
}

// Rmdir removes an empty directory.
func (f *FS) Rmdir(ctx context.Context, dir uint64, name string) error {
	return f.remove(ctx, dir, name, true)
}

func (f *FS) remove(ctx context.Context, dir uint64, name string, isDir bool) error {
	s := f.lockset()
	defer s.unlock()
	s.cover(dir)
	var entry ondisk.Dirent
	for {
		drec, err := s.record(ctx, dir)
		if err != nil {
			return err
		}
		if err := checkDir(&drec.Meta); err != nil {
			return err
		}
		if drec.Meta.UFlags&flagsAppend != 0 {
			return errPerm
		}
		var ok bool
		if entry, ok, err = f.store.Lookup(ctx, dir, name); err != nil || !ok {
			return firstError(err, errNoEntry)
		}
		if s.cover(entry.Inum) {
			break
		}
	}
	if err := f.checkRemovable(ctx, s, entry, isDir); err != nil {
		return err
	}
	t, err := f.store.BeginFree(ctx)
	if err != nil {
		return err
	}
	defer t.End()
	if err := t.RemoveDirent(dir, name); err != nil {
		return err
	}
	f.touchDir(t, s.node(dir), entry.Type, -1)
	f.dropLink(t, s.node(entry.Inum))
	return nil
}

// checkRemovable says why the locked inode behind entry must not lose that
// name. An inode that is missing leaves only the entry to be removed.
func (f *FS) checkRemovable(ctx context.Context, s *lockset, entry ondisk.Dirent, isDir bool) error {
	rec, err := s.record(ctx, entry.Inum)
	switch {
	case err == errStale:
		return nil
	case err != nil:
		return err
	case rec.Meta.UFlags&(flagsImmutable|flagsAppend) != 0:
		return errPerm
	case isDir && rec.Meta.Type != ondisk.ObjDir:
		return errNotDir
	case !isDir && rec.Meta.Type == ondisk.ObjDir:
		return errIsDir
	case !isDir:
		return nil
	}
	return f.checkEmpty(ctx, entry.Inum)
}

// checkEmpty refuses a directory with entries. The caller holds its lock.
func (f *FS) checkEmpty(ctx context.Context, dir uint64) error {
	empty := true
	err := f.store.ReadDir(ctx, dir, ondisk.DirBit, func(ondisk.Dirent) bool {
		empty = false
		return false
	})
	if err == nil && !empty {
		err = errNotEmpty
	}
	return err
}

// dropLink takes one name from a locked inode. Without a name it stays while
// the kernel holds references; directories go whatever they counted.
func (f *FS) dropLink(t Txn, n *node) {
	old := n.rec.Load()
	if old == nil {
		return // the entry led nowhere
	}
	rec := f.update(t, n, func(m *ondisk.InodeMeta) {
		m.SetCtime(f.clock())
		if m.Type == ondisk.ObjDir || m.Nlinks <= 1 {
			m.Nlinks = 0
		} else {
			m.Nlinks--
		}
	})
	if rec.Meta.Nlinks == 0 && f.table.lost(n.inum) {
		f.reaper.add(n.inum)
	}
}

// crossLink is cross for one more name of a file. One without any comes to
// the account where it gets its first.
func (f *FS) crossLink(ctx context.Context, rec *Record, dir *ondisk.InodeMeta) (*crossing, error) {
	q, m := f.quotas, &rec.Meta
	if !q.any.Load() || q.charged(m, q.of(dir)) {
		return nil, nil
	}
	if m.Nlinks > 0 && m.Account != q.of(dir) {
		if err := q.checkCross(ctx, m, m.Iparent, dir.Inum); err != nil {
			return nil, err
		}
	}
	return q.cross(ctx, &ondisk.InodeMeta{
		Inum: m.Inum, Type: m.Type, Nlinks: 1, Size: m.Size, OpFlags: m.OpFlags, Account: m.Account, AccountGen: m.AccountGen,
	}, m.Iparent, dir)
}
