package crash

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
	resync "github.com/anvilfs/anvilfs/sync"
)

// patience bounds every wait of a session. Nothing takes as long.
const patience = 15 * time.Second

// A session is a filesystem in use, with the model of what it should hold.
type session struct {
	ctx   context.Context
	shape Shape
	tap   *crashtest.Tap // nil: nothing is recorded
	devs  []ondisk.Device
	rnd   *rand.Rand
	ticks atomic.Int64

	pool *cluster.Pool
	f    *fs.FS
	base string   // directory that calls are made in
	open []uint64 // files that lost their name while open

	m       *model
	moments []moment
	synced  int  // moments that were acknowledged
	ragged  bool // not all masters take part: no majority runs ahead
	skipped int
	level   []bool // devices of members in sync
	plain   bool   // there are no accounts
	noLog   bool   // of mounts from now on
	spoilt  bool   // what a member had that the others do not, and keeps, was wrong
	cloned  bool   // a clone was acknowledged
	closing string // how the pool was when it was closed last
	half    *model // what the last call that failed may have done

	restored *restored // the last file that was copied out of a snapshot
	shared   int       // blocks that such files have of their snapshots
}

// A moment is a state that a cut may leave.
type moment struct {
	crashtest.Moment
	dump *dump
	m    *model
}

func newSession(ctx context.Context, shape Shape, tap *crashtest.Tap, devs []ondisk.Device, seed uint64) *session {
	if tap != nil {
		devs = tap.Devices()
	}
	return &session{ctx: ctx, shape: shape, tap: tap, devs: devs, rnd: rand.New(rand.NewPCG(seed, 5)), base: "w"}
}

// clock is one second later each time.
func (s *session) clock() time.Time { return time.Unix(1e9+s.ticks.Add(1), 5000) }

// mount opens members.
func (s *session) mount(members ...cluster.MemberSpec) error {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	o := cluster.Options{Label: label, Commit: time.Hour, OnNoQuorum: cluster.EIO, Dedup: s.shape.Dedup, NoLog: s.noLog, Logger: quiet}
	if s.shape.Cached {
		o.Memory = s.shape.Memory // else nothing is left for it to answer
	}
	p, err := cluster.OpenPool(ctx, members, o)
	if err != nil {
		return fmt.Errorf("it does not open: %w", err)
	}
	if s.f, err = s.serve(ctx, p, false); err != nil {
		return errors.Join(err, p.Close(ctx))
	}
	s.pool = p
	// Counting anew commits in the background, in the middle of a call.
	return errors.Join(s.warm(ctx), s.f.WaitQuota(ctx, ondisk.InumRoot))
}

// serve is a filesystem on a pool.
func (s *session) serve(ctx context.Context, p *cluster.Pool, readOnly bool) (*fs.FS, error) {
	return fs.New(ctx, fs.OnPool(p), readOnly, fs.Options{NoAtime: true, Now: s.clock, Logger: slog.New(slog.DiscardHandler)})
}

// start mounts the masters of a new cluster.
func (s *session) start() error {
	specs := s.shape.specs(s.devs)
	if err := s.mount(append(specs[:s.shape.Masters:s.shape.Masters], specs[len(specs)-s.shape.caches():]...)...); err != nil {
		return err
	}
	s.settle()
	s.events() // in the order in which it was: members wait for each other's promises
	return s.first(newModel())
}

// first takes what is there as the first moment.
func (s *session) first(m *model) error {
	d, err := s.dump()
	if err != nil {
		return err
	}
	if diff := differ(m.lines(), d.short); diff != "" {
		return fmt.Errorf("not what it should be: %s", diff)
	}
	s.m, s.synced = m, 1
	s.moments = []moment{{crashtest.Moment{What: "nothing", Digest: d.digest()}, d, m}}
	return nil
}

// close unmounts, which commits what is open.
func (s *session) close() error {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if s.pool == nil {
		return nil
	}
	s.closing = s.describe()
	stuck := make(chan string, 1)
	watch := time.AfterFunc(patience/2, func() { stuck <- s.stuck() })
	var err error
	if s.f != nil {
		err = s.f.Close(ctx)
	}
	if err != nil {
		err = fmt.Errorf("closing the filesystem: %w", err)
	}
	if perr := s.pool.Close(ctx); perr != nil {
		err = errors.Join(err, fmt.Errorf("closing the pool: %w", perr))
	}
	if !watch.Stop() && err != nil {
		err = fmt.Errorf("%w; when it should long have been closed: %s", err, <-stuck)
	}
	s.pool, s.open = nil, nil
	if err == nil {
		s.acknowledge(s.events())
	}
	return err
}

