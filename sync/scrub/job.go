package scrub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Peers is the pool as a scrub sees it: *cluster.Pool, or a double.
type Peers interface {
	ScrubNodes() []cluster.ScrubNode
	PinAll(ctx context.Context) (nodes []cluster.Pinned, release func(), err error)
	Repair(ctx context.Context, d cluster.Damage) error
	Gone(node string) error
	Overwrite(ctx context.Context, node, from string, c chain.Change, still func(*chain.View) (bool, error)) error
	SnapshotNames(ctx context.Context) ([]cluster.SnapshotName, error)
	PinSnapshot(ctx context.Context, name string) (nodes []cluster.Pinned, release func(), err error)
	OverwriteSnapshot(ctx context.Context, node, from, name string, c chain.Change, still func(*chain.View) (bool, error)) error
	PathOfDamage(ctx context.Context, d *cluster.Damage) string
	Status() cluster.Status
}

var _ Peers = (*cluster.Pool)(nil)

// A State is what a scrub needs to go on after a restart.
type State struct {
	Report Report            `json:"report"`
	Lanes  map[string]*Place `json:"lanes"`          // nil: none is under way
	Since  time.Time         `json:"since,omitzero"` // of the schedule
}

// Options of a manager and its jobs. Zero values are the defaults.
type Options struct {
	Logger *slog.Logger
	Every  time.Duration // start a scrub so long after the last; 0 = only when asked
	// Found is told of everything bad, and why it could not be repaired, or nil.
	Found func(d cluster.Damage, path string, err error)
	// Overwrote is told when a copy was overwritten that could be read and was
	// wrong: what was read of it before is wrong, too.
	Overwrote func(Overwritten)
	// Compared is told when all copies were verified and compared by a scrub
	// that began then: what differed before and was not found again is equal.
	Compared func(began time.Time)
	// Save keeps the state for Load, which returns nil if there is none.
	Save func(*State) error
	Load func() *State

	patience time.Duration // with a node that is not in sync
	pause    time.Duration // between looks at it
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Found == nil {
		o.Found = func(cluster.Damage, string, error) {}
	}
	if o.Overwrote == nil {
		o.Overwrote = func(Overwritten) {}
	}
	if o.Compared == nil {
		o.Compared = func(time.Time) {}
	}
	if o.Save == nil {
		o.Save = func(*State) error { return nil }
	}
	if o.Load == nil {
		o.Load = func() *State { return nil }
	}
	if o.patience == 0 {
		o.patience = time.Minute
	}
	if o.pause == 0 {
		o.pause = 500 * time.Millisecond
	}
}

// saveEvery is how much work a crash may cost.
const saveEvery = 10 * time.Second

// A job is one scrub.
type job struct {
	peers Peers
	o     *Options
	calm  int64 // latency of reads at the start, in us
	since time.Time
	wake  chan struct{}

	ctx    context.Context // ends with the job
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed once its report is the manager's last

	mu     sync.Mutex // guards all below
	rep    Report
	lanes  map[string]*Place
	paused bool
	saved  time.Time
}

// newJob begins a scrub, or goes on with one that was interrupted: old has lanes.
func newJob(peers Peers, o *Options, old *State, tranquility int) *job {
	j := &job{peers: peers, o: o, wake: make(chan struct{}), ended: make(chan struct{}), lanes: make(map[string]*Place)}
	j.calm, j.since = latency(peers), old.Since
	j.ctx, j.cancel = context.WithCancelCause(context.Background())
	if old.Lanes != nil {
		j.rep, j.lanes = old.Report, old.Lanes
		j.paused = old.Report.Phase == Paused
		for name, p := range j.lanes {
			j.called(name, p)
		}
	} else {
		j.rep = Report{Began: time.Now(), Tranquility: tranquility}
		for _, n := range peers.Status().Nodes {
			switch n.State {
			case cluster.NodeInSync, cluster.NodeBehind, cluster.NodeResync:
				j.lanes[n.Name] = &Place{Node: n.Fsid, Report: LaneReport{Node: n.Name, ID: n.Fsid}}
			default:
				if n.Role != ondisk.PFSNone.String() && !n.Soft() {
					j.rep.Absent = append(j.rep.Absent, Absence{n.Name, n.Fsid, n.State})
				}
			}
		}
	}
	j.rep.Phase = Verifying
	if j.paused {
		j.rep.Phase = Paused
	}
	return j
}

