package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// settleRetry is how long a rollback that is not committed waits for something
// to happen to members before it is tried again.
const settleRetry = time.Second

// rollbackOf returns the txg up to which a batch that rolls back leaves the
// history common with what was before.
func rollbackOf(b *chain.Batch) (to ondisk.Tid, ok bool) {
	for i := range b.Ops {
		if b.Ops[i].Kind == chain.OpRollback {
			return b.Ops[i].To, true
		}
	}
	return 0, false
}

// MarkRollback returns a batch that rolls back with the charter to be in force
// after it: law with the mark of the rollback. Without it, a member that has the
// content of between would take tables for equal that are not. ok is false if b
// rolls nothing back.
func MarkRollback(b *chain.Batch, law *Charter) (marked *chain.Batch, c *Charter, ok bool) {
	to, ok := rollbackOf(b)
	if !ok {
		return b, nil, false
	}
	c = &Charter{Config: *law.Config.Clone(), Lineage: *law.Lineage.WithRollback(b.T, to), Ops: law.Ops}
	return withCharter(b, c), c, true
}

// withCharter is b with the changes that store a charter.
func withCharter(b *chain.Batch, c *Charter) *chain.Batch {
	both := *b
	both.Changes = append(append([]chain.Change(nil), b.Changes...), charterBatch(b.T, c).Changes...)
	both.Sort()
	return &both
}

// SnapshotRollback puts back what a snapshot has, on all members in one txg.
// What was there is kept as a snapshot of the name it returns, unless keep is
// false. Other snapshots stay, the list of them included.
//
// Nobody else may use the pool meanwhile: calls that looked before would write
// on what is not there any more. fs.Server.Rollback keeps them out.
func (p *Pool) SnapshotRollback(ctx context.Context, name string, keep bool) (kept string, err error) {
	kept, err = p.rollback(ctx, name, keep)
	if err != nil {
		return "", fmt.Errorf("snapshot rollback: %w", err)
	}
	return kept, nil
}

// SnapshotRollbackSettled is SnapshotRollback that does not return before it is
// settled which of the two states the pool has, however long the members do not
// answer: an error means that nothing was rolled back, but for ErrStale and
// ErrPoolClosed, after which nothing is shown any more. waiting is called each
// time that an attempt has failed.
func (p *Pool) SnapshotRollbackSettled(ctx context.Context, name string, keep bool, waiting func(error)) (kept string, err error) {
	if err := p.canCommit(); err != nil {
		return "", fmt.Errorf("snapshot rollback: %w", err)
	}
	kept, err = p.rollback(ctx, name, keep)
	for errors.Is(err, errNotDurable) {
		changed := p.Changed()
		waiting(err)
		select {
		case <-changed: // perhaps a member is back
		case <-time.After(settleRetry):
		case <-p.ctx.Done():
		}
		if p.engine.stale() {
			err = ErrStale
		} else if err = p.Sync(p.ctx); err != nil && !errors.Is(err, ErrPoolClosed) {
			err = fmt.Errorf("%w: %w", errNotDurable, err)
		}
	}
	if err != nil {
		return "", fmt.Errorf("snapshot rollback: %w", err)
	}
	return kept, nil
}

func (p *Pool) canCommit() error {
	switch {
	case p.opts.ReadOnly:
		return ErrReadOnly
	case p.engine.stale():
		return ErrStale
	case !p.engine.hasQuorum():
		return ErrNoQuorum
	}
	return nil
}

func (p *Pool) rollback(ctx context.Context, name string, keep bool) (kept string, err error) {
	now := p.now()
	err = p.changeSnapshots(ctx, func(t *SnapshotTable) (ops []chain.PFSOp, err error) {
		e, err := p.canRollBack(ctx, t, name)
		if err != nil {
			return nil, err
		}
		if keep {
			op := chain.PFSOp{Kind: chain.OpSnapshot, Clid: ondisk.NewUUID()}
			if op.Name, err = p.keepName(ctx, t, now); err != nil {
				return nil, err
			}
			t.Entries = append(t.Entries, SnapshotEntry{Name: op.Name, Clid: op.Clid, After: p.engine.committed().T, Created: now})
			kept, ops = op.Name, append(ops, op)
		}
		return append(ops, chain.PFSOp{Kind: chain.OpRollback, Name: name, Clid: e.Clid, To: e.After}), nil
	})
	return kept, err
}

// CanRollBack says why a rollback to the snapshot would be refused now; nil: it
// would not.
func (p *Pool) CanRollBack(ctx context.Context, name string) error {
	err := p.canCommit()
	if err == nil {
		var t *SnapshotTable
		if t, _, err = p.snapshotTable(ctx); err == nil {
			_, err = p.canRollBack(ctx, t, name)
		}
	}
	if err != nil {
		return fmt.Errorf("snapshot rollback: %w", err)
	}
	return nil
}

func (p *Pool) canRollBack(ctx context.Context, t *SnapshotTable, name string) (e SnapshotEntry, err error) {
	if p.BranchOf() != nil {
		// What it changed since it left is found by comparing with that state.
		return e, errors.New("a soft master that is mounted without the others is not rolled back: its changes are merged when it returns")
	}
	i := t.find(name)
	if i < 0 {
		return e, noSnapshot(name)
	}
	e = t.Entries[i]
	for _, n := range p.engine.volumes() {
		if own, infos, err := n.look(ctx); err == nil && e.On(infos, n.Fsid) == nil && own.Has(e.Name, e.Clid) {
			return e, fmt.Errorf("%s does not have snapshot %q yet: wait for it with anvilfs wait snapshots MNT, on a mount", n.Name, name)
		}
	}
	return e, nil
}

// keepName names the snapshot of what is rolled back. Two rollbacks may come in
// one second.
func (p *Pool) keepName(ctx context.Context, t *SnapshotTable, now time.Time) (string, error) {
	base := "before-rollback-" + now.Format("2006-01-02T15.04.05")
	name := base
	for i := 2; t.find(name) >= 0; i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	return name, p.labelFree(ctx, name)
}

// A Before is what the directories were at an instant. It keeps the blocks of
// that state; Release must be called.
type Before struct {
	p *Pool
	s *state
}

// Before returns the present state.
func (p *Pool) Before() *Before { return &Before{p, p.acquire()} }

// ReadDir is Pool.ReadDir as of then.
func (b *Before) ReadDir(ctx context.Context, dir, from uint64, fn func(ondisk.Dirent) bool) error {
	return b.p.readDir(ctx, b.s, dir, from, fn)
}

// Release ends the use.
func (b *Before) Release() { b.s.release() }
