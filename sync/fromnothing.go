package resync

import (
	"context"
	"errors"

	"github.com/anvilfs/anvilfs/chain"
)

// unreadable reports whether err is about a table of the target, whose device
// works otherwise. One with a bad check code counts as empty and is no error;
// one that the device does not give could be anything. Comparing meets it, or
// only the changes do that are applied afterwards.
func (r *Run) unreadable(err error) bool {
	var side *chain.DiffError
	var where *chain.NodeError
	if errors.As(err, &side) && !side.Target || !errors.As(err, &where) || r.bare {
		return false
	}
	v := r.target.Volume
	return v.Failed() == nil && v.Probe() == nil
}

// fromNothing starts the round over in an empty shadow, which shares no table
// with what the node has.
func (r *Run) fromNothing(ctx context.Context) error {
	r.bare = true
	if r.hasShadow {
		if err := r.dropShadow(ctx); err != nil {
			return err
		}
	}
	r.at, r.lineage = r.target.Position, r.target.Lineage
	r.round.common = 0
	return r.rebase(ctx, true)
}
