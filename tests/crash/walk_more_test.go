package crash

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/fs/merge"
	"github.com/anvilfs/anvilfs/ondisk"
)

// walkShape has devices that are larger than their volumes, one that is no
// member, and one that may be a cache.
func walkShape() Shape {
	return Shape{Name: "walk", Masters: 3, Spares: 1, Cached: true, Memory: 16 << 20, Size: 96 << 20, Room: 32 << 20}
}

// moreMoves are what walks do beside calls and the change of members.
func moreMoves() []walkMove {
	whole := func(w *walker) bool { return w.away < 0 }
	settled := func(w *walker) bool { return whole(w) && w.branch < 0 }
	return []walkMove{
		{"rollback-open", 2, settled, func(w *walker) error { return synced(callRollbackOpen)(w.session) }},
		{"grow", 2, whole, (*walker).growOne},
		{"quota", 3, whole, (*walker).quota},
		{"large", 5, func(w *walker) bool { return w.large < 3 }, (*walker).largeFile},
		{"punch", 4, func(w *walker) bool { return w.large > 0 }, (*walker).punchLarge},
		{"cache-on", 3, func(w *walker) bool { return !w.cacheOn }, (*walker).useCache},
		{"cache-off", 2, func(w *walker) bool { return w.cacheOn }, (*walker).dropCache},
		{"add-soft", 7, func(w *walker) bool { return w.spares() && !w.returned }, func(w *walker) error { return w.addOne(ondisk.PFSSoftMaster, "soft") }},
		{"leave", 25, func(w *walker) bool { return settled(w) && w.count("soft") > 0 && !w.returned }, (*walker).leave},
		{"return", 20, func(w *walker) bool { return whole(w) && w.branch >= 0 }, (*walker).comeHome},
	}
}

// growOne makes a member as large as its device.
func (w *walker) growOne() error {
	i := w.one("master")
	if err := w.grow(i); err != nil {
		return err
	}
	return w.mend()
}

// quota gives a directory at the top an account, or takes it away: from one
// account to another calls do not move directories.
func (w *walker) quota() error {
	var dirs []string
	for _, path := range w.m.paths() {
		if inum, _ := w.m.find(path); w.m.files[inum].typ == ondisk.ObjDir && !strings.Contains(path, "/") {
			dirs = append(dirs, path)
		}
	}
	if len(dirs) == 0 {
		return w.stepCalls()
	}
	dir, _ := w.m.find(dirs[w.rnd.IntN(len(dirs))])
	return w.callAndSync("quota", func(s *session, m *model) error {
		switch _, has, err := s.f.QuotaOf(s.ctx, dir); {
		case err != nil:
			return err
		case has:
			return s.counted(dir, s.f.ClearQuota(s.ctx, dir))
		}
		return s.counted(dir, s.f.SetQuota(s.ctx, dir, func(l *fs.Limits) { l.Bytes = 1 << 30 }))
	})
}

func (w *walker) callAndSync(name string, do func(*session, *model) error) error {
	if err := w.call(call{name, do}); err != nil {
		return err
	}
	return w.sync()
}

const walkLarge = "large"

// largeFile writes a file of many blocks that lie in a row on media, which is
// read straight from there.
func (w *walker) largeFile() error {
	w.large++
	name := fmt.Sprintf("%s%d", walkLarge, w.large)
	return w.callAndSync("large", func(s *session, m *model) error {
		inum, ok := m.find(name)
		if !ok {
			var err error
			if inum, err = s.make(m, name, fs.NewNode{Type: ondisk.ObjFile, Mode: 0o600}); err != nil {
				return err
			}
		}
		p := s.noise((16+s.rnd.IntN(12))*ondisk.LogicalBlock + s.rnd.IntN(2)*777)
		if n, err := s.f.Write(s.ctx, inum, 0, p, false); err != nil || n < len(p) {
			return fmt.Errorf("%d bytes written of %d: %w", n, len(p), err)
		}
		m.change(inum, func(f *file) { f.write(0, p) })
		return nil
	})
}