// run scrubs until it is done or ctx ends.
func (j *job) run(ctx context.Context) error {
	var wg sync.WaitGroup
	j.mu.Lock()
	for name, p := range j.lanes {
		if !p.Done && p.Report.Err == "" {
			wg.Go(func() { j.lane(ctx, name, p) })
		}
	}
	j.mu.Unlock()
	wg.Wait()
	if err := j.await(ctx); err != nil {
		return err
	}
	j.phase(Comparing)
	if err := (&comparison{j: j}).run(ctx); err != nil {
		return err
	}
	if err := j.compareSnapshots(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

// await returns when the job is not paused.
func (j *job) await(ctx context.Context) error {
	for {
		j.mu.Lock()
		paused, wake := j.paused, j.wake
		j.mu.Unlock()
		if !paused {
			return ctx.Err()
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (j *job) pause(on bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.paused = on
	switch {
	case on:
		j.rep.Phase = Paused
	case j.verified():
		j.rep.Phase = Comparing
	default:
		j.rep.Phase = Verifying
	}
	close(j.wake)
	j.wake = make(chan struct{})
}

// verified reports whether all lanes have ended. The caller holds mu.
func (j *job) verified() bool {
	for _, p := range j.lanes {
		if !p.Done && p.Report.Err == "" {
			return false
		}
	}
	return true
}

func (j *job) phase(p Phase) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rep.Phase = p
}

// repair has what a step found repaired.
func (j *job) repair(ctx context.Context, place *Place, bad []finding) {
	patience := j.o.patience
	for _, f := range bad {
		err := j.peers.Repair(ctx, f.Damage)
		for patience > 0 && errors.Is(err, cluster.ErrNotInSync) && ctx.Err() == nil {
			// It is copied as a whole, after a finding before this one perhaps.
			patience -= j.o.pause
			wait(ctx, j.o.pause)
			err = j.peers.Repair(ctx, f.Damage)
		}
		if err != nil && ctx.Err() != nil {
			return
		}
		repaired, lost := j.settle(place, f.off, err == nil)
		j.found(ctx, f.Damage, "cannot be read right", err, repaired, lost)
	}
}

// settle counts a bad place of a lane that was not known, and notes what became of it.
func (j *job) settle(place *Place, off uint64, ok bool) (repaired, unrepaired int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if place.Bad == nil {
		place.Bad = make(damaged)
	}
	if place.Bad.add(off) {
		place.Report.Bad++
	}
	return place.Bad.settle(off, ok)
}

// found counts something bad and what became of it.
func (j *job) found(ctx context.Context, d cluster.Damage, what string, err error, repaired, lost int64) {
	path := j.peers.PathOfDamage(ctx, &d)
	j.o.Found(d, path, err)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rep.Repaired += repaired
	j.rep.Unrepaired += lost
	told := lost == 0 && d.Kind == ondisk.TypeData // a table ends each snapshot that has it
	if err != nil && !told && len(j.rep.Lost) < maxLost {
		j.rep.Lost = append(j.rep.Lost, Loss{d.Node, path, fmt.Sprintf("%s: %v", what, err)})
	}
}

func (j *job) tranquility() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rep.Tranquility
}

// setTranquility changes the pace from the next rest on. What was rested so far
// says nothing of that.
func (j *job) setTranquility(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rep.Tranquility = n
	for _, p := range j.lanes {
		p.Rested = 0
	}
}

// busy reports whether reads take much longer than when the scrub began.
func (j *job) busy() bool {
	now := latency(j.peers)
	return now > 2000 && now > 2*j.calm
}

// latency is the largest smoothed time of a read on a node, in us.
func latency(peers Peers) (worst int64) {
	st := peers.Status()
	for i := range st.Nodes {
		worst = max(worst, st.Nodes[i].LatencyUs)
	}
	return worst
}

func (j *job) save() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.saveLocked()
}

func (j *job) saveLocked() {
	s := &State{Report: j.reportLocked(), Since: j.since, Lanes: make(map[string]*Place, len(j.lanes))}
	for name, p := range j.lanes {
		c := *p
		c.Bad = maps.Clone(p.Bad)
		s.Lanes[name] = &c
	}
	if err := j.o.Save(s); err != nil {
		j.o.Logger.Warn("the scrub's place was not kept", "err", err)
	}
}

// wait sleeps, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
