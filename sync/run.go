package resync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Peers are the other nodes as a run sees them: *cluster.Pool, or a double.
type Peers interface {
	Changed() <-chan struct{}
	ResyncWanted() []string
	AcquireTarget(name string) (*cluster.ResyncTarget, func(), error)
	PinSource(ctx context.Context, not string) (cluster.Source, func(), error)
	Hold(ctx context.Context, limit time.Duration, fn func(cluster.Position) error) error
	Join(t *cluster.ResyncTarget, pos cluster.Position) error
	Retained(after cluster.Position) ([]*chain.Batch, bool)
	SetResyncReport(name string, report any)
	Admitted() uint64
	SpaceTaken()
	SnapshotTargets(ctx context.Context) []cluster.SnapshotTarget
	SnapshotSource(ctx context.Context, e *cluster.SnapshotEntry, not ...string) (v *chain.View, from string, err error)
}

var _ Peers = (*cluster.Pool)(nil)

// ErrNoRoom: the changes do not fit beside the old state of the node. Free
// space on it, or replace it by a larger one. It is not changed in place: a
// copy that stopped half way would have destroyed what a quorum may need.
var ErrNoRoom = errors.New("no room for the new state beside the old one")

const (
	maxRounds = 8
	deadline  = 30 * time.Second
	holdLimit = time.Second // writers wait no longer for a node to join

	// One call of Diff: what is in memory at once.
	batchChanges = 4096
	batchBytes   = 8 << 20
	// One commit of a shadow.
	stepChanges = 20_000
	stepBytes   = 32 << 20
	// What is applied to the PFS itself in one commit, at most.
	directChanges = 100_000
	directBytes   = 64 << 20
)

// Options of a run. Zero values are the defaults.
type Options struct {
	Logger *slog.Logger
	Now    func() time.Time

	DirectBytes   int64 // larger differences go through a shadow
	DirectChanges int
	BatchChanges  int   // what one comparison holds in memory
	StepBytes     int64 // of one commit of a shadow
	BatchBytes    int64 // read at once

	Deadline time.Duration // of one read of a device; 0 = 30 s
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.DirectBytes == 0 {
		o.DirectBytes = directBytes
	}
	if o.DirectChanges == 0 {
		o.DirectChanges = directChanges
	}
	if o.Deadline == 0 {
		o.Deadline = deadline
	}
	if o.BatchBytes == 0 {
		o.BatchBytes = batchBytes
	}
	if o.BatchChanges == 0 {
		o.BatchChanges = batchChanges
	}
	if o.StepBytes == 0 {
		o.StepBytes = stepBytes
	}
}

// A Run brings one node back in sync.
type Run struct {
	peers Peers
	name  string
	o     Options
	now   func() time.Time

	// Owned by the goroutine that calls Step.
	target    *cluster.ResyncTarget
	release   func() // of the target
	entry     ondisk.StateEntry
	at        cluster.Position // the state that the copy was last equal to
	lineage   cluster.Lineage  // of at
	shadow    string           // label
	hasShadow bool
	bare      bool   // its old tree cannot be read: the copy was begun anew in an empty shadow
	unshared  bool   // blocks with several places at the source are copied for each
	keep      string // label for the tail that is to be dropped; "" = there is none, or it is kept
	reclaimed bool   // unused space was looked for
	whole     bool   // there is no room for a shadow: all goes into one commit
	round     *round // under way, or nil

	mu  sync.Mutex // guards rep; never held during a call
	rep Report
}

// NewRun returns a run for the node of that name, at rest.
func NewRun(peers Peers, name string, o Options) *Run {
	o.setDefaults()
	return &Run{
		peers: peers, name: name, o: o, now: o.Now,
		rep: Report{Node: name, State: Idle, Since: o.Now(), Began: o.Now(), BytesLeft: -1, LeavesLeft: -1},
	}
}

// Step does one unit of work and says whether more remains. It starts no
// goroutine and does not wait, but for the devices, a source, and the end of
// a commit of the primary. After Failed, the next Step begins again.
func (r *Run) Step(ctx context.Context) (more bool) {
	var err error
	switch r.Report().State {
	case Idle, Failed:
		r.enter(Planning)
		return true
	case Planning:
		if err = r.plan(ctx); err == nil {
			r.enter(Copying)
		}
	case Copying:
		var equal bool
		if equal, err = r.copy(ctx); err == nil && equal {
			r.enter(Joining)
		}
	case Joining:
		var joined bool
		if joined, err = r.join(ctx); err == nil && joined {
			r.end()
			r.enter(Done)
			return false
		} else if err == nil {
			r.enter(Copying)
		}
	case Done:
		return false
	}
	if err != nil && !r.reclaim(ctx, err) {
		r.fail(ctx, err)
		return false
	}
	return true
}

