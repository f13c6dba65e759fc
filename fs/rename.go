package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// RenameFlags are renameat2(2)'s.
type RenameFlags uint32

// The flags of rename.
const (
	RenameNoReplace RenameFlags = 1 << iota // fail if the new name exists
	RenameExchange                          // swap the two files
	RenameWhiteout                          // leave a whiteout behind
)

// A renaming is one rename call with everything it needs locked.
type renaming struct {
	f              *FS
	s              *lockset
	oldDir, newDir uint64
	oldName        string
	newName        string
	flags          RenameFlags

	src, dst ondisk.Dirent
	replaces bool // dst exists

	srcCross, dstCross *crossing // into other accounts
}

// Rename moves a name; see rename(2).
func (f *FS) Rename(ctx context.Context, oldDir uint64, oldName string, newDir uint64, newName string, flags RenameFlags) error {
	if err := checkName(newName); err != nil {
		return err
	}
	if flags&RenameExchange != 0 && flags&(RenameNoReplace|RenameWhiteout) != 0 {
		return errInvalid
	}
	r := &renaming{f: f, s: f.lockset(), oldDir: oldDir, newDir: newDir, oldName: oldName, newName: newName, flags: flags}
	defer r.s.unlock()
	if err := r.find(ctx); err != nil {
		return err
	}
	if r.replaces && r.src.Inum == r.dst.Inum {
		return nil // two names of one file: rename(2) says do nothing
	}
	if err := r.check(ctx); err != nil {
		return err
	}
	defer func() {
		r.srcCross.end()
		r.dstCross.end()
	}()
	if err := r.cross(ctx); err != nil {
		return err
	}
	return r.run(ctx)
}

// cross finds out what comes into another account.
func (r *renaming) cross(ctx context.Context) (err error) {
	olddir, newdir := r.s.node(r.oldDir).rec.Load(), r.s.node(r.newDir).rec.Load()
	r.srcCross, err = r.f.cross(ctx, r.s.node(r.src.Inum).rec.Load(), r.oldDir, &newdir.Meta)
	if err == nil && r.flags&RenameExchange != 0 {
		r.dstCross, err = r.f.cross(ctx, r.s.node(r.dst.Inum).rec.Load(), r.newDir, &olddir.Meta)
	}
	return err
}

// find locks both directories and both files.
func (r *renaming) find(ctx context.Context) error {
	r.s.cover(min(r.oldDir, r.newDir), max(r.oldDir, r.newDir))
	for {
		for _, dir := range []uint64{r.oldDir, r.newDir} {
			rec, err := r.s.record(ctx, dir)
			if err != nil {
				return err
			}
			if err := checkDir(&rec.Meta); err != nil {
				return err
			}
		}
		var ok bool
		var err error
		if r.src, ok, err = r.f.store.Lookup(ctx, r.oldDir, r.oldName); err != nil || !ok {
			return firstError(err, errNoEntry)
		}
		if r.dst, r.replaces, err = r.f.store.Lookup(ctx, r.newDir, r.newName); err != nil {
			return err
		}
		low, high := r.src.Inum, r.dst.Inum // dst is 0 if it does not exist
		if r.s.cover(min(low, high), max(low, high)) {
			return nil
		}
	}
}

// check refuses what POSIX forbids. The kernel has checked most of it, but
// not across several mounts.
func (r *renaming) check(ctx context.Context) error {
	src, err := r.s.record(ctx, r.src.Inum)
	if err != nil {
		return err
	}
	olddir, _ := r.s.record(ctx, r.oldDir)
	if (src.Meta.UFlags|olddir.Meta.UFlags)&(flagsImmutable|flagsAppend) != 0 {
		return errPerm
	}
	if err := r.checkLoop(ctx, src, r.newDir); err != nil {
		return err
	}
	if !r.replaces {
		if r.flags&RenameExchange != 0 {
			return errNoEntry
		}
		return nil
	}
	dst, err := r.s.record(ctx, r.dst.Inum)
	if err != nil {
		return err
	}
	srcDir, dstDir := src.Meta.Type == ondisk.ObjDir, dst.Meta.Type == ondisk.ObjDir
	switch {
	case r.flags&RenameNoReplace != 0:
		return errExist
	case dst.Meta.UFlags&(flagsImmutable|flagsAppend) != 0:
		return errPerm
	case r.flags&RenameExchange != 0:
		return r.checkLoop(ctx, dst, r.oldDir)
	case srcDir && !dstDir:
		return errNotDir
	case !srcDir && dstDir:
		return errIsDir
	case dstDir:
		return r.f.checkEmpty(ctx, r.dst.Inum)
	}
	return nil
}

