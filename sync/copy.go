package resync

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A round makes the copy equal to one pinned state of a source.
type round struct {
	src    cluster.Source
	unpin  func()
	old    *chain.View // what is compared with it: the copy at the round's start
	common ondisk.Tid
	cursor chain.Cursor
	marked bool // the goal is in the state entry
	top    uint64
	began  time.Time
	bytes  int64
	leaves int64
	shared *chain.SharedPlaces // nil: each place gets a block of its own
}

// label is the PFS that the copy is made in.
func (r *Run) label() string {
	if r.hasShadow {
		return r.shadow
	}
	return r.target.Label
}

// begin pins a source and starts a round.
func (r *Run) begin(ctx context.Context) (err error) {
	src, unpin, err := r.peers.PinSource(ctx, r.name)
	if err != nil {
		return err
	}
	n := &round{src: src, unpin: unpin, began: r.now()}
	n.share(r)
	r.round = n
	n.common = cluster.CommonTid(&r.lineage, r.at, &src.Lineage, src.Position)
	if n.common == 0 {
		// What the node has is in doubt: what was written to it, and is in
		// memory still, says nothing of its device.
		r.target.Volume.ForgetTables()
	}
	if n.old, err = r.target.Volume.View(ctx, r.label()); err != nil {
		return err
	}
	switch late := n.old.T() > src.Position.T; {
	case late && r.hasShadow:
		// Made for a goal that is not in the source's history.
		r.endRound()
		if err := r.dropShadow(ctx); err != nil {
			return err
		}
		r.at, r.lineage = r.target.Position, r.target.Lineage
		return r.begin(ctx)
	case late:
		// Others gave it numbers from the future: nothing can be built on it.
		if err := r.rebase(ctx, true); err != nil {
			return err
		}
		n.common = 0
	}
	if root, ok, err := src.View.Inode(ctx, ondisk.InumRoot); err == nil && ok {
		n.top = root.Meta.PFSInum
	}
	r.tail(ctx)
	r.update(func(rep *Report) {
		rep.Round++
		rep.Source, rep.Goal, rep.Common, rep.Path = src.Name, src.Position.T.String(), n.common.String(), ""
		rep.BytesLeft, rep.LeavesLeft, rep.ETA = -1, -1, 0
	})
	return nil
}

// endRound gives up the views of a round.
func (r *Run) endRound() {
	n := r.round
	if r.round = nil; n == nil {
		return
	}
	if n.old != nil {
		n.old.Release()
	}
	n.unpin()
}

// tail decides whether the node has changes that the source's history has not,
// and under which label they are kept.
func (r *Run) tail(ctx context.Context) {
	own, s := r.target.Position, &r.round.src
	if own.IsZero() || r.at != own || s.Lineage.ContainsPos(s.Position, own) {
		return
	}
	label := fmt.Sprintf("%s%d.%d", divergedPrefix, own.T.Epoch(), own.T.Seq())
	if space := r.target.Volume.Space(); space.Avail() < space.Total/10 {
		r.o.Logger.Warn("changes that only this node had are dropped for lack of space", "node", r.name, "at", own.T.String())
		return
	}
	infos, err := r.target.Volume.PFSs(ctx)
	if err != nil && len(infos) == 0 {
		return
	}
	for i := range infos {
		if infos[i].Label == label {
			return // kept by an earlier run
		}
	}
	r.keep = label
}

// keepTail makes the snapshot of what is about to be dropped.
func (r *Run) keepTail(ctx context.Context, txn *chain.Txn) error {
	if r.keep == "" {
		return nil
	}
	return txn.Snapshot(ctx, r.target.Label, r.keep, chain.SnapSpec{})
}

func (r *Run) tailKept() {
	if r.keep != "" {
		r.o.Logger.Info("changes that only this node had are kept", "node", r.name, "snapshot", r.keep)
		r.update(func(rep *Report) { rep.Kept = r.keep })
		r.keep = ""
	}
}

// copy does one step of a round, and reports whether the copy is equal to the
// round's source now.
func (r *Run) copy(ctx context.Context) (equal bool, err error) {
	if r.round == nil {
		if err := r.begin(ctx); err != nil {
			return false, err
		}
	}
	n := r.round
	switch {
	case r.at == n.src.Position && !r.hasShadow:
		equal = true
	case r.hasShadow:
		equal, err = r.shadowStep(ctx)
	default:
		if equal, err = r.replay(ctx); err == nil && !equal {
			equal, err = r.direct(ctx)
		}
		if err == nil && !equal {
			err = r.rebase(ctx, false)
		}
	}
	if r.unreadable(err) {
		r.o.Logger.Warn("the node's own tree cannot be read: all is copied", "node", r.name, "err", err)
		err = r.fromNothing(ctx)
	}
	if err == nil && equal {
		r.at, r.lineage = n.src.Position, n.src.Lineage
		r.endRound()
	}
	return equal, err
}

// inTxn runs fn in a transaction of the target and commits it.
func (r *Run) inTxn(ctx context.Context, fn func(txn *chain.Txn) error) error {
	txn, err := r.target.Volume.Begin(ctx)
	if err != nil {
		return err
	}
	txn.UseReserve() // a node that is behind is worth more than the reserve
	if err := fn(txn); err != nil {
		txn.Abort()
		return err
	}
	return txn.Commit(ctx)
}

// leaveRoom has a commit of the PFS itself leave what a removal takes: a node that
// comes in sync without room would keep others from making some.
func (r *Run) leaveRoom(ctx context.Context, txn *chain.Txn) {
	cluster.LeaveRoom(ctx, txn, r.target.Volume, r.entry.Fsid)
}