// punchLarge punches holes of some blocks between others, or writes into them.
func (w *walker) punchLarge() error {
	return w.callAndSync("punch", func(s *session, m *model) error {
		inum, ok := m.find(fmt.Sprintf("%s%d", walkLarge, 1+s.rnd.IntN(w.large)))
		if !ok {
			return errSkip // rolled back
		}
		for range 1 + s.rnd.IntN(3) {
			blocks := len(m.files[inum].content) / ondisk.LogicalBlock
			from := s.rnd.IntN(blocks) * ondisk.LogicalBlock
			to := min(from+(1+s.rnd.IntN(3))*ondisk.LogicalBlock, len(m.files[inum].content))
			if s.rnd.IntN(3) == 0 {
				p := s.noise(to - from)
				if n, err := s.f.Write(s.ctx, inum, uint64(from), p, false); err != nil || n < len(p) {
					return fmt.Errorf("%d bytes written of %d: %w", n, len(p), err)
				}
				m.change(inum, func(f *file) { f.write(from, p) })
				continue
			}
			m.change(inum, func(f *file) {
				f.content = slices.Clone(f.content)
				clear(f.content[from:to])
			})
			if err := s.f.Fallocate(s.ctx, inum, uint64(from), uint64(to-from), fs.FallocPunchHole|fs.FallocKeepSize, false); err != nil {
				return err
			}
		}
		return nil
	})
}

// useCache has the device of the cache used, with what it holds if it is one.
func (w *walker) useCache() error {
	w.cacheOn = true
	spec := w.shape.specs(w.devs)[w.shape.cache()]
	ctx, cancel := w.bounded()
	defer cancel()
	if len(w.pool.Status().Caches) > 0 { // it was taken away
		return errors.Join(w.pool.NodeOnline(ctx, spec.Name), w.warm(ctx))
	}
	return errors.Join(w.pool.NodeAdd(ctx, spec, ondisk.PFSCache, w.rnd.IntN(2) == 0), w.warm(ctx))
}

// dropCache takes it away, or out for good.
func (w *walker) dropCache() error {
	w.cacheOn = false
	drop := w.pool.NodeOffline
	if w.rnd.IntN(2) == 0 {
		drop = w.pool.NodeRemove
	}
	return drop(w.ctx, name(w.shape.cache()))
}

// theirs is a directory that only a branch changes.
const theirs = "branch"

// leave takes the soft master away, which is mounted alone and changed.
func (w *walker) leave() error {
	i := w.one("soft")
	if err := w.homeward(); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	w.branch = i
	if err := w.mount(w.shape.specs(w.devs)[i]); err != nil {
		return fmt.Errorf("alone: %w", err)
	}
	err := w.changeAlone()
	if err = errors.Join(err, w.f.Close(w.ctx), w.pool.Close(w.ctx)); err != nil {
		return fmt.Errorf("alone: %w", err)
	}
	w.pool = nil
	if err := w.mount(w.given()...); err != nil {
		return err
	}
	if err := w.mend(); err != nil {
		return err
	}
	return w.same(w.moments[len(w.moments)-1:])
}

