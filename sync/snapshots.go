package resync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A snapshotCopy makes the snapshots beside one node's PFS those of the list
// in it. The node is in sync and takes part meanwhile: what it does for the
// protocol is done between the commits of the copy.
type snapshotCopy struct {
	peers  Peers
	o      Options
	target cluster.SnapshotTarget
	state  cluster.SnapshotState
	infos  []chain.PFSInfo // of the target
	rep    Report

	renew   bool // what is there of the snapshot cannot be read
	bare    bool // nothing of the target is built upon
	damaged bool // a root on the target cannot be read
}

// copyPrefix begins the label that a copy has until it is complete.
const copyPrefix = ".anvilfs-snapcopy-"

func copyLabel(fsid ondisk.UUID) string { return copyPrefix + fsid.String()[:8] }

// run deletes what is not in the list any more and copies what is missing,
// the newest first, so that each finds the next newer one to share blocks
// with. One that no other node at hand has is left for later: the error says
// of one, and of how many, when all else is done.
func (s *snapshotCopy) run(ctx context.Context) error {
	missing, err := s.plan(ctx)
	if err != nil {
		return err
	}
	var first error
	failed := 0
	for i := range missing {
		e := &missing[i]
		err := s.copyRoom(ctx, e)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case left(err):
			return err
		case err == nil:
			continue
		}
		if failed++; first == nil {
			first = fmt.Errorf("snapshot %q: %w", e.Name, err)
		}
	}
	if failed > 1 {
		first = fmt.Errorf("%w; and %d more", first, failed-1)
	}
	switch {
	case errors.Is(first, chain.ErrNoSpace): // whoever writes needs what it took
		first = errors.Join(first, s.reclaim(ctx))
	case first != nil:
		first = errors.Join(first, s.dropCopy(ctx))
	}
	return first
}

// left reports whether err is that the node was closed meanwhile.
func left(err error) bool { return errors.Is(err, chain.ErrClosed) || errors.Is(err, os.ErrClosed) }

// plan compares list and volume, and deletes what is too much.
func (s *snapshotCopy) plan(ctx context.Context) (missing []cluster.SnapshotEntry, err error) {
	t := &s.target
	if err := s.inTxn(ctx, func(txn *chain.Txn) error { return s.deleteExtra(ctx, txn) }); err != nil {
		return nil, err
	}
	if err := s.list(ctx); err != nil {
		return nil, err
	}
	for i := range slices.Backward(s.state.Entries) {
		if e := &s.state.Entries[i]; e.On(s.infos, t.Fsid) == nil {
			missing = append(missing, *e)
		}
	}
	return missing, nil
}

var errNothing = errors.New("nothing to commit")

// inTxn runs fn in a transaction and commits it, unless fn has nothing to
// commit. It does not use the reserve: a snapshot is worth less than a writer.
func (s *snapshotCopy) inTxn(ctx context.Context, fn func(txn *chain.Txn) error) error {
	txn, err := s.target.Volume.Begin(ctx)
	if err != nil {
		return err
	}
	if err := fn(txn); err != nil {
		txn.Abort()
		if err == errNothing {
			err = nil
		}
		return err
	}
	return txn.Commit(ctx)
}

// deleteExtra reads the list inside the transaction: no txg comes between the
// look and the deletion.
func (s *snapshotCopy) deleteExtra(ctx context.Context, txn *chain.Txn) error {
	t := &s.target
	v, err := txn.View(ctx, t.Label)
	if err != nil {
		return err
	}
	if s.state, err = cluster.ReadSnapshotState(ctx, v); err != nil {
		return err
	}
	return deleteUnlisted(ctx, txn, t.Volume, t.Fsid, s.state.SnapshotTable)
}

// deleteUnlisted deletes the snapshots of a node that are not in the list, and
// a copy of one that was cut off.
func deleteUnlisted(ctx context.Context, txn *chain.Txn, v *chain.Volume, node ondisk.UUID, list *cluster.SnapshotTable) error {
	infos, err := v.PFSs(ctx) // what this transaction sees: it has the turn
	if err != nil && len(infos) == 0 {
		return err
	}
	extra := 0
	for i := range infos {
		p := &infos[i]
		if p.Label != copyLabel(node) && (!p.SnapshotOf(node) || list.Has(p.Label, p.Clid)) {
			continue
		}
		if err := txn.DeletePFS(ctx, p.Label); err != nil {
			return err
		}
		extra++
	}
	if extra == 0 {
		return errNothing
	}
	txn.UseReserve() // it gives space back
	return nil
}

