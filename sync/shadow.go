package resync

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// shadowPrefix begins the label of a shadow. The rest is the start of the
// node's fsid: two PFSs of a volume may be resynced at once.
const shadowPrefix = ".anvilfs-shadow-"

// divergedPrefix begins the label of the snapshot that keeps what only this
// node had.
const divergedPrefix = "diverged-"

func shadowLabel(fsid ondisk.UUID) string { return shadowPrefix + fsid.String()[:8] }

// prepareShadow makes the shadow from the target's own tree, so that only
// differences are copied. A shadow left by a run that was cut off is used
// again if what it shares with the source is known: the goal in the state
// entry says how far it was walked, but not whether to the end, so it starts
// over from the common txg of the tree it was made of.
func (r *Run) prepareShadow(ctx context.Context) error {
	t := r.target
	r.shadow = shadowLabel(t.Resume.Fsid)
	have, err := r.find(ctx, r.shadow)
	if err != nil {
		return err
	}
	txn, err := t.Volume.Begin(ctx)
	if err != nil {
		return err
	}
	txn.UseReserve()
	if err := r.makeShadow(ctx, txn, have); err != nil {
		txn.Abort()
		return err
	}
	return txn.Commit(ctx)
}

func (r *Run) makeShadow(ctx context.Context, txn *chain.Txn, stale bool) error {
	t := r.target
	if stale {
		// Its tables carry the goal of the run that was cut off, walked to the
		// end or not: a diff against it could prune what was never copied.
		if err := txn.DeletePFS(ctx, r.shadow); err != nil {
			return err
		}
	}
	if t.Position.T > r.common && r.common != 0 {
		if err := r.keepDiverged(ctx, txn); err != nil {
			return err
		}
	}
	spec := chain.SnapSpec{Shadow: true, Type: ondisk.PFSSlave, Fsid: ondisk.NewUUID(), Clid: ondisk.NewUUID()}
	if err := txn.Snapshot(ctx, t.Label, r.shadow, spec); err != nil {
		return fmt.Errorf("shadow of %s: %w", r.name, err)
	}
	entry := t.Resume
	entry.ResyncGoal = r.source.Position.T
	entry.ShadowKey = ondisk.NameHash(r.shadow)
	return txn.SetState(entry)
}

// keepDiverged keeps the tree with txgs that the cluster does not have as a
// snapshot. There may be one already from an earlier try.
func (r *Run) keepDiverged(ctx context.Context, txn *chain.Txn) error {
	label := fmt.Sprintf("%s%d.%d", divergedPrefix, r.target.Position.T.Epoch(), r.target.Position.T.Seq())
	err := txn.Snapshot(ctx, r.target.Label, label, chain.SnapSpec{Fsid: ondisk.NewUUID(), Clid: ondisk.NewUUID()})
	if err != nil && !errors.Is(err, chain.ErrPFSExists) {
		return fmt.Errorf("keeping what only %s has as %s: %w", r.name, label, err)
	}
	return nil
}

// find reports whether the target's volume has a PFS of that label.
func (r *Run) find(ctx context.Context, label string) (bool, error) {
	list, err := r.target.Volume.PFSs(ctx)
	if err != nil {
		return false, err
	}
	for _, p := range list {
		if p.Label == label {
			return true, nil
		}
	}
	return false, nil
}

// swap gives the PFS the shadow's content and the state of the source, in the
// transaction that applied the last difference.
func (r *Run) swap(txn *chain.Txn) error {
	ctx := context.Background() // half a swap is worth nothing
	if err := txn.SwapRoot(ctx, r.target.Label, r.shadow); err != nil {
		return err
	}
	at := r.source.Position
	entry := r.target.Resume
	entry.T, entry.H, entry.Acked = at.T, at.H, at.T
	entry.PromisedEpoch = max(entry.PromisedEpoch, at.T.Epoch())
	entry.ResyncGoal, entry.ShadowKey, entry.Flags = 0, 0, 0
	return txn.SetState(entry)
}