// homeward makes what the branch will change, and lets it have all there is.
func (w *walker) homeward() error {
	err := w.callAndSync("for the branch", func(s *session, m *model) error {
		if _, ok := m.find(theirs); ok {
			return errSkip
		}
		if _, err := s.make(m, theirs, fs.NewNode{Type: ondisk.ObjDir, Mode: 0o755}); err != nil {
			return err
		}
		for _, n := range []string{"stays", "changes", "goes"} {
			inum, err := s.make(m, theirs+"/"+n, fs.NewNode{Type: ondisk.ObjFile, Mode: 0o600})
			if err == nil {
				err = s.write(m, inum, 0, 100_000)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := w.mend(); err != nil {
		return err
	}
	return w.pool.NodeOffline(w.ctx, name(w.one("soft")))
}

// A brought is a file as the branch has it; nil: it is gone.
type brought struct {
	path    string
	content []byte
}

// changeAlone is what is done in the branch; the model hears of it when it is back.
func (w *walker) changeAlone() error {
	w.brought = nil
	dir, ok, err := w.f.Find(w.ctx, ondisk.InumRoot, theirs)
	if err != nil || !ok {
		return fmt.Errorf("%s: there: %v, %w", theirs, ok, err)
	}
	for _, n := range []string{"changes", "new0", "new1"} {
		d, ok, err := w.f.Find(w.ctx, dir.Inum, n)
		if err == nil && !ok {
			var r *fs.Record
			if r, err = w.f.Create(w.ctx, dir.Inum, n, fs.NewNode{Type: ondisk.ObjFile, Mode: 0o600}); err == nil {
				d.Inum = r.Meta.Inum
				w.f.Forget(d.Inum, 1)
			}
		}
		if err != nil {
			return err
		}
		p := w.noise(70_000 + w.rnd.IntN(60_000))
		size := uint64(len(p))
		if _, err := w.f.Setattr(w.ctx, d.Inum, fs.Change{Size: &size}); err != nil {
			return err
		}
		if _, err := w.f.Write(w.ctx, d.Inum, 0, p, false); err != nil {
			return err
		}
		w.brought = append(w.brought, brought{n, p})
	}
	w.brought = append(w.brought, brought{"goes", nil})
	return errors.Join(w.f.Unlink(w.ctx, dir.Inum, "goes"), w.pool.Sync(w.ctx))
}

// comeHome gives the branch to the mount, merges it, and demands that all its
// changes are there, and nothing else is.
func (w *walker) comeHome() error {
	i := w.branch
	w.branch, w.returned = -1, true
	if err := w.close(); err != nil {
		return err
	}
	if err := w.mount(w.given()...); err != nil {
		return err
	}
	b, err := w.theBranch(i)
	if err != nil {
		return err
	}
	r := merge.New(w.f, w.pool, b, merge.Options{Now: w.clock, Small: ondisk.LogicalBlock})
	if err := r.Merge(w.ctx); err != nil {
		return fmt.Errorf("merging: %w", err)
	}
	if n := r.Report().Conflicts; n > 0 {
		return fmt.Errorf("%d conflicts", n)
	}
	if _, err := w.pool.EndBranch(w.ctx, b); err != nil {
		return fmt.Errorf("ending it: %w", err)
	}
	if err := r.Finish(w.ctx); err != nil {
		return err
	}
	if err := w.mend(); err != nil {
		return err
	}
	err = w.callAndSync("merged", func(s *session, m *model) error { return w.learn(m) })
	if err != nil {
		return err
	}
	return w.until(name(i), ondisk.PFSSoftMaster.String())
}

func (w *walker) theBranch(i int) (*cluster.BranchNode, error) {
	ctx, cancel := w.bounded()
	defer cancel()
	for {
		changed := w.pool.Changed()
		for _, b := range w.pool.Branches() {
			if b.Name == name(i) {
				return &b, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s is no branch: %s", name(i), w.describe())
		}
	}
}

// learn tells the model what the branch brought, under the numbers that it has now.
func (w *walker) learn(m *model) error {
	at, _ := m.find(theirs)
	for _, b := range w.brought {
		if b.content == nil {
			m.leave(at, b.path)
			continue
		}
		d, ok, err := w.f.Find(w.ctx, at, b.path)
		if err != nil || !ok {
			return fmt.Errorf("%s: there: %v, %w", b.path, ok, err)
		}
		if m.files[at].names[b.path] != d.Inum { // a number that a cut took back may have been another file's
			m.files[d.Inum] = &file{typ: ondisk.ObjFile, mode: 0o600}
			m.enter(at, b.path, d.Inum)
		}
		m.change(d.Inum, func(f *file) { f.content = bytes.Clone(b.content) })
	}
	return nil
}