// dropUnlisted deletes what the target has beside the list of the state that is
// copied to it.
func (r *Run) dropUnlisted(ctx context.Context) error {
	if r.round == nil {
		return nil
	}
	list, err := cluster.ReadSnapshotTable(ctx, r.round.src.View)
	if err != nil {
		return err
	}
	err = r.inTxn(ctx, func(txn *chain.Txn) error {
		return deleteUnlisted(ctx, txn, r.target.Volume, r.entry.Fsid, list)
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// base is the label of what a copy of e starts as: the next newer snapshot
// that is there, or the PFS itself.
func (s *snapshotCopy) base(e *cluster.SnapshotEntry) string {
	i := slices.IndexFunc(s.state.Entries, func(o cluster.SnapshotEntry) bool { return o.Clid == e.Clid })
	for i++; i < len(s.state.Entries); i++ {
		if newer := &s.state.Entries[i]; newer.On(s.infos, s.target.Fsid) != nil {
			return newer.Name
		}
	}
	return s.target.Label
}

// copyRoom is copy, again with what can be freed if there was no room.
func (s *snapshotCopy) copyRoom(ctx context.Context, e *cluster.SnapshotEntry) error {
	err := s.copy(ctx, e)
	if !errors.Is(err, chain.ErrNoSpace) {
		return err
	}
	if err := s.reclaim(ctx); err != nil {
		return err
	}
	return s.copy(ctx, e)
}

// copy makes one snapshot of what another node has. One that cannot be read
// there may be whole elsewhere.
func (s *snapshotCopy) copy(ctx context.Context, e *cluster.SnapshotEntry) error {
	var tried error
	for not := []string{s.target.Name}; ; {
		src, from, err := s.peers.SnapshotSource(ctx, e, not...)
		if err != nil && tried != nil {
			return tried
		}
		if err != nil {
			return err
		}
		err = s.copyFrom(ctx, e, src, from)
		src.Release()
		if err == nil || ctx.Err() != nil || errors.Is(err, chain.ErrNoSpace) {
			return err
		}
		tried = errors.Join(tried, fmt.Errorf("from %s: %w", from, err))
		not = append(not, from)
	}
}

// copyFrom does so in as many commits as it takes, under a label of its own that
// the last of them gives up.
func (s *snapshotCopy) copyFrom(ctx context.Context, e *cluster.SnapshotEntry, src *chain.View, from string) error {
	t := &s.target
	s.rep.Source, s.rep.Path = from, e.Name
	temp := copyLabel(t.Fsid)
	if err := s.mayDrop(ctx, e); err != nil {
		return err
	}
	if err := s.dropCopy(ctx); err != nil {
		return err
	}
	err := s.inTxn(ctx, func(txn *chain.Txn) error {
		if s.bare {
			return txn.CreatePFS(ctx, chain.PFSSpec{Label: temp, T: src.T()})
		}
		return txn.Snapshot(ctx, s.base(e), temp, chain.SnapSpec{Shadow: true})
	})
	if err != nil {
		return err
	}
	old, err := t.Volume.View(ctx, temp)
	if err != nil {
		return err
	}
	defer old.Release()
	var cursor chain.Cursor
	shared := chain.NewSharedPlaces()
	common := s.state.Common(e)
	if s.renew {
		common = 0 // what the neighbours share with it may be what is damaged
	}
	for done := false; !done; {
		if cursor, done, err = s.step(ctx, src, old, common, cursor, shared); err != nil {
			return err
		}
		s.peers.SetResyncReport(t.Name, s.rep)
	}
	if err := s.inTxn(ctx, func(txn *chain.Txn) error { return s.finish(ctx, txn, e) }); err != nil {
		return err
	}
	return s.list(ctx)
}

// step copies one batch of differences.
func (s *snapshotCopy) step(ctx context.Context, src, old *chain.View, common ondisk.Tid, from chain.Cursor, shared *chain.SharedPlaces) (next chain.Cursor, done bool, err error) {
	b := &chain.Batch{T: max(old.T(), src.T()), Discard: true}
	next, done, stats, err := chain.Diff(ctx, src, old, common, from,
		chain.DiffLimits{Changes: s.o.BatchChanges, Bytes: s.o.BatchBytes, Shared: shared},
		func(c chain.Change) error { b.Changes = append(b.Changes, c); return nil },
		func(t chain.Touch) error { b.Touch = append(b.Touch, t); return nil })
	if err != nil {
		return next, false, err
	}
	b.Sort()
	err = s.inTxn(ctx, func(txn *chain.Txn) error {
		s.leaveRoom(txn)
		return txn.Apply(ctx, copyLabel(s.target.Fsid), b)
	})
	if err == nil {
		shared.Applied()
		s.peers.SpaceTaken()
	}
	s.rep.BytesDone += stats.Bytes
	s.rep.LeavesDone += int64(stats.Changes)
	s.rep.Compared += int64(stats.Leaves)
	return next, done, err
}

// leaveRoom keeps a copy from taking what writers were admitted with: a node that
// cannot hold that does not follow any more, and nobody asked for the snapshot. While
// somebody writes it leaves as much as it takes itself, too: who is admitted meanwhile
// does not know of that yet.
func (s *snapshotCopy) leaveRoom(txn *chain.Txn) {
	room := s.peers.Admitted()
	if room > 0 {
		room += uint64(s.o.BatchBytes)
	}
	txn.Leave(s.target.Volume.Space().Reserved+room, func() bool { return true })
}

// finish gives the copy its label, if the list still wants it.
func (s *snapshotCopy) finish(ctx context.Context, txn *chain.Txn, e *cluster.SnapshotEntry) error {
	t := &s.target
	txn.UseReserve()
	v, err := txn.View(ctx, t.Label)
	if err != nil {
		return err
	}
	now, err := cluster.ReadSnapshotTable(ctx, v)
	if err != nil {
		return err
	}
	temp := copyLabel(t.Fsid)
	if now.Has(e.Name, e.Clid) {
		spec := chain.SnapSpec{Subtype: ondisk.PFSSubSnapshot, Clid: e.Clid, Fsid: chain.SnapshotFsid(e.Clid, t.Fsid)}
		if e.Auto {
			spec.Subtype = ondisk.PFSSubAutoSnapshot
		}
		if err := s.dropOld(ctx, txn, e); err != nil {
			return err
		}
		if err := txn.Snapshot(ctx, temp, e.Name, spec); err != nil {
			return err
		}
	}
	return txn.DeletePFS(ctx, temp)
}

// dropCopy removes an unfinished copy, if there is one.
func (s *snapshotCopy) dropCopy(ctx context.Context) error {
	return s.inTxn(ctx, func(txn *chain.Txn) error {
		txn.UseReserve()
		err := txn.DeletePFS(ctx, copyLabel(s.target.Fsid))
		if errors.Is(err, chain.ErrNoPFS) {
			return errNothing
		}
		return err
	})
}

// reclaim looks for unused space when there was too little.
func (s *snapshotCopy) reclaim(ctx context.Context) error {
	if err := s.dropCopy(ctx); err != nil {
		return err
	}
	if err := s.target.Volume.DrainFrees(ctx); err != nil {
		return err
	}
	_, err := s.target.Volume.Bulkfree(ctx, chain.BulkfreeOptions{})
	return err
}

// CopySnapshots brings one node's snapshots up to the list, once. The report is
// of what was copied; its path is empty if there was nothing to copy.
func CopySnapshots(ctx context.Context, peers Peers, t cluster.SnapshotTarget, o Options) (Report, error) {
	o.setDefaults()
	s := newSnapshotCopy(peers, t, o)
	err := s.run(ctx)
	return s.rep, err
}

func newSnapshotCopy(peers Peers, t cluster.SnapshotTarget, o Options) *snapshotCopy {
	return &snapshotCopy{peers: peers, o: o, target: t, rep: Report{Node: t.Name, State: Copying, Mode: ModeSnapshots,
		Round: 1, BytesLeft: -1, LeavesLeft: -1, Since: o.Now(), Began: o.Now()}}
}
