package repair

import (
	"context"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// lostFound is where what has lost its name goes.
const lostFound = "lost+found"

// Apply makes the fixes and calls done for each that changed something. It ends
// with the first error; what was made by then stays. If a fix is of the kind
// FixHighest, no other is made in that run: a number that the store could hand
// out again must not be in use while others are made. Open the store anew then.
// The changes are durable after a Sync of the store.
func Apply(ctx context.Context, store fs.Store, fixes []fsck.Fix, now time.Time, done func(fsck.Fix)) error {
	r := &repairer{store: store, now: now}
	for _, highest := range []bool{true, false} {
		made := false
		for _, f := range fixes {
			if (f.Kind == fsck.FixHighest) != highest {
				continue
			}
			changed, err := r.fix(ctx, f)
			if err != nil {
				return fmt.Errorf("%v: %w", f, err)
			}
			if changed {
				made = true
				done(f)
			}
		}
		if highest && made {
			return nil
		}
	}
	return nil
}

// A repairer changes one filesystem that nobody else uses.
type repairer struct {
	store fs.Store
	now   time.Time
}

// clock is the time of what is changed.
func (r *repairer) clock() (sec int64, nsec uint32) { return r.now.Unix(), uint32(r.now.Nanosecond()) }

func (r *repairer) fix(ctx context.Context, f fsck.Fix) (changed bool, err error) {
	rec, ok, err := r.store.Inode(ctx, f.Inum)
	if err != nil {
		return false, err
	}
	switch f.Kind {
	case fsck.FixName:
		if ok && !nameless(f.Inum) {
			return false, nil
		}
		return r.names(ctx, f, func(t fs.Txn, d ondisk.Dirent) error { return t.RemoveDirent(f.Dir, d.Name) })
	case fsck.FixType:
		if !ok || rec.Meta.Type != f.Type {
			return false, nil
		}
		return r.names(ctx, f, func(t fs.Txn, d ondisk.Dirent) error { return t.ReplaceDirent(f.Dir, d.Name, f.Inum, f.Type) })
	case fsck.FixDelete:
		if !ok || rec.Meta.Nlinks > 0 && f.Inum&ondisk.AttrBit == 0 {
			return false, nil
		}
		return r.remove(ctx, f.Inum)
	}
	if !ok {
		return false, nil
	}
	switch f.Kind {
	case fsck.FixLinks:
		return r.put(ctx, rec, func(m *ondisk.InodeMeta) { m.Nlinks = f.Links })
	case fsck.FixParent:
		return r.put(ctx, rec, func(m *ondisk.InodeMeta) { m.Iparent = f.Dir })
	case fsck.FixHighest: // writing an inode tells the PFS its number
		return r.put(ctx, rec, func(m *ondisk.InodeMeta) { m.SetCtime(r.clock()) })
	case fsck.FixAttach:
		return r.attach(ctx, rec, f.Dir)
	}
	return false, fmt.Errorf("no way to do that is known")
}

// nameless reports whether an inode of that number never has a name.
func nameless(inum uint64) bool {
	return inum&ondisk.AttrBit != 0 || inum <= ondisk.InumRoot || ondisk.Unnamed(inum)
}

// names changes every entry of f.Dir that names f.Inum and is not as it should be.
func (r *repairer) names(ctx context.Context, f fsck.Fix, change func(fs.Txn, ondisk.Dirent) error) (bool, error) {
	var found []ondisk.Dirent
	err := r.store.ReadDir(ctx, f.Dir, 0, func(d ondisk.Dirent) bool {
		if d.Inum == f.Inum && (f.Kind != fsck.FixType || d.Type != f.Type) {
			found = append(found, d)
		}
		return true
	})
	if err != nil || len(found) == 0 {
		return false, err
	}
	t, err := r.store.Begin(ctx, fs.Cost{Leaves: len(found)})
	if err != nil {
		return false, err
	}
	defer t.End()
	for _, d := range found {
		if err := change(t, d); err != nil {
			return false, err
		}
	}
	return true, nil
}

// remove deletes an inode and its attributes.
func (r *repairer) remove(ctx context.Context, inum uint64) (bool, error) {
	t, err := r.store.BeginFree(ctx)
	if err != nil {
		return false, err
	}
	defer t.End()
	t.DeleteInode(inum)
	if inum&ondisk.AttrBit == 0 {
		if _, ok, err := r.store.Inode(ctx, inum|ondisk.AttrBit); err != nil {
			return false, err
		} else if ok {
			t.DeleteInode(inum | ondisk.AttrBit)
		}
	}
	return true, nil
}

// put changes a record.
func (r *repairer) put(ctx context.Context, rec *fs.Record, edit func(*ondisk.InodeMeta)) (bool, error) {
	next := *rec
	edit(&next.Meta)
	if next.Meta == rec.Meta {
		return false, nil
	}
	t, err := r.store.Begin(ctx, fs.Cost{Leaves: 1})
	if err != nil {
		return false, err
	}
	defer t.End()
	t.PutInode(&next)
	return true, nil
}

// attach gives rec a name in lost+found, and takes the one away that it has in
// directory from, which the root does not lead to; 0 if it has none.
func (r *repairer) attach(ctx context.Context, rec *fs.Record, from uint64) (bool, error) {
	inum, typ := rec.Meta.Inum, rec.Meta.Type
	name := fmt.Sprintf("#%d", inum)
	var old []ondisk.Dirent
	if from != 0 {
		err := r.store.ReadDir(ctx, from, 0, func(d ondisk.Dirent) bool {
			if d.Inum == inum {
				old = append(old, d)
			}
			return true
		})
		if err != nil || len(old) == 0 {
			return false, err
		}
	}
	dir, known, err := r.store.Lookup(ctx, ondisk.InumRoot, lostFound)
	if err != nil {
		return false, err
	}
	if known && dir.Type != ondisk.ObjDir {
		return false, fmt.Errorf("/%s is a %v: rename it", lostFound, dir.Type)
	}
	if known {
		if d, ok, err := r.store.Lookup(ctx, dir.Inum, name); err != nil {
			return false, err
		} else if ok && d.Inum == inum {
			return false, nil
		} else if ok {
			return false, fmt.Errorf("/%s/%s is there and is another file: rename it", lostFound, name)
		}
	}
	t, err := r.store.Begin(ctx, fs.Cost{Leaves: 6 + len(old)})
	if err != nil {
		return false, err
	}
	defer t.End()
	if !known {
		if dir.Inum, err = r.makeLostFound(ctx, t); err != nil {
			return false, err
		}
	}
	for _, d := range old {
		if err := t.RemoveDirent(from, d.Name); err != nil {
			return false, err
		}
	}
	if err := t.AddDirent(dir.Inum, name, inum, typ); err != nil {
		return false, err
	}
	next := *rec
	next.Meta.Nlinks, next.Meta.Iparent = 1, dir.Inum
	t.PutInode(&next)
	return true, nil
}

// makeLostFound makes the directory, for nobody but root: what is put there may
// have been out of reach of others by the directory it was in.
func (r *repairer) makeLostFound(ctx context.Context, t fs.Txn) (uint64, error) {
	root, ok, err := r.store.Inode(ctx, ondisk.InumRoot)
	if err == nil && !ok {
		err = ondisk.ErrCorrupt
	}
	if err != nil {
		return 0, fmt.Errorf("the root directory: %w", err)
	}
	m := ondisk.NewInodeMeta(t.NewInum(), ondisk.ObjDir)
	m.Mode, m.Nlinks, m.Iparent = 0o700, 1, ondisk.InumRoot
	m.CompAlgo, m.CheckAlgo = root.Meta.CompAlgo, root.Meta.CheckAlgo
	m.SetMtime(r.clock())
	m.SetCtime(r.clock())
	m.SetBtime(r.clock())
	t.PutInode(&fs.Record{Meta: m})
	return m.Inum, t.AddDirent(ondisk.InumRoot, lostFound, m.Inum, ondisk.ObjDir)
}
