package resync

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	shadowPrefix   = ".anvilfs-shadow-"
	divergedPrefix = "diverged-"
)

// ShadowLabel is the label of the second root of a node. Two PFSs of a volume
// may be resynced at once.
func ShadowLabel(fsid ondisk.UUID) string { return shadowPrefix + fsid.String()[:8] }

// shadowID is the cluster id that a shadow made from the state base carries.
// It says what the shadow's old tables may be compared with.
func shadowID(base cluster.Position) ondisk.UUID {
	sum := sha256.Sum256(fmt.Appendf(nil, "anvilfs shadow of %d %x", base.T, base.H))
	return ondisk.UUID(sum[:16])
}

// shadowStep applies one commit's worth to the shadow.
func (r *Run) shadowStep(ctx context.Context) (done bool, err error) {
	n, entry := r.round, r.entry
	before := *n
	rep := r.Report()
	err = r.inTxn(ctx, func(txn *chain.Txn) error {
		txn.UseReserveBut(chain.LastRoom)
		if !n.marked {
			r.entry.ResyncGoal = n.src.Position.T
			if err := txn.SetState(r.entry); err != nil {
				return err
			}
		}
		for !done && n.bytes-before.bytes < r.o.StepBytes && n.leaves-before.leaves < stepChanges {
			var err error
			if done, err = r.apply(ctx, txn, r.shadow); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.entry = entry
		n.cursor, n.bytes, n.leaves = before.cursor, before.bytes, before.leaves
		n.share(r)
		r.update(func(now *Report) { now.BytesDone, now.LeavesDone = rep.BytesDone, rep.LeavesDone })
		return false, err
	}
	n.marked = true
	return done, nil
}

// rebase makes a shadow and lets the round go on in it, from its start. An
// empty one shares nothing with the PFS.
func (r *Run) rebase(ctx context.Context, empty bool) error {
	n, entry := r.round, r.entry
	err := r.inTxn(ctx, func(txn *chain.Txn) error {
		txn.UseReserveBut(chain.LastRoom)
		id := shadowID(r.at)
		var err error
		if empty {
			id = shadowID(cluster.Position{})
			err = txn.CreatePFS(ctx, chain.PFSSpec{Label: r.shadow, Clid: id, T: n.src.Position.T})
		} else {
			err = txn.Snapshot(ctx, r.target.Label, r.shadow, chain.SnapSpec{Shadow: true, Clid: id})
		}
		if err != nil {
			return err
		}
		v, err := txn.View(ctx, r.shadow)
		if err != nil {
			return err
		}
		r.entry.ResyncGoal, r.entry.ShadowKey = n.src.Position.T, v.Root().Key
		v.Release()
		return txn.SetState(r.entry)
	})
	if err != nil {
		r.entry = entry
		return err
	}
	r.hasShadow, n.marked = true, true
	old, err := r.target.Volume.View(ctx, r.shadow)
	if err != nil {
		return err
	}
	n.old.Release()
	n.old, n.cursor = old, chain.Cursor{}
	n.share(r)
	r.update(func(rep *Report) { rep.Mode = ModeShadow })
	return nil
}

// dropShadow removes the shadow and what the state entry says of it.
func (r *Run) dropShadow(ctx context.Context) error {
	entry := r.entry
	err := r.inTxn(ctx, func(txn *chain.Txn) error {
		if err := txn.DeletePFS(ctx, r.shadow); err != nil {
			return err
		}
		r.entry.ResyncGoal, r.entry.ShadowKey = 0, 0
		return txn.SetState(r.entry)
	})
	if err != nil {
		r.entry = entry
		return err
	}
	r.hasShadow = false
	return nil
}
