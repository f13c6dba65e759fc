package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// startLog finds the ring and brings what is in it into the tree, before
// anybody is answered.
func (v *Volume) startLog(ctx context.Context) error {
	l := &v.ilog
	l.beg, l.end = LogArea(v.hdr)
	l.at = int64(v.hdr.Mark.Log)
	if l.at < l.beg || l.at > l.end || l.at%pageLen != 0 {
		l.at = l.beg
	}
	if l.beg == l.end {
		return nil
	}
	found, err := v.findLog(ctx)
	if err != nil && !unusable(err) && (v.Probe() != nil || ctx.Err() != nil) {
		return err // not a record that cannot be read: the device is gone
	}
	if v.foreign {
		return v.overrule(ctx, len(found), err)
	}
	l.pending = found
	l.count.Store(int32(len(found)))
	if l.good = len(found); err == nil && len(found) > 0 {
		err = v.replay(ctx)
	}
	switch {
	case err == nil && len(found) == 0:
		return nil
	case err == nil:
		v.log.Info("intent log replayed", "device", v.Name(), "txgs", len(found), "at", found[len(found)-1].Pos.T.String())
		return nil
	case v.Failed() != nil || !unusable(err) && v.Probe() != nil || errors.Is(err, ErrNoSpace) || ctx.Err() != nil:
		return fmt.Errorf("replaying the intent log: %w", err)
	}
	return v.giveUpLog(ctx, err)
}

// overrule drops a log over which another system changed the volume: its
// changes win. That is no loss that anybody could mend if the volume is the
// only copy; a member of a cluster has lost what it acknowledged.
func (v *Volume) overrule(ctx context.Context, txgs int, err error) error {
	if txgs == 0 && err == nil {
		return nil
	}
	v.log.Warn("changed by another system after a crash: what was in the intent log is dropped", "device", v.Name(), "txgs", txgs)
	return v.dropLog(ctx)
}

// GiveUpLog drops what is in the log and cannot be applied. The state entries
// of the PFSs say so, in the same header, until they are copied anew.
// ErrLogStuck: it would be lost, since a PFS has no other copy.
func (v *Volume) GiveUpLog(ctx context.Context) error {
	copied, err := v.copied(ctx)
	if err != nil {
		return err
	}
	select {
	case <-v.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	alone := v.ilog.alone(0, copied)
	v.turn <- struct{}{}
	if alone {
		return fmt.Errorf("%s: %w", v.Name(), ErrLogStuck)
	}
	return v.dropLog(ctx)
}

// copied tells which PFSs have other copies than the one on this volume.
func (v *Volume) copied(ctx context.Context) (map[ondisk.UUID]bool, error) {
	infos, err := v.PFSs(ctx)
	if err != nil && (!errors.Is(err, ondisk.ErrCorrupt) || len(infos) == 0) {
		return nil, err
	}
	copied := make(map[ondisk.UUID]bool)
	for i := range infos {
		p := &infos[i]
		if _, clustered := v.State(p.Fsid); !clustered || p.Subtype != ondisk.PFSSubNone {
			continue
		}
		if v.opts.Copied != nil && v.opts.Copied(ctx, v, p) {
			copied[p.Fsid] = true
		}
	}
	return copied, nil
}

// alone reports whether the log holds, from number from on, what nobody else
// has. Of what cannot be read it is not known whose it was.
func (l *intentLog) alone(from int, copied map[ondisk.UUID]bool) bool {
	for _, x := range l.pending[from:] {
		if x.Entry == nil || !copied[x.Fsid] {
			return true
		}
	}
	return len(copied) == 0
}

// giveUpLog is for a log that was found at open and cannot be replayed: the
// tree below is damaged, or a record is. The others have what was in it. Of a
// single copy nothing is given up unasked; if asked, the txgs before are kept.
func (v *Volume) giveUpLog(ctx context.Context, why error) error {
	l := &v.ilog
	copied, err := v.copied(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLogStuck, err)
	}
	good := min(l.good, len(l.pending))
	alone := l.alone(good, copied)
	if alone && !v.opts.DropLog {
		return fmt.Errorf("%w: %w: anvilfs fsck --repair drops what cannot be applied", ErrLogStuck, why)
	}
	v.log.Error("intent log given up", "device", v.Name(), "txgs", len(l.pending)-good, "err", why)
	v.gaveUp = why
	if !alone {
		v.taint = errors.Join(v.taint, fmt.Errorf("the intent log was given up: %w", why))
		return v.dropLog(ctx)
	}
	l.pending = l.pending[:good]
	l.count.Store(int32(good))
	if good > 0 {
		return v.replay(ctx)
	}
	return v.dropLog(ctx)
}

// dropLog commits a header behind which the log is empty, with nothing of it
// applied, and which says of PFSs with other copies that they lost txgs.
func (v *Volume) dropLog(ctx context.Context) error {
	copied, err := v.copied(ctx)
	if err != nil {
		return err
	}
	t, err := v.begin(ctx)
	if err != nil {
		return err
	}
	for i := range t.states {
		if copied[t.states[i].Fsid] {
			t.states[i].Flags |= ondisk.StateLost
		}
	}
	t.logged = len(v.ilog.pending)
	return t.Commit(ctx)
}

// unusable reports whether an error says that what was read is wrong, not that
// it could not be read.
func unusable(err error) bool {
	return errors.Is(err, ondisk.ErrCorrupt) || errors.Is(err, ErrBadBatch) || errors.Is(err, ErrNoPFS) || errors.Is(err, ErrNoInode)
}

// replay commits what is pending, if need be after looking for space: what was
// dropped before the crash is known to nobody else.
func (v *Volume) replay(ctx context.Context) error {
	err := v.Checkpoint(ctx)
	if !errors.Is(err, ErrNoSpace) {
		return err
	}
	if _, err := v.Bulkfree(ctx, BulkfreeOptions{}); err != nil {
		return err
	}
	return v.Checkpoint(ctx)
}
