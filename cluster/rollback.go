package cluster

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

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

// rolledBack is the charter with the mark of a rollback: without it, a member
// that has the content of between would take tables for equal that are not.
func (e *engine) rolledBack(at, to ondisk.Tid) *Charter {
	old := e.primary.Charter()
	return &Charter{Config: *old.Config.Clone(), Lineage: *old.Lineage.WithRollback(at, to), Ops: old.Ops}
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
// on what is not there any more.
func (p *Pool) SnapshotRollback(ctx context.Context, name string, keep bool) (kept string, err error) {
	now := p.now()
	err = p.changeSnapshots(ctx, func(t *SnapshotTable) (ops []chain.PFSOp, err error) {
		i := t.find(name)
		if i < 0 {
			return nil, noSnapshot(name)
		}
		e := t.Entries[i]
		for _, n := range p.engine.volumes() {
			if own, infos, err := n.look(ctx); err == nil && e.On(infos, n.Fsid) == nil && own.Has(e.Name, e.Clid) {
				return nil, fmt.Errorf("%s does not have snapshot %q yet: mount the filesystem and wait for it with anvilfs wait snapshots", n.Name, name)
			}
		}
		if keep {
			op := chain.PFSOp{Kind: chain.OpSnapshot, Clid: ondisk.NewUUID(), Name: t.nameAt("", now)}
			op.Name = "before-rollback-" + op.Name
			if t.find(op.Name) >= 0 {
				return nil, fmt.Errorf("%q: %w: wait a second, or delete it", op.Name, ErrSnapshotExists)
			}
			if err := p.labelFree(ctx, op.Name); err != nil {
				return nil, err
			}
			t.Entries = append(t.Entries, SnapshotEntry{Name: op.Name, Clid: op.Clid, After: p.engine.committed().T, Created: now})
			kept, ops = op.Name, append(ops, op)
		}
		return append(ops, chain.PFSOp{Kind: chain.OpRollback, Name: name, Clid: e.Clid, To: e.After}), nil
	})
	if err != nil {
		return "", fmt.Errorf("snapshot rollback: %w", err)
	}
	return kept, nil
}
