package matrix

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
	resync "github.com/anvilfs/anvilfs/sync"
)

const (
	deadline = 30 * time.Second // of a request
	quick    = 5 * time.Second  // a call that nothing stands in the way of
	patience = 20 * time.Minute // until everything is well again
)

var errFull = cluster.ErrNoSpace

// A run is one cell while it is played.
type run struct {
	t    *testing.T
	cell cell
	rng  *rand.Rand
	base *base
	w    *rig.World
	m    *rig.Member // the one with the fault
	ill  *rig.Member // its device that has the fault
	away *rig.Member // another master that is not there; nil = all are

	life  *life
	model *model
	limit time.Duration // for calls

	begun  time.Time
	fired  chan struct{} // closed at the moment
	once   sync.Once
	onCopy func(resync.Report)           // at each step of a resync of m
	before *memdev.Device                // m at the last unmount
	loose  map[string][2]string          // what a merge under way may have changed
	then   map[string]string             // what the snapshot has
	older  *memdev.Device                // the cache at an earlier unmount
	became map[cluster.CacheState]string // what the cache was since the moment, and why

	damaged ondisk.Blockref // a block of m that was made unreadable
	spared  bool            // and was replaced by a copy before anybody met it

	mu    sync.Mutex
	trace []string
	seen  map[cluster.NodeState]cluster.NodeStatus // what m was, since the moment
}

// A life is one process: from a mount to its end.
type life struct {
	ctx    context.Context
	cancel context.CancelFunc
	pool   *cluster.Pool
	fs     *fs.FS
	caller *caller
	halt   context.CancelFunc // of the resync manager and the watch
	wait   sync.WaitGroup
	dead   atomic.Bool
}

// note adds a line to the trace, which is printed if the cell fails.
func (r *run) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trace = append(r.trace, fmt.Sprintf("%10v ", time.Since(r.begun))+fmt.Sprintf(format, args...))
}

func (r *run) fail(format string, args ...any) {
	r.t.Helper()
	r.mu.Lock()
	trace := strings.Join(r.trace, "\n")
	r.mu.Unlock()
	r.t.Fatalf("%v\n%s\n%s", r.cell, fmt.Sprintf(format, args...), trace)
}

func (r *run) check(err error, what string) {
	r.t.Helper()
	if err != nil {
		r.fail("%s: %v", what, err)
	}
}

// Write makes the run a writer of log lines.
func (r *run) Write(p []byte) (int, error) {
	r.note("  log %s", strings.TrimSpace(string(p)))
	return len(p), nil
}