// checkLoop refuses to move a directory below itself.
func (r *renaming) checkLoop(ctx context.Context, moved *Record, dir uint64) error {
	if moved.Meta.Type != ondisk.ObjDir || r.oldDir == r.newDir {
		return nil
	}
	const deepest = 1 << 16 // ends the walk on damaged media
	for range deepest {
		if dir == moved.Meta.Inum {
			return errInvalid
		}
		if dir == ondisk.InumRoot {
			return nil
		}
		up, err := r.f.peek(ctx, dir)
		if err != nil {
			return err
		}
		dir = up.Meta.Iparent
	}
	return errIO
}

func (r *renaming) run(ctx context.Context) error {
	var white *newborn
	var grant *grant
	cost := Cost{Leaves: 6}
	if r.flags&RenameWhiteout != 0 {
		d := r.s.node(r.oldDir)
		var err error
		if white, err = r.f.newRecord(ctx, d, d.rec.Load(), NewNode{Type: ondisk.ObjChar}); err != nil {
			return err
		}
		cost.Leaves += 2
		if grant, err = r.f.quotas.admit(ctx, white.rec.Meta.Account, growth{inodes: 1}); err != nil {
			return err
		}
		defer grant.end()
	}
	t, err := r.f.store.Begin(ctx, cost)
	if err != nil {
		return err
	}
	defer t.End()
	if err := r.setNew(t); err != nil {
		return err
	}
	if err := r.setOld(ctx, t, white); err != nil {
		r.unsetNew(t)
		return err
	}
	if white != nil {
		grant.charge(t, 0, 1)
	}
	r.setRecords(t)
	return nil
}

// setNew makes the new name lead to the source.
func (r *renaming) setNew(t Txn) error {
	if r.replaces {
		return t.ReplaceDirent(r.newDir, r.newName, r.src.Inum, r.src.Type)
	}
	return t.AddDirent(r.newDir, r.newName, r.src.Inum, r.src.Type)
}

// unsetNew takes setNew back, so that the call changes nothing. It repeats
// what has just succeeded; an error would be the one already being returned.
func (r *renaming) unsetNew(t Txn) {
	if r.replaces {
		_ = t.ReplaceDirent(r.newDir, r.newName, r.dst.Inum, r.dst.Type)
		return
	}
	_ = t.RemoveDirent(r.newDir, r.newName)
}

// setOld makes the old name lead to what is left there.
func (r *renaming) setOld(ctx context.Context, t Txn, white *newborn) error {
	switch {
	case r.flags&RenameExchange != 0:
		return t.ReplaceDirent(r.oldDir, r.oldName, r.dst.Inum, r.dst.Type)
	case white != nil:
		white.number(t.NewInum())
		if err := t.ReplaceDirent(r.oldDir, r.oldName, white.rec.Meta.Inum, ondisk.ObjChar); err != nil {
			return err
		}
		return white.store(ctx, t)
	}
	return t.RemoveDirent(r.oldDir, r.oldName)
}

// setRecords updates times, parents and link counts.
func (r *renaming) setRecords(t Txn) {
	f := r.f
	f.update(t, r.s.node(r.src.Inum), func(m *ondisk.InodeMeta) {
		m.Iparent = r.newDir
		m.SetCtime(f.clock())
		r.srcCross.apply(t, m)
	})
	oldBy, newBy := 0, 0 // directories that come and go
	if r.src.Type == ondisk.ObjDir {
		oldBy, newBy = oldBy-1, newBy+1
	}
	switch {
	case r.replaces && r.flags&RenameExchange != 0:
		f.update(t, r.s.node(r.dst.Inum), func(m *ondisk.InodeMeta) {
			m.Iparent = r.oldDir
			m.SetCtime(f.clock())
			r.dstCross.apply(t, m)
		})
		if r.dst.Type == ondisk.ObjDir {
			oldBy, newBy = oldBy+1, newBy-1
		}
	case r.replaces:
		f.dropLink(t, r.s.node(r.dst.Inum))
		if r.dst.Type == ondisk.ObjDir {
			newBy--
		}
	}
	if r.oldDir == r.newDir {
		f.touchDir(t, r.s.node(r.oldDir), ondisk.ObjDir, oldBy+newBy)
		return
	}
	f.touchDir(t, r.s.node(r.oldDir), ondisk.ObjDir, oldBy)
	f.touchDir(t, r.s.node(r.newDir), ondisk.ObjDir, newBy)
}