func (s *session) events() int {
	if s.tap == nil {
		return 0
	}
	return s.tap.Events()
}

// call makes a call and notes the state that it leaves.
func (s *session) call(c call) error {
	now := moment{Moment: crashtest.Moment{What: c.name, Begun: s.events(), Acked: math.MaxInt}}
	m := s.m.clone()
	err := c.do(s, m)
	if err == errSkip {
		s.skipped++
		return nil
	}
	if err == nil {
		now.dump, err = s.dump()
	}
	if err != nil {
		s.half = m
		return fmt.Errorf("%s: %w", c.name, err)
	}
	if diff := differ(m.lines(), now.dump.short); diff != "" {
		return fmt.Errorf("%s is not what it should be: %s", c.name, diff)
	}
	now.Digest = now.dump.digest()
	now.m = m
	s.m, s.moments = m, append(s.moments, now)
	return nil
}

// sync makes all calls so far durable.
func (s *session) sync() error {
	before := s.events()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if err := s.pool.Sync(ctx); err != nil {
		return fmt.Errorf("sync: %w; %s", err, s.describe())
	}
	s.settle()
	switch {
	case s.tap == nil:
		s.acknowledge(0)
	case s.ragged:
		s.acknowledge(s.tap.Events())
	default:
		s.acknowledge(max(before, s.tap.Agree(s.shape.need())))
	}
	return nil
}

func (s *session) acknowledge(events int) {
	for ; s.synced < len(s.moments); s.synced++ {
		s.moments[s.synced].Acked = events
	}
}

// settle waits until all nodes that take part have what is committed.
func (s *session) settle() {
	for end := time.Now().Add(patience); s.shape.Masters > 1 && time.Now().Before(end); {
		st, even := s.pool.Status(), true
		for _, n := range st.Nodes {
			even = even && (n.T == st.Committed || n.State != cluster.NodeInSync && n.State != cluster.NodeBehind)
		}
		if even {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// mend brings all nodes that can be reached in sync, and gives them the
// snapshots that they lack.
func (s *session) mend() error {
	if err := s.mendNodes(); err != nil {
		return err
	}
	return s.copySnapshots()
}

func (s *session) mendNodes() error {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	last := ""
	for ctx.Err() == nil {
		changed := s.pool.Changed()
		names := s.pool.ResyncWanted()
		for _, n := range s.pool.Status().Nodes {
			if n.State == cluster.NodeForeign {
				if err := s.pool.NodeDiscard(ctx, n.Name); err != nil {
					return err
				}
			}
		}
		for _, name := range names {
			r := resync.NewRun(s.pool, name, resync.Options{DirectBytes: 1, DirectChanges: 1, StepBytes: 100_000})
			for r.Step(ctx) {
			}
			if r.Close(); r.Report().State != resync.Done {
				last = r.Report().String() // as when its last run has not quite ended
			}
		}
		// Of a node that is being replaced, one of the two is none.
		st := s.pool.Status()
		if st.Health == cluster.PoolHealthy || s.shape.Spares > 0 && len(names) == 0 && resynced(&st) {
			s.settle()
			return nil
		}
		select {
		case <-changed:
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("not in sync; last resync that failed: %q; %s", last, s.describe())
}

// describe tells how the pool is.
func (s *session) describe() string {
	st := s.pool.Status()
	text := fmt.Sprintf("%s, committed %s, quorum %+v, last error %q", st.Health, st.Committed, st.Quorum, st.CommitError)
	for _, n := range st.Nodes {
		text += fmt.Sprintf("; %s %s %s at %s: %s", n.Name, n.Role, n.State, n.T, n.Error)
	}
	return text
}

// stuck says what everybody waits for.
func (s *session) stuck() string {
	stacks := make([]byte, 1<<20)
	return string(stacks[:runtime.Stack(stacks, true)])
}

func resynced(st *cluster.Status) bool {
	return !slices.ContainsFunc(st.Nodes, func(n cluster.NodeStatus) bool {
		return n.State == cluster.NodeResync || n.State == cluster.NodeBehind
	})
}

// forget closes the files that lost their names.
func (s *session) forget() {
	for _, inum := range s.open {
		s.f.Forget(inum, 1)
	}
	s.open = nil
}