func (r *run) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// open mounts the members. It returns when the mount serves, or why it cannot.
func (r *run) open() error {
	l := &life{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	r.life = l
	o := cluster.Options{Label: rig.Label, Deadline: deadline, Logger: r.logger(), Memory: r.cell.memory()}
	if r.row().errand != nil && r.cell.bare && r.cell.dice(24).IntN(2) == 0 {
		o.OnNoQuorum = cluster.EIO // what is begun waits all the same
	}
	p, err := cluster.OpenPool(l.ctx, r.w.Specs(), o)
	if err != nil {
		l.cancel()
		return err
	}
	l.pool = p
	if l.fs, err = fs.New(l.ctx, fs.OnPool(p), false, fs.Options{NoAtime: true, Logger: o.Logger}); err != nil {
		l.cancel()
		return errors.Join(err, p.Close(l.ctx))
	}
	if r.model == nil {
		r.model = r.base.model()
	}
	l.caller = &caller{fs: l.fs, model: r.model, rng: r.rng, names: 12}
	ctx, halt := context.WithCancel(l.ctx)
	l.halt = halt
	l.wait.Go(func() { resync.NewManager(&peers{p, r}, r.cell.resync(o.Logger)).Run(ctx) })
	l.wait.Go(func() { r.watch(ctx, p) })
	if r.w.Fast != nil {
		events := p.Subscribe()
		l.wait.Go(func() { r.hearOfCache(ctx, events) })
	}
	if r.row().branch {
		l.wait.Go(func() { r.merges(ctx, l) })
	}
	return nil
}

// peers lets the run see each step of a resync.
type peers struct {
	*cluster.Pool
	r *run
}

func (p *peers) AcquireTarget(name string) (*cluster.ResyncTarget, func(), error) {
	t, release, err := p.Pool.AcquireTarget(name)
	if err == nil {
		p.step(name, resync.Report{State: resync.Planning})
	}
	return t, release, err
}

func (p *peers) SetResyncReport(name string, report any) {
	p.Pool.SetResyncReport(name, report)
	if rep, ok := report.(resync.Report); ok {
		p.step(name, rep)
	}
}

func (p *peers) step(name string, rep resync.Report) {
	p.r.note("resync of %s: %v %s %s", name, rep.State, rep.Mode, rep.Err)
	p.r.mu.Lock()
	fn := p.r.onCopy
	p.r.mu.Unlock()
	if fn != nil && named(name, p.r.m) {
		fn(rep)
	}
}

// watch notes what m is.
func (r *run) watch(ctx context.Context, p *cluster.Pool) {
	last, told := map[string]string{}, 0
	for {
		changed := p.Changed()
		told = r.hear(p, told)
		st := p.Status()
		for _, n := range st.Nodes {
			now := fmt.Sprintf("%v %q %q", n.State, n.Error, n.Next)
			if last[n.Name] != now {
				r.note("%s is %s at %s (%s)", n.Name, now, n.T, st.Health)
				last[n.Name] = now
			}
			if named(n.Name, r.m) && r.hasFired() {
				r.mu.Lock()
				r.seen[n.State] = n
				r.mu.Unlock()
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// hear notes what m was between two looks.
func (r *run) hear(p *cluster.Pool, told int) int {
	turns, total := p.History(told)
	for _, e := range turns {
		if named(e.Node, r.m) && r.hasFired() {
			r.note("%s was %s: %s", e.Node, e.What, e.Error)
			r.mu.Lock()
			if s := cluster.NodeState(e.What); r.seen[s].State == "" {
				r.seen[s] = cluster.NodeStatus{Name: e.Node, State: s, Error: e.Error, Next: e.Next}
			}
			r.mu.Unlock()
		}
	}
	return total
}

func (r *run) hasFired() bool {
	select {
	case <-r.fired:
		return true
	default:
		return false
	}
}

// reset forgets what was seen of m: something new begins.
func (r *run) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.seen)
}

// status is how the mount reports m.
func (r *run) status() cluster.NodeStatus { return r.statusOf(r.m.Name) }

// named reports whether that is what m is called, now or when it has one more device.
func named(name string, m *rig.Member) bool {
	return name == m.Name || strings.HasPrefix(name, m.Name+":")
}

func (r *run) statusOf(name string) cluster.NodeStatus {
	for _, n := range r.life.pool.Status().Nodes {
		if n.Name == name || strings.HasPrefix(n.Name, name+":") {
			return n
		}
	}
	return cluster.NodeStatus{}
}

// close unmounts in order.
func (r *run) close() error {
	l := r.life
	if l == nil || l.pool == nil {
		return nil
	}
	l.halt()
	l.wait.Wait()
	err := errors.Join(l.fs.Close(l.ctx), l.pool.Close(l.ctx))
	l.cancel()
	r.life = nil
	if err == nil {
		r.model.settle(r.model.last())
		r.before = r.m.Copy()
	}
	return err
}

// die kills the process. It is called at the moment itself, from within a
// request.
func (r *run) die(power bool) {
	r.w.Die(power)
	r.life.dead.Store(true)
	r.life.cancel()
	r.note("the process dies")
}

// bury lets the goroutines of the dead process end.
func (r *run) bury() {
	l := r.life
	l.cancel()
	for _, m := range r.w.All() {
		m.Fault().Clear()
		m.Fault().Release()
	}
	if l.pool != nil {
		l.halt()
		l.wait.Wait()
		_ = l.pool.Close(l.ctx) // it is dead: an error is all that can come
		_ = l.fs.Close(l.ctx)
	}
	for range 100 {
		synctest.Wait()
		if held := r.w.Held(); held == "" {
			break
		}
		<-time.After(time.Minute)
	}
	r.life = nil
}

// sync waits until all is durable, within limit.
func (r *run) sync(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(r.life.ctx, limit)
	defer cancel()
	return r.syncIn(ctx)
}

func (r *run) syncIn(ctx context.Context) error { return r.synced(ctx, r.life.pool.Sync) }

// settleIn is syncIn by way of the trees.
func (r *run) settleIn(ctx context.Context) error { return r.synced(ctx, r.life.pool.Settle) }

func (r *run) synced(ctx context.Context, sync func(context.Context) error) error {
	upto := len(r.model.states) - 1
	err := sync(ctx)
	if err == nil {
		r.model.synced(upto)
	}
	return err
}

// work makes n calls, each of which must succeed in time, and syncs.
func (r *run) work(n int) {
	r.t.Helper()
	if err := r.try(n); err != nil {
		r.fail("the mount does not go on: %v", err)
	}
}

func (r *run) try(n int) error {
	for range n {
		began := time.Now()
		ctx, cancel := context.WithTimeout(r.life.ctx, r.limit)
		err := r.life.caller.call(ctx)
		cancel()
		if err != nil {
			return fmt.Errorf("call: %w", err)
		}
		if took := time.Since(began); took > r.limit {
			return fmt.Errorf("a call took %v", took)
		}
	}
	if err := r.sync(r.limit); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// reads compares all that the mount shows with the model.
func (r *run) reads() {
	r.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(r.life.ctx, 100*r.limit)
	defer cancel()
	got, err := r.read(ctx)
	r.check(err, "reading the mount")
	if took := time.Since(began); took > 100*r.limit {
		r.fail("reading the mount took %v", took)
	}
	if d := diffMaps(r.model.last(), got); d != "" {
		r.fail("the mount shows something else: %s", d)
	}
}

// settles reads the mount after a crash: one of the states that may be.
func (r *run) settles() {
	r.t.Helper()
	got, err := r.read(r.life.ctx)
	r.check(err, "reading the mount after the crash")
	r.check(r.model.settle(got), "after the crash")
}

// until waits until ok holds.
func (r *run) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if ok() {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
	if r.life == nil {
		r.fail("%s does not come", what)
	}
	r.fail("%s does not come: %+v", what, r.life.pool.Status())
}

// healthy waits until every node is in sync.
func (r *run) healthy() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.life.ctx, patience)
	defer cancel()
	if err := r.life.pool.Wait(ctx, cluster.WaitHealthy); err != nil {
		r.fail("not healthy again: %v\n%+v", err, r.life.pool.Status())
	}
	// A soft node that is away makes nobody ill: it is waited for here. One that was
	// not there at the mount has a line by its id until it is.
	r.until("soft nodes in sync", func() bool {
		for _, n := range r.life.pool.Status().Nodes {
			if n.Soft() && n.State != cluster.NodeInSync {
				return false
			}
		}
		return true
	})
}

// caughtUp waits until nobody is behind any more: who was slow before the last
// unmount is at the next mount, and until then the others cannot do without
// another one.
func (r *run) caughtUp() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.life.ctx, patience)
	defer cancel()
	r.check(r.life.pool.Wait(ctx, cluster.WaitResync), "waiting for members that were slow")
}

// verify unmounts and reads every member alone.
func (r *run) verify() {
	r.t.Helper()
	for _, n := range r.life.pool.Status().Nodes {
		r.note("before unmounting: %s %s %s", n.Name, n.State, n.T)
	}
	r.check(r.close(), "unmounting")
	r.note("unmounted")
	want := r.model.last()
	var first *rig.Tree
	for _, m := range r.w.Members {
		tree, err := m.Tree(r.t.Context())
		r.check(err, "reading a member alone")
		if d := diffMaps(want, tree.Files); d != "" {
			r.fail("%s alone: %s", m.Name, d)
		}
		if first == nil {
			first = tree
		} else if d := first.Difference(tree); d != "" {
			r.fail("%s is not what %s is: %s", m.Name, r.w.Members[0].Name, d)
		}
		found, err := m.Fsck(r.t.Context())
		r.check(err, "fsck")
		for _, f := range found {
			r.fail("fsck of %s: %v", m.Name, f)
		}
	}
}