// Close gives the node back, however far the run came.
func (r *Run) Close() { r.end() }

func (r *Run) end() {
	r.endRound()
	if r.release != nil {
		r.release()
		r.release, r.target = nil, nil
	}
}

func (r *Run) fail(ctx context.Context, err error) {
	if errors.Is(err, chain.ErrNoSpace) {
		err = fmt.Errorf("%s: %w: %w", r.name, ErrNoRoom, err)
		// It will not fit next time either, and others need the space.
		if r.target != nil && r.hasShadow {
			r.endRound()
			if derr := r.dropShadow(ctx); derr != nil {
				r.o.Logger.Warn("the unfinished copy could not be removed", "node", r.name, "err", derr)
			}
		}
	}
	r.end()
	r.enter(Failed)
	r.update(func(rep *Report) {
		rep.Err, rep.NoRoom, rep.ETA, rep.Rate = err.Error(), errors.Is(err, ErrNoRoom), 0, 0
	})
	if ctx.Err() == nil {
		r.o.Logger.Warn("resync failed", "node", r.name, "err", err)
	}
}

// reclaim looks once for unused space when there was too little, and reports
// whether it is worth going on. Snapshots that the source's state does not have
// go then: they would anyway, when the node is back.
func (r *Run) reclaim(ctx context.Context, err error) bool {
	if !errors.Is(err, chain.ErrNoSpace) || r.reclaimed || r.target == nil {
		return false
	}
	r.reclaimed = true
	if err := r.dropUnlisted(ctx); err != nil {
		r.o.Logger.Warn("snapshots that are to go could not be deleted", "node", r.name, "err", err)
	}
	v := r.target.Volume
	if err := v.DrainFrees(ctx); err != nil {
		return false
	}
	if _, err = v.Bulkfree(ctx, chain.BulkfreeOptions{}); err == nil && !r.bare && r.Report().State == Copying {
		err = r.withoutShadow(ctx)
	}
	return err == nil
}

// withoutShadow begins anew, in the PFS itself. That takes less, and no room is
// kept where the node gets emptier.
func (r *Run) withoutShadow(ctx context.Context) error {
	r.endRound()
	if r.hasShadow {
		if err := r.dropShadow(ctx); err != nil {
			return err
		}
	}
	r.at, r.lineage, r.whole = r.target.Position, r.target.Lineage, true
	return nil
}

// plan takes the node and settles what to go on with.
func (r *Run) plan(ctx context.Context) error {
	t, release, err := r.peers.AcquireTarget(r.name)
	if err != nil {
		return err
	}
	r.target, r.release, r.entry = t, release, t.Resume
	r.at, r.lineage = t.Position, t.Lineage
	r.keep, r.reclaimed, r.whole, r.hasShadow, r.bare = "", false, false, false, false
	r.update(func(rep *Report) {
		rep.Err, rep.Round, rep.BytesDone, rep.LeavesDone, rep.Kept, rep.Mode = "", 0, 0, 0, "", ""
	})
	infos, err := t.Volume.PFSs(ctx)
	if err != nil && len(infos) == 0 {
		return err
	}
	var fsid ondisk.UUID
	for i := range infos {
		if infos[i].Label == t.Label {
			fsid = infos[i].Fsid
		}
	}
	if fsid.IsZero() {
		return fmt.Errorf("%s: %q: %w", r.name, t.Label, chain.ErrNoPFS)
	}
	r.entry.Fsid = fsid
	r.shadow = ShadowLabel(fsid)
	for i := range infos {
		if infos[i].Label != r.shadow {
			continue
		}
		r.hasShadow = true
		if r.entry.ResyncGoal != 0 && r.entry.ShadowKey == infos[i].Key && infos[i].Clid == shadowID(t.Position) {
			r.o.Logger.Info("resync goes on with an unfinished copy", "node", r.name, "goal", r.entry.ResyncGoal.String())
			r.update(func(rep *Report) { rep.Mode = ModeShadow })
			return nil
		}
		return r.dropShadow(ctx)
	}
	return nil
}
