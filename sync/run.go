package resync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Bounds of a run.
const (
	maxRounds    = 8           // then the boundary is held whatever is left
	smallRound   = 2000        // changes after which the rest fits under a hold
	batchChanges = 4096        // leaf changes applied in one commit
	batchBytes   = 8 << 20     // of file data in one commit
	holdTime     = time.Second // longest that writers wait for a join
)

// Peers is the pool as a run sees it: *cluster.Pool.
type Peers interface {
	AcquireTarget(name string) (*cluster.ResyncTarget, func(), error)
	PinSource(ctx context.Context, not string) (cluster.Source, func(), error)
	Hold(ctx context.Context, limit time.Duration, fn func(cluster.Position) error) error
	Join(name string, pos cluster.Position) error
}

var errSourceMoved = errors.New("the source is not at the committed txg")

// A Run brings one node in sync. Step is called by one goroutine; Report by
// anyone.
type Run struct {
	name  string
	peers Peers
	now   func() time.Time
	log   *slog.Logger

	// Owned by the goroutine calling Step.
	target  *cluster.ResyncTarget
	release func()          // of target
	source  *cluster.Source // pinned for the round
	unpin   func()
	common  ondisk.Tid // what shadow and source share
	shadow  string     // label
	cursor  chain.Cursor
	changes int // of the round
	total   int64

	mu  sync.Mutex
	rep Report // guards rep; never held during a call on peers
}

// NewRun returns a run for the node of that name.
func NewRun(name string, peers Peers, now func() time.Time, log *slog.Logger) *Run {
	return &Run{name: name, peers: peers, now: now, log: log,
		rep: Report{Node: name, State: Idle, Since: now()}}
}

// Report returns where the run is.
func (r *Run) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rep
}

