package resync

import (
	"context"
	"errors"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
)

// join puts the copy in place and gives the node back. joined is false if the
// source has moved on too far: another round is needed.
func (r *Run) join(ctx context.Context) (joined bool, err error) {
	_, known := r.peers.Retained(r.at)
	switch {
	case known:
		// The primary feeds the node what is missing.
		if err := r.swap(ctx); err != nil {
			return false, err
		}
		return true, r.peers.Join(r.target, r.at)
	case r.Report().Round < maxRounds:
		return false, nil
	}
	return r.joinHeld(ctx)
}

// joinHeld does the last round while no txg is made. If that takes too long,
// the copy is put in place as it is: the node is closer then, and may find the
// txgs it misses still known.
func (r *Run) joinHeld(ctx context.Context) (joined bool, err error) {
	err = r.peers.Hold(ctx, holdLimit, func(at cluster.Position) error {
		limited, cancel := context.WithTimeout(ctx, holdLimit)
		defer cancel()
		if err := r.lastRound(limited, at); err != nil {
			return err
		}
		joined = true
		return r.peers.Join(r.target, r.at)
	})
	if err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		r.endRound()
		r.o.Logger.Warn("the last round takes longer than writers may be held", "node", r.name)
		if err := r.swap(ctx); err != nil {
			return false, err
		}
		return true, r.peers.Join(r.target, r.at)
	}
	return joined, err
}

// lastRound makes the PFS equal to the committed state at, in one commit.
func (r *Run) lastRound(ctx context.Context, at cluster.Position) error {
	if at == r.at {
		return r.swap(ctx)
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.endRound()
	n, entry := r.round, r.entry
	err := r.inTxn(ctx, func(txn *chain.Txn) error {
		r.leaveRoom(ctx, txn)
		for done := false; !done; {
			var err error
			if done, err = r.apply(ctx, txn, r.label()); err != nil {
				return err
			}
		}
		if err := r.settle(ctx, txn); err != nil {
			return err
		}
		return r.arrive(txn, n.src.Position)
	})
	if err != nil {
		r.entry = entry
		n.rewind(r)
		return err
	}
	r.hasShadow = false
	r.at, r.lineage = n.src.Position, n.src.Lineage
	r.tailKept()
	return nil
}

// settle puts the shadow's content in place of the PFS's, if there is a shadow.
func (r *Run) settle(ctx context.Context, txn *chain.Txn) error {
	if !r.hasShadow {
		return nil
	}
	if err := r.keepTail(ctx, txn); err != nil {
		return err
	}
	return txn.SwapRoot(ctx, r.target.Label, r.shadow)
}

// swap puts the shadow in place, with its position, in one commit.
func (r *Run) swap(ctx context.Context) error {
	if !r.hasShadow {
		return nil // the PFS itself was changed, and its position with it
	}
	entry := r.entry
	err := r.inTxn(ctx, func(txn *chain.Txn) error {
		if err := r.settle(ctx, txn); err != nil {
			return err
		}
		return r.arrive(txn, r.at)
	})
	if err != nil {
		r.entry = entry
		return err
	}
	r.hasShadow = false
	r.tailKept()
	return nil
}