// arrive puts the position into the state entry: the PFS itself is there now.
func (r *Run) arrive(txn *chain.Txn, pos cluster.Position) error {
	e := r.entry
	e.T, e.H, e.Acked, e.Time = pos.T, pos.H, pos.T, r.now().UnixNano()
	e.ResyncGoal, e.ShadowKey = 0, 0
	e.Flags &^= ondisk.StateLost
	if err := txn.SetState(e); err != nil {
		return err
	}
	r.entry = e
	return nil
}

// replay applies the txgs that the node missed, if the primary has them still.
func (r *Run) replay(ctx context.Context) (done bool, err error) {
	goal := r.round.src.Position
	if r.at.IsZero() || r.target.Foreign && r.at == r.target.Position {
		return false, nil
	}
	missed, ok := r.peers.Retained(r.at)
	for i := range missed {
		if missed[i].T > goal.T {
			missed = missed[:i]
			break
		}
	}
	if !ok || len(missed) == 0 || missed[len(missed)-1].T != goal.T {
		return false, nil
	}
	entry := r.entry
	err = r.inTxn(ctx, func(txn *chain.Txn) error {
		r.leaveRoom(ctx, txn)
		for _, b := range missed {
			if err := txn.Apply(ctx, r.target.Label, b); err != nil {
				return err
			}
		}
		return r.arrive(txn, goal)
	})
	if err != nil {
		r.entry = entry
		if errors.Is(err, ondisk.ErrCorrupt) || errors.Is(err, chain.ErrBadBatch) {
			return false, nil // damaged tables, or lost leaves: only a comparison mends them
		}
		return false, err
	}
	r.update(func(rep *Report) {
		rep.Mode = ModeReplay
		for _, b := range missed {
			rep.count(b)
		}
	})
	return true, nil
}

// count adds a batch to what is done.
func (rep *Report) count(b *chain.Batch) {
	rep.LeavesDone += int64(len(b.Changes))
	for i := range b.Changes {
		if blk := b.Changes[i].Block; blk != nil {
			rep.BytesDone += int64(len(blk.Bytes))
		}
	}
}

// direct applies the whole difference to the PFS in one commit; done is false,
// and nothing has happened, if it is too large for that.
func (r *Run) direct(ctx context.Context) (done bool, err error) {
	r.update(func(rep *Report) { rep.Mode = ModeDirect })
	n, entry := r.round, r.entry
	errLarge := errors.New("too large for one commit")
	err = r.inTxn(ctx, func(txn *chain.Txn) error {
		r.leaveRoom(ctx, txn)
		if err := r.keepTail(ctx, txn); err != nil {
			return err
		}
		for done := false; !done; {
			var err error
			if done, err = r.apply(ctx, txn, r.target.Label); err != nil {
				return err
			}
			if !done && !r.whole && (n.bytes > r.o.DirectBytes || n.leaves > int64(r.o.DirectChanges)) {
				return errLarge
			}
		}
		return r.arrive(txn, n.src.Position)
	})
	if err == nil {
		r.tailKept()
		return true, nil
	}
	r.entry = entry
	n.rewind(r)
	if err == errLarge {
		return false, nil
	}
	return false, err
}

// rewind forgets what was applied and not committed.
func (n *round) rewind(r *Run) {
	r.update(func(rep *Report) { rep.BytesDone -= n.bytes; rep.LeavesDone -= n.leaves })
	n.cursor, n.bytes, n.leaves = chain.Cursor{}, 0, 0
	n.share(r)
}

// share begins to remember what is copied of blocks with several places.
func (n *round) share(r *Run) {
	if n.shared = nil; !r.unshared {
		n.shared = chain.NewSharedPlaces()
	}
}

// apply compares up to one batch and applies it to label. done: there is no
// more.
func (r *Run) apply(ctx context.Context, txn *chain.Txn, label string) (done bool, err error) {
	n := r.round
	b := &chain.Batch{T: n.src.Position.T, Discard: true}
	// A source that hangs is left for another one.
	patient := chain.Patient(ctx, r.o.Deadline, nil)
	next, done, stats, err := chain.Diff(patient, n.src.View, n.old, n.common, n.cursor,
		chain.DiffLimits{Changes: r.o.BatchChanges, Bytes: r.o.BatchBytes, Shared: n.shared},
		func(c chain.Change) error { b.Changes = append(b.Changes, c); return nil },
		func(t chain.Touch) error { b.Touch = append(b.Touch, t); return nil })
	if err != nil {
		return false, r.blame(err)
	}
	b.Sort()
	if err := txn.Apply(ctx, label, b); err != nil {
		// Blocks that are not where they were put: the next try relies on none.
		r.unshared = r.unshared || errors.Is(err, chain.ErrBadBatch)
		return false, err
	}
	if n.shared != nil {
		n.shared.Applied()
	}
	n.cursor = next
	n.bytes += stats.Bytes
	n.leaves += int64(stats.Changes)
	r.update(func(rep *Report) {
		rep.BytesDone += stats.Bytes
		rep.LeavesDone += int64(stats.Changes)
		rep.Compared += int64(stats.Leaves)
		rep.Path = place(next)
		rep.progress(next.Inum, n.top, n.bytes, n.leaves, r.now().Sub(n.began))
	})
	return done, nil
}

// blame names the node whose block could not be read.
func (r *Run) blame(err error) error {
	var d *chain.DiffError
	if errors.As(err, &d) && !d.Target {
		return fmt.Errorf("source %s: %w", r.round.src.Name, d.Err)
	}
	return err
}

// place says in words where a cursor is.
func place(c chain.Cursor) string {
	switch {
	case c == chain.Cursor{}:
		return ""
	case c.Kind == chain.KindData:
		return fmt.Sprintf("inode %d, byte %d", c.Inum, c.Key)
	}
	return fmt.Sprintf("inode %d", c.Inum)
}