func (r *Run) update(edit func(*Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	edit(&r.rep)
}

func (r *Run) enter(s State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(moves[r.rep.State], s) {
		panic(fmt.Sprintf("resync of %s: from %s to %s", r.name, r.rep.State, s))
	}
	r.rep.State, r.rep.Since = s, r.now()
}

// Step does one unit of work - a plan, a batch, the join - and reports
// whether more remains. It starts no goroutine and never sleeps. After an
// error the state is Failed, nothing is held, and the next Step starts over.
func (r *Run) Step(ctx context.Context) (more bool, err error) {
	switch state := r.Report().State; state {
	case Idle, Failed, Done:
		r.enter(Planning)
		r.update(func(rep *Report) { *rep = Report{Node: rep.Node, State: rep.State, Since: rep.Since} })
		more = true
	case Planning:
		err = r.plan(ctx)
		more = true
	case Copying:
		err = r.copy(ctx)
		more = true
	case Joining:
		more, err = r.join(ctx)
	default:
		panic("resync: unknown state " + string(state))
	}
	if err != nil {
		r.fail(err)
		return false, err
	}
	return more, nil
}

// Stop gives back what the run holds.
func (r *Run) Stop() {
	r.dropSource()
	if r.release != nil {
		r.release()
		r.release, r.target = nil, nil
	}
}

func (r *Run) fail(err error) {
	r.Stop()
	r.enter(Failed)
	r.update(func(rep *Report) { rep.Err = err.Error() })
}

func (r *Run) dropSource() {
	if r.unpin != nil {
		r.unpin()
		r.unpin, r.source = nil, nil
	}
}

// plan takes the target, finds what it has in common with a source, and makes
// the shadow.
func (r *Run) plan(ctx context.Context) error {
	t, release, err := r.peers.AcquireTarget(r.name)
	if err != nil {
		return err
	}
	r.target, r.release = t, release
	if err := r.pin(ctx); err != nil {
		return err
	}
	r.common = cluster.CommonTid(&t.Lineage, t.Position, &r.source.Lineage, r.source.Position)
	if err := r.prepareShadow(ctx); err != nil {
		return err
	}
	r.update(func(rep *Report) { rep.Common = r.common.String() })
	r.log.Info("resync starts", "node", r.name, "source", r.source.Name, "at", t.Position.T.String(),
		"common", r.common.String(), "goal", r.source.Position.T.String())
	r.startRound()
	r.enter(Copying)
	return nil
}

// pin takes a source for a round.
func (r *Run) pin(ctx context.Context) error {
	r.dropSource()
	s, unpin, err := r.peers.PinSource(ctx, r.name)
	if err != nil {
		return err
	}
	r.source, r.unpin = &s, unpin
	return nil
}

func (r *Run) startRound() {
	r.cursor, r.changes = chain.Cursor{}, 0
	root := r.source.View.Root()
	left := int64(root.DataCount())
	r.update(func(rep *Report) {
		rep.Round++
		rep.Source, rep.Goal = r.source.Name, r.source.Position.T.String()
		if r.common != 0 {
			left = 0 // how much of it changed is not known before the walk
		}
		rep.BytesLeft = left
	})
}

// copy applies one batch of the round.
func (r *Run) copy(ctx context.Context) error {
	done, err := r.applySome(ctx, nil)
	if err != nil || !done {
		return err
	}
	r.common = r.source.Position.T
	if r.changes > smallRound && r.Report().Round < maxRounds {
		if err := r.pin(ctx); err != nil {
			return err
		}
		r.startRound()
		return nil
	}
	r.enter(Joining)
	return nil
}

// applySome applies the next batch of differences to the shadow in a commit
// of its own, and reports whether the round is complete. finish, if not nil,
// adds to the transaction of the last batch.
func (r *Run) applySome(ctx context.Context, finish func(*chain.Txn) error) (done bool, err error) {
	t, err := r.target.Volume.Begin(ctx)
	if err != nil {
		return false, err
	}
	committed := false
	defer func() {
		if !committed {
			t.Abort()
		}
	}()
	t.UseReserve()
	shadow, err := t.View(ctx, r.shadow)
	if err != nil {
		return false, fmt.Errorf("shadow of %s: %w", r.name, err)
	}
	b := &chain.Batch{T: r.source.Position.T, Discard: true}
	next, done, stats, err := chain.Diff(ctx, r.source.View, shadow, r.common, r.cursor,
		chain.DiffLimits{Changes: batchChanges, Bytes: batchBytes},
		func(c chain.Change) error { b.Changes = append(b.Changes, c); return nil },
		func(c chain.Touch) error { b.Touch = append(b.Touch, c); return nil })
	shadow.Release()
	if err != nil {
		return false, err
	}
	b.Sort()
	if err := t.Apply(ctx, r.shadow, b); err != nil {
		return false, err
	}
	if done && finish != nil {
		if err := finish(t); err != nil {
			return false, err
		}
	}
	if err := t.Commit(ctx); err != nil {
		return false, err
	}
	committed = true
	r.cursor = next
	r.changes += stats.Changes
	r.progress(stats, b)
	return done, nil
}

// progress counts a batch that is durable.
func (r *Run) progress(stats chain.DiffStats, b *chain.Batch) {
	path := ""
	if n := len(b.Changes); n > 0 {
		path = fmt.Sprintf("inode %d", b.Changes[n-1].Inum)
	}
	r.update(func(rep *Report) {
		rep.LeavesDone += int64(stats.Changes)
		rep.BytesDone += stats.Bytes
		rep.Compared += int64(stats.Leaves)
		rep.BytesLeft = max(rep.BytesLeft-stats.Bytes, 0)
		rep.Path = path
		if spent := r.now().Sub(rep.Since).Seconds(); spent > 0 {
			rep.Rate = float64(rep.BytesDone) / spent
			if rep.Rate > 0 {
				rep.ETA = float64(rep.BytesLeft) / rep.Rate
			}
		}
	})
}

// join copies what is left while no txg closes, swaps, and lets the node
// receive the next txg. If too much is left it asks for another round.
func (r *Run) join(ctx context.Context) (more bool, err error) {
	r.dropSource()
	late := false
	err = r.peers.Hold(ctx, holdTime, func(at cluster.Position) error {
		began := r.now()
		if err := r.pin(ctx); err != nil {
			return err
		}
		if r.source.Position != at {
			return fmt.Errorf("%s at %v instead of %v: %w", r.source.Name, r.source.Position.T, at.T, errSourceMoved)
		}
		r.startRound()
		for {
			done, err := r.applySome(ctx, r.swap)
			if err != nil {
				return err
			}
			if done {
				return r.peers.Join(r.name, at)
			}
			if r.now().Sub(began) > holdTime && r.Report().Round < 2*maxRounds {
				late = true
				return nil
			}
		}
	})
	switch {
	case err != nil:
		return false, err
	case late:
		r.log.Info("resync: too much changed for the join, one more round", "node", r.name)
		r.enter(Copying)
		return true, nil
	}
	rep := r.Report()
	r.log.Info("resync done", "node", r.name, "tid", rep.Goal, "changes", rep.LeavesDone, "bytes", rep.BytesDone, "rounds", rep.Round)
	r.Stop()
	r.enter(Done)
	return false, nil
}
