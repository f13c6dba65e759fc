package fs

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A TreeUse is what a directory tree takes, as du(1) counts.
type TreeUse struct {
	Path   string `json:"path"`
	Bytes  uint64 `json:"bytes"`
	Inodes uint64 `json:"inodes"`
	// Known: an account had the answer, nothing was walked.
	Known bool `json:"known"`
}

// DuOptions say what Du counts; zero values are du's own choice.
type DuOptions struct {
	Depth    int  // how far below the directory trees are told apart; 0: not at all
	Apparent bool // sizes of files, not the space they take
}

// A duTree is a directory that is told apart, and what was found below it.
type duTree struct {
	path          string
	depth         int
	below         []*duTree
	bytes, inodes uint64
}

// A duWalk goes through the directories with several goroutines. No lock is
// held: what is changed meanwhile is seen before or after.
type duWalk struct {
	f     *FS
	ctx   context.Context
	o     DuOptions
	slots chan struct{}
	wg    sync.WaitGroup

	mu   sync.Mutex          // guards what follows, and the trees
	seen map[uint64]struct{} // files with several names
	err  error
}

// Du tells what the tree below a directory takes, the deepest trees first. A
// tree with an account is known at once, if no part of it is asked for.
func (f *FS) Du(ctx context.Context, dir uint64, path string, o DuOptions) ([]TreeUse, error) {
	store := f.quotas.store
	if store == nil {
		return nil, errNotHere
	}
	if q, ok, err := f.QuotaOf(ctx, dir); o.Depth == 0 && !o.Apparent && err == nil && ok && !q.Counting && !q.Leaving && !q.Stale {
		if err := f.store.Sync(ctx); err != nil && !f.readOnly {
			return nil, err
		}
		q, _, err = f.QuotaOf(ctx, dir)
		return []TreeUse{{path, q.Bytes, q.Inodes, true}}, err
	}
	rec, bytes, ok, err := store.Sized(ctx, dir)
	if err == nil && !ok {
		err = errNoEntry
	}
	if err != nil {
		return nil, err
	}
	w := &duWalk{f: f, ctx: ctx, o: o, slots: make(chan struct{}, 2*runtime.GOMAXPROCS(0)), seen: make(map[uint64]struct{})}
	top := &duTree{path: path, inodes: 1, bytes: w.space(rec, bytes)}
	if rec.Meta.Type == ondisk.ObjDir {
		w.dir(dir, top)
		w.wg.Wait()
	}
	return top.sums(nil), w.err
}

// space is what one inode adds.
func (w *duWalk) space(rec *Record, bytes uint64) uint64 {
	if w.o.Apparent {
		return rec.Meta.Size
	}
	return spaceOf(&rec.Meta, bytes)
}

// spaceOf is the space that stat(2) shows, of an inode whose data takes so
// many bytes. Content inside the inode counts as the inode, since programs
// take 0 blocks for "nothing but a hole".
func spaceOf(m *ondisk.InodeMeta, bytes uint64) uint64 {
	switch {
	case m.Size == 0 || m.Type != ondisk.ObjFile && m.Type != ondisk.ObjSymlink:
		return 0
	case m.DirectData():
		return ondisk.InodeSize
	}
	return bytes
}

// dir adds what is in a directory to t, or to trees of their own.
func (w *duWalk) dir(inum uint64, t *duTree) {
	var entries []ondisk.Dirent
	err := w.f.store.ReadDir(w.ctx, inum, ondisk.DirBit, func(d ondisk.Dirent) bool {
		entries = append(entries, d)
		return true
	})
	// Inodes of near numbers lie near each other.
	slices.SortFunc(entries, func(a, b ondisk.Dirent) int { return cmp.Compare(a.Inum, b.Inum) })
	bytes, inodes := uint64(0), uint64(0)
	for i := range entries {
		if err = firstError(err, w.ctx.Err()); err != nil {
			break
		}
		d := &entries[i]
		rec, space, ok, rerr := w.f.quotas.store.Sized(w.ctx, d.Inum)
		switch {
		case rerr != nil:
			err = rerr
		case !ok: // removed meanwhile
		case rec.Meta.Type == ondisk.ObjDir:
			w.below(d, rec, t)
		case rec.Meta.Nlinks < 2 || w.first(d.Inum):
			bytes, inodes = bytes+w.space(rec, space), inodes+1
		}
	}
	w.mu.Lock()
	t.bytes, t.inodes = t.bytes+bytes, t.inodes+inodes
	w.err = firstError(w.err, err)
	w.mu.Unlock()
}

// below goes on with a directory, in another goroutine if one is to be had.
func (w *duWalk) below(d *ondisk.Dirent, rec *Record, t *duTree) {
	w.mu.Lock()
	if t.depth < w.o.Depth {
		b := &duTree{path: t.path + "/" + d.Name, depth: t.depth + 1}
		t.below = append(t.below, b)
		t = b
	}
	t.inodes++
	t.bytes += w.space(rec, 0)
	w.mu.Unlock()
	select {
	case w.slots <- struct{}{}:
		w.wg.Go(func() {
			defer func() { <-w.slots }()
			w.dir(d.Inum, t)
		})
	default:
		w.dir(d.Inum, t)
	}
}

// first reports whether a file with several names is met for the first time.
func (w *duWalk) first(inum uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, known := w.seen[inum]
	w.seen[inum] = struct{}{}
	return !known
}

// sums adds trees to those they are in, and lists them by name, a tree behind
// what is in it.
func (t *duTree) sums(list []TreeUse) []TreeUse {
	slices.SortFunc(t.below, func(a, b *duTree) int { return cmp.Compare(a.path, b.path) })
	for _, b := range t.below {
		list = b.sums(list)
		t.bytes += b.bytes
		t.inodes += b.inodes
	}
	return append(list, TreeUse{Path: t.path, Bytes: t.bytes, Inodes: t.inodes})
}

// FindPath returns the number of what a path from the root leads to. Symlinks are
// not followed.
func (f *FS) FindPath(ctx context.Context, names []string) (uint64, error) {
	at := uint64(ondisk.InumRoot)
	for _, name := range names {
		if name == "" || name == "." {
			continue
		}
		d, ok, err := f.store.Lookup(ctx, at, name)
		if err != nil || !ok {
			return 0, firstError(err, errNoEntry)
		}
		at = d.Inum
	}
	return at, nil
}
