package cluster

import (
	"context"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
)

// sealAfter is after how long without a txg an empty one follows: longer than
// between those that a timer makes, so that it is not one more of each.
const sealAfter = 10 * time.Second

// A txg says who had the one before it. So that this is known of the last one
// too, when there is nothing to write or the mount ends, an empty txg seals it.

// noteCommit takes note of what would have to be sealed. A barrier is empty.
func (e *engine) noteCommit(x *core.Txg) {
	b, ok := x.Batch.(*chain.Batch)
	e.written = e.now()
	e.sealed = ok && len(b.Changes)+len(b.Ops) == 0 || x.Pos.T.Seq() == 0
}

// unsealed reports whether an empty txg can and should be made.
func (e *engine) unsealed() bool {
	return !e.sealed && !e.solo && !e.past && e.primary != nil && e.primary.Free() && e.primary.Quorum() &&
		e.request == nil && len(e.primary.Charter().Config.Members) > 1
}

// sealIdle seals when nothing has been written for a while.
func (e *engine) sealIdle() {
	if !e.unsealed() || e.now()-e.written < sealAfter {
		return
	}
	select {
	case <-e.gate:
	default:
		return
	}
	e.written = e.now() // if it fails, not again at once
	e.tasks.Go(func() {
		defer e.giveGate()
		e.seal(e.ctx)
	})
}

// sealLast seals before the members are closed. That it could not is no
// error: what was acknowledged is durable without it.
func (e *engine) sealLast(ctx context.Context) {
	if e.o.ReadOnly {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.deadline)
	defer cancel()
	if e.takeGate(ctx) != nil {
		return
	}
	defer e.giveGate()
	wanted := false
	if e.ask(func() { wanted = e.unsealed() }) && wanted {
		e.seal(ctx)
	}
}

// seal makes the empty txg. The caller has the gate.
func (e *engine) seal(ctx context.Context) {
	if _, err := e.commitHeld(ctx, &chain.Batch{T: e.nextT()}); err != nil {
		e.log.Debug("no empty txg after the last one", "err", err)
	}
}
