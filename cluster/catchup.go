package cluster

import (
	"context"
	"errors"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// CatchUp makes a target equal to a source in one transaction, so that it is
// its old state or the new one and nothing between. It returns what both had.
func CatchUp(ctx context.Context, t *ResyncTarget, s Source) (common ondisk.Tid, err error) {
	common, err = catchUp(ctx, t, s)
	if !errors.Is(err, chain.ErrNoSpace) {
		return common, err
	}
	// An election may wait for this copy, and nothing else would look for room.
	if merr := makeRoom(ctx, t.Volume); merr != nil {
		return common, errors.Join(err, merr)
	}
	return catchUp(ctx, t, s)
}

func catchUp(ctx context.Context, t *ResyncTarget, s Source) (common ondisk.Tid, err error) {
	common = CommonTid(&t.Lineage, t.Position, &s.Lineage, s.Position)
	old, err := t.Volume.View(ctx, t.Label)
	if err != nil {
		return common, err
	}
	defer old.Release()
	txn, err := t.Volume.Begin(ctx)
	if err != nil {
		return common, err
	}
	txn.UseReserve()
	entry := t.Resume
	entry.T, entry.H, entry.Acked = s.Position.T, s.Position.H, s.Position.T
	entry.Flags &^= ondisk.StateLost
	if err = copyState(ctx, txn, t.Label, s, old, common); err == nil {
		err = txn.SetState(entry)
	}
	if err != nil {
		txn.Abort()
		return common, err
	}
	return common, txn.Commit(ctx)
}

func copyState(ctx context.Context, txn *chain.Txn, label string, s Source, old *chain.View, common ondisk.Tid) error {
	var from chain.Cursor
	for {
		b := &chain.Batch{T: s.Position.T, Discard: true}
		next, done, _, err := chain.Diff(ctx, s.View, old, common, from, chain.DiffLimits{Changes: copyChanges, Bytes: copyBytes},
			func(c chain.Change) error { b.Changes = append(b.Changes, c); return nil },
			func(t chain.Touch) error { b.Touch = append(b.Touch, t); return nil })
		if err != nil {
			return err
		}
		b.Sort()
		if err := txn.Apply(ctx, label, b); err != nil {
			return errors.Join(err, ctx.Err())
		}
		if done {
			return nil
		}
		from = next
	}
}
