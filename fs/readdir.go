package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Positions in a directory, as the kernel keeps them: what to go on behind.
// An entry's is its key without the top bit, which is above these.
const (
	posStart  = 0 // before "."
	posDot    = 1
	posDotDot = 2
)

// ReadDir calls fn for at most limit entries behind position pos until fn
// returns false; each comes with its own position. An entry that exists all
// the time is seen once, whatever else happens in the directory. No entry can
// go while fn looks at it.
func (f *FS) ReadDir(ctx context.Context, dir, pos uint64, limit int, fn func(pos uint64, d *ondisk.Dirent) bool) error {
	return f.readDir(ctx, dir, pos, limit, false, fn)
}

// readDir is ReadDir; with records, fn will Peek at each entry.
func (f *FS) readDir(ctx context.Context, dir, pos uint64, limit int, records bool, fn func(pos uint64, d *ondisk.Dirent) bool) error {
	n, rec, err := f.rlock(ctx, dir)
	if err != nil {
		return err
	}
	defer f.runlock(n)
	if rec.Meta.Type != ondisk.ObjDir {
		return errNotDir
	}
	if pos == posStart {
		if !fn(posDot, &ondisk.Dirent{Inum: dir, Type: ondisk.ObjDir, Name: "."}) {
			return nil
		}
		pos = posDot
	}
	if pos == posDot {
		up := rec.Meta.Iparent
		if dir == ondisk.InumRoot || up == 0 {
			up = dir
		}
		if !fn(posDotDot, &ondisk.Dirent{Inum: up, Type: ondisk.ObjDir, Name: ".."}) {
			return nil
		}
		pos = posDotDot
	}
	if pos|ondisk.DirBit == ^uint64(0) || rec.Meta.Nlinks == 0 {
		return nil
	}
	from := (pos + 1) | ondisk.DirBit
	entries, err := f.entries(ctx, dir, from, limit)
	if err != nil {
		return err
	}
	if records {
		f.listed(ctx, n, entries)
	}
	for i := range entries {
		if !fn(entries[i].Key&^ondisk.DirBit, &entries[i]) {
			break
		}
	}
	return nil
}

// entries returns at most limit entries of a locked directory.
func (f *FS) entries(ctx context.Context, dir, from uint64, limit int) ([]ondisk.Dirent, error) {
	entries := make([]ondisk.Dirent, 0, min(limit, 64))
	err := f.store.ReadDir(ctx, dir, from, func(d ondisk.Dirent) bool {
		entries = append(entries, d)
		return len(entries) < limit
	})
	return entries, err
}

// Peek returns the record of an entry that ReadDir has just passed to its
// function, and counts a reference; nil if it cannot be read, so that one bad
// inode does not hide the others.
func (f *FS) Peek(ctx context.Context, inum uint64) *Record {
	r, err := f.peek(ctx, inum)
	if err != nil {
		return nil
	}
	f.table.ref(inum, r.Meta.Type)
	return r
}
