package fs

import (
	"context"
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A counter enters inodes into accounts, in the background: those of a
// directory that was given an account, that give up theirs, or that are
// counted anew.
//
// It goes through the tree from the top. Each inode is entered by a call of
// its own, so the sums always are those of the inodes entered so far, whatever
// else is going on. Nothing is missed: what is made in a directory that was
// entered is entered from the start, and what was there before is found when
// the directory is read, which comes after. A directory that is moved while its
// tree is counted may have been missed where it was and be missed where it is,
// so it is looked at by itself (moved).
type counter struct {
	mu     sync.Mutex
	runs   map[uint64]*count // by root
	ended  chan struct{}     // closed and made anew when a count ends
	anew   chan struct{}     // closed when all that another system may have changed is counted
	cancel context.CancelFunc
	ctx    context.Context // nil: read-only
	wg     sync.WaitGroup
}

// A count is the work on one account.
type count struct {
	root    uint64
	to      uint64 // account that the inodes are entered into
	leaving bool
	dirs    []uint64 // to be read; guarded by counter.mu
	unnamed bool     // open files without a name are to be entered; guarded by counter.mu
	done    uint64   // inodes looked at
	err     error
}

// start makes the counter ready, and goes on with what a crash or an unmount
// cut off.
func (q *quotas) start() {
	c := &q.counter
	c.mu.Lock()
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.runs, c.ended, c.anew = make(map[uint64]*count), make(chan struct{}), make(chan struct{})
	anew := c.anew
	c.mu.Unlock()
	q.mu.Lock()
	var open []uint64
	for inum, a := range q.accounts {
		if a.flags&(ondisk.AccountCounting|ondisk.AccountLeaving) != 0 {
			open = append(open, inum)
		}
	}
	q.mu.Unlock()
	slices.Sort(open)
	for _, inum := range open {
		q.count(inum)
	}
	if !q.stale {
		close(anew)
		return
	}
	c.wg.Go(func() {
		defer close(anew)
		if err := q.recountChanged(c.ctx); err != nil && c.ctx.Err() == nil {
			q.f.log.Warn("counting anew what another system changed", "error", err)
		}
	})
}

// stop ends what is being counted; the next mount goes on.
func (q *quotas) stop() {
	if q.counter.cancel != nil {
		q.counter.cancel()
		q.counter.wg.Wait()
	}
}

// count starts to count an account, if that is not being done.
func (q *quotas) count(root uint64) {
	q.mu.Lock()
	a := q.accounts[root]
	if a == nil {
		q.mu.Unlock()
		return
	}
	run := &count{root: root, to: root, dirs: []uint64{root}, unnamed: true}
	if a.flags&ondisk.AccountLeaving != 0 {
		run.to, run.leaving = a.parent, true
	}
	q.mu.Unlock()
	c := &q.counter
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.runs[root]; old != nil && old.err == nil {
		old.dirs, old.unnamed = append(old.dirs, root), true // once more from the top
		old.to, old.leaving = run.to, run.leaving
		return
	}
	c.runs[root] = run
	c.wg.Go(func() {
		err := q.run(c.ctx, run)
		c.mu.Lock()
		for err == nil && len(run.dirs) > 0 { // more came when it had just ended
			c.mu.Unlock()
			err = q.run(c.ctx, run)
			c.mu.Lock()
		}
		defer c.mu.Unlock()
		if run.err = err; err == nil {
			delete(c.runs, root)
		} else if c.ctx.Err() == nil {
			q.f.log.Warn("counting a directory", "inode", root, "error", err)
		}
		close(c.ended)
		c.ended = make(chan struct{})
	})
}

// active reports whether anything is being counted.
func (q *quotas) active() bool {
	q.counter.mu.Lock()
	defer q.counter.mu.Unlock()
	return len(q.counter.runs) > 0
}

// moved has a directory looked at that came into an account being counted.
func (q *quotas) moved(root, dir uint64) {
	q.counter.mu.Lock()
	defer q.counter.mu.Unlock()
	for _, run := range q.counter.runs {
		if run.to == root || run.root == root {
			run.dirs = append(run.dirs, dir)
		}
	}
}

// wait returns when no count of that account is going on.
func (q *quotas) wait(ctx context.Context, root uint64) error {
	for {
		q.counter.mu.Lock()
		run, ended := q.counter.runs[root], q.counter.ended
		var err error
		if run != nil {
			err = run.err
		}
		q.counter.mu.Unlock()
		if run == nil || err != nil {
			return err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeUnnamed reports whether files without a name are to be entered, once.
func (c *counter) takeUnnamed(run *count) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := run.unnamed
	run.unnamed = false
	return was
}

// next takes a directory to be read. Without one the count is at its end.
func (c *counter) next(run *count) (dir, to uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(run.dirs) == 0 {
		return 0, run.to, false
	}
	dir = run.dirs[len(run.dirs)-1]
	run.dirs = run.dirs[:len(run.dirs)-1]
	return dir, run.to, true
}

func (q *quotas) run(ctx context.Context, run *count) error {
	for {
		if q.counter.takeUnnamed(run) {
			if err := q.enterUnlinked(ctx, run); err != nil {
				return err
			}
		}
		dir, to, ok := q.counter.next(run)
		if ok {
			if err := q.enterDir(ctx, run, dir, to); err != nil {
				return err
			}
			continue
		}
		done, err := q.finish(ctx, run)
		if err != nil || done {
			return err
		}
	}
}

// enterUnlinked enters the files of the account that only a process has open.
func (q *quotas) enterUnlinked(ctx context.Context, run *count) error {
	for _, inum := range q.f.table.unlinked() {
		if !q.f.table.hold(inum) {
			continue // deleted: what is put now would come back
		}
		err := q.enterOpen(ctx, run, inum)
		q.f.Forget(inum, 1)
		if err != nil {
			return err
		}
	}
	return nil
}

func (q *quotas) enterOpen(ctx context.Context, run *count, inum uint64) error {
	n, rec, err := q.f.lock(ctx, inum)
	if err != nil {
		return err
	}
	defer q.f.unlock(n)
	if rec.Meta.Account != run.root || rec.Meta.OwnsAccount() {
		return nil
	}
	return q.restamp(ctx, n, q.counter.goal(run))
}

// goal is the account that what is counted is charged to from now on.
func (c *counter) goal(run *count) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return run.to
}

// restamp charges a locked inode to an account.
func (q *quotas) restamp(ctx context.Context, n *node, to uint64) error {
	t, err := q.f.store.BeginFree(ctx)
	if err != nil {
		return err
	}
	defer t.End()
	q.f.update(t, n, func(m *ondisk.InodeMeta) { q.stamp(m, to) })
	return nil
}

// enterDir enters what is in a directory, and notes the directories there.
func (q *quotas) enterDir(ctx context.Context, run *count, dir, to uint64) error {
	var entries []ondisk.Dirent
	n, rec, err := q.f.rlock(ctx, dir)
	if err == errStale {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	if rec.Meta.Type == ondisk.ObjDir {
		err = q.f.store.ReadDir(ctx, dir, ondisk.DirBit, func(d ondisk.Dirent) bool {
			entries = append(entries, d)
			return true
		})
	}
	q.f.runlock(n)
	if err != nil {
		return err
	}
	var below []uint64
	for i := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		isDir, err := q.enter(ctx, dir, &entries[i], to)
		if err != nil {
			return err
		}
		if isDir {
			below = append(below, entries[i].Inum)
		}
	}
	q.counter.mu.Lock()
	run.dirs = append(run.dirs, below...)
	run.done += uint64(len(entries))
	q.counter.mu.Unlock()
	return nil
}

// enter enters one inode, and reports whether its directory is to be read.
func (q *quotas) enter(ctx context.Context, dir uint64, d *ondisk.Dirent, to uint64) (isDir bool, err error) {
	rec, err := q.f.peek(ctx, d.Inum)
	if err == errStale {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !rec.Meta.OwnsAccount() && q.charged(&rec.Meta, to) {
		return rec.Meta.Type == ondisk.ObjDir, nil
	}
	s := q.f.lockset()
	defer s.unlock()
	s.cover(min(dir, d.Inum), max(dir, d.Inum))
	now, ok, err := q.f.store.Lookup(ctx, dir, d.Name)
	if err != nil || !ok || now.Inum != d.Inum {
		return false, err // moved or removed: not ours any more
	}
	if in, err := s.record(ctx, dir); err != nil || q.of(&in.Meta) != to {
		return false, err // the directory has its own account now, or came into another
	}
	if rec, err = s.record(ctx, d.Inum); err != nil {
		return false, err
	}
	if rec.Meta.OwnsAccount() {
		return false, q.relink(ctx, s.node(d.Inum), to)
	}
	if q.charged(&rec.Meta, to) {
		return rec.Meta.Type == ondisk.ObjDir, nil
	}
	return rec.Meta.Type == ondisk.ObjDir, q.restamp(ctx, s.node(d.Inum), to)
}

// relink makes a locked root of an account lie in another one.
func (q *quotas) relink(ctx context.Context, n *node, to uint64) error {
	if m := &n.rec.Load().Meta; m.Account == to && m.AccountIn == q.genOf(to) || m.Inum == to {
		return nil
	}
	t, err := q.f.store.BeginFree(ctx)
	if err != nil {
		return err
	}
	defer t.End()
	q.setParent(t, n, to)
	return nil
}

// setParent is relink within a transaction.
func (q *quotas) setParent(t Txn, n *node, to uint64) {
	r := q.f.update(t, n, func(m *ondisk.InodeMeta) { m.Account, m.AccountIn = to, q.genOf(to) })
	q.mu.Lock()
	q.keep(&r.Meta)
	q.mu.Unlock()
	if r.Meta.AccountFlags&ondisk.AccountLeaving != 0 {
		q.count(n.inum) // what went to the old one goes to this
	}
}

// finish notes that an account is counted, or given up; done is false if
// there is more to look at.
func (q *quotas) finish(ctx context.Context, run *count) (done bool, err error) {
	s := q.f.lockset()
	defer s.unlock()
	s.cover(ondisk.InumRoot, run.root)
	q.counter.mu.Lock()
	more, leaving := len(run.dirs) > 0 || run.unnamed, run.leaving
	q.counter.mu.Unlock()
	if more {
		return false, nil
	}
	rec, err := s.record(ctx, run.root)
	if err == errStale || err == nil && rec.Meta.Nlinks == 0 {
		return true, nil // removed: what is put now would come back
	}
	if err != nil {
		return false, err
	}
	t, err := q.f.store.BeginFree(ctx)
	if err != nil {
		return false, err
	}
	defer t.End()
	if !leaving {
		r := q.f.update(t, s.node(run.root), func(m *ondisk.InodeMeta) { m.AccountFlags &^= ondisk.AccountCounting })
		q.mu.Lock()
		q.keep(&r.Meta)
		q.mu.Unlock()
		return true, nil
	}
	if err := q.storeList(ctx, t, s.node(ondisk.InumRoot), 0, run.root); err != nil {
		return false, err
	}
	parent := rec.Meta.Account
	q.f.update(t, s.node(run.root), func(m *ondisk.InodeMeta) {
		m.AccountFlags, m.AccountIn, m.Charge, m.ChargeInodes = 0, 0, 0, 0
		q.stamp(m, parent)
	})
	q.drop(run.root)
	return true, nil
}
