package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A request is a batch that the pool wants committed.
type request struct {
	b        *chain.Batch
	manifest [32]byte
	sent     *chain.Batch // b, or a copy of it with another T; nil = not sent
	pos      Position     // of sent
	done     chan struct{}
}

// nextT is the T that the next batch must carry.
func (e *engine) nextT() ondisk.Tid {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pub.next
}

// commit makes b durable on a quorum of masters. logged says that it may be in
// their logs only, and not in the views yet. It returns early if ctx
// ends, or there is no quorum and the mount was told not to wait; b may be
// committed later all the same, and is to be given again.
func (e *engine) commit(ctx context.Context, b *chain.Batch) (logged bool, err error) {
	if e.o.ReadOnly {
		return false, ErrReadOnly
	}
	if err := e.takeGate(ctx); err != nil {
		return false, err
	}
	defer e.giveGate()
	return e.commitHeld(ctx, b)
}

// commitHeld is commit for who has the gate.
func (e *engine) commitHeld(ctx context.Context, b *chain.Batch) (logged bool, err error) {
	var manifest [32]byte
	if !e.solo { // nobody compares the histories of a single copy
		manifest = Manifest(b)
	}
	for {
		var r *request
		ok := e.ask(func() {
			if r = e.request; r == nil {
				r = &request{b: b, manifest: manifest, done: make(chan struct{})}
				e.request = r
				e.submit()
			}
		})
		if !ok {
			return false, ErrPoolClosed
		}
		if err := e.await(ctx, r.done); err != nil || r.b == b {
			return err == nil && r.sent.Log, err
		}
	}
}

// await waits for a request, or for a reason to give up waiting.
func (e *engine) await(ctx context.Context, done <-chan struct{}) error {
	for {
		changed := e.changed()
		if e.stale() {
			return ErrStale
		}
		if e.o.OnNoQuorum == EIO && !e.hasQuorum() {
			select {
			case <-done:
				return nil
			default:
				return ErrNoQuorum
			}
		}
		select {
		case <-done:
			return nil
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-e.ended:
			return ErrPoolClosed
		}
	}
}

func (e *engine) takeGate(ctx context.Context) error {
	select {
	case <-e.gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.ended:
		return ErrPoolClosed
	}
}

func (e *engine) giveGate() { e.gate <- struct{}{} }

// submit proposes the batch that waits, once the primary takes it.
func (e *engine) submit() {
	r := e.request
	if r == nil || r.sent != nil || e.primary == nil || !e.primary.Free() {
		return
	}
	r.sent = r.b
	T, log := e.primary.NextT(), r.b.Log && e.mayLog()
	if r.b.T != T || r.b.Log != log {
		again := *r.b
		again.T, again.Log = T, log
		r.sent = &again
	}
	propose := core.Propose{Batch: r.sent, Manifest: r.manifest, Size: batchSize(r.sent), Snapshot: WantsSnapshot(r.sent)}
	if marked, law, ok := MarkRollback(r.sent, e.primary.Charter()); ok && !e.solo {
		r.sent = marked
		propose.Charter, propose.Batch, propose.Manifest = law, marked, Manifest(marked)
	}
	e.step(propose)
	r.pos = e.primary.Head()
}

// committedTxg ends the request whose txg it is.
func (e *engine) committedTxg(x *core.Txg) {
	if !x.Batch.(*chain.Batch).Log {
		e.base = x.Pos
	}
	if r := e.request; r != nil && r.sent != nil && x.Batch == any(r.sent) {
		e.finish(r)
	}
}

func (e *engine) finish(r *request) {
	e.request = nil
	e.refresh() // views first: who waits will look at them
	close(r.done)
}

// served goes on with a batch that was on its way in an epoch before: if the
// adopted state contains it, it is committed, else it is sent anew.
func (e *engine) served() {
	if e.past {
		return
	}
	e.expel()
	r := e.request
	if r == nil {
		return
	}
	if r.sent == nil {
		e.submit()
		return
	}
	if e.primary.Charter().Lineage.ContainsPos(e.primary.Adopted(), r.pos) && r.pos.T <= e.primary.Adopted().T {
		e.finish(r)
		return
	}
	r.sent = nil
	e.submit()
}

// hold runs fn while no txg is made, for no longer than limit: fn may hang with
// the device it writes to, and goes on without the hold then. It has to come to
// an end that does not rest on it.
func (e *engine) hold(ctx context.Context, limit time.Duration, fn func(Position) error) error {
	if e.o.ReadOnly {
		return ErrReadOnly
	}
	if err := e.takeGate(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	at, err := e.quiet(ctx, timer.C)
	if err != nil {
		e.giveGate()
		return err
	}
	done := make(chan error, 1)
	go func() { done <- fn(at) }()
	select {
	case err := <-done:
		e.giveGate()
		return err
	case <-timer.C:
		e.giveGate()
		e.log.Warn("writers are not held any longer", "planned", limit)
		return <-done
	}
}

// quiet waits until no txg is under way. Without a quorum none ends.
func (e *engine) quiet(ctx context.Context, limit <-chan time.Time) (at Position, err error) {
	for {
		changed := e.changed()
		var free bool
		if !e.ask(func() { free = e.request == nil && e.primary.Free(); at = e.primary.Committed() }) {
			return at, ErrPoolClosed
		}
		if free {
			return at, nil
		}
		select {
		case <-changed:
		case <-time.After(5 * time.Millisecond):
		case <-limit:
			return at, fmt.Errorf("a txg is under way: %w", context.DeadlineExceeded)
		case <-ctx.Done():
			return at, ctx.Err()
		}
	}
}
