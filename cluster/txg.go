package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain"
)

// closedBit marks a group that no call may enter any more.
const closedBit = 1 << 40

// A group is a transaction group: an overlay and the calls that fill it.
type group struct {
	*overlay
	calls   atomic.Int64 // calls inside, plus closedBit
	idle    chan struct{}
	touched atomic.Bool // something was changed
	try     atomic.Pointer[attempt]
	growth  growth // of accounts

	opsMu sync.Mutex // guards ops, which are complete when the group is sealed
	ops   []chain.PFSOp
}

// An attempt is one try to make a group durable. Waiters wait for it, not
// for the group, so that a failure reaches them.
type attempt struct {
	done chan struct{}
	err  error // valid once done is closed
}

func newGroup() *group {
	g := &group{overlay: newOverlay(), idle: make(chan struct{}, 1)}
	g.try.Store(&attempt{done: make(chan struct{})})
	return g
}

// enter admits a call; false: the group is closed, take the next.
func (g *group) enter() bool {
	for {
		n := g.calls.Load()
		if n >= closedBit {
			return false
		}
		if g.calls.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave ends a call.
func (g *group) leave() {
	if g.calls.Add(-1) == closedBit {
		g.idle <- struct{}{}
	}
}

// seal keeps further calls out and returns when those inside have ended.
func (g *group) seal() {
	if g.calls.Add(closedBit) != closedBit {
		<-g.idle
	}
}

// finish ends the present attempt.
func (g *group) finish(err error, again bool) {
	old := g.try.Load()
	if again {
		g.try.Store(&attempt{done: make(chan struct{})})
	}
	old.err = err
	close(old.done)
}

// A state is what a reader sees: the layers from top to bottom, taken in one
// step. A group is in the state before the first call enters it, and leaves
// it only when the views below contain it.
type state struct {
	open    *group
	syncing *group // nil = none
	views   []nodeView
	refs    atomic.Int64
}

// below is the overlay under g's.
func (s *state) below(g *group) *overlay {
	if s.open == g && s.syncing != nil {
		return s.syncing.overlay
	}
	return nil
}

// layers returns the overlays, nil for what is not there.
func (s *state) layers() (open, syncing *overlay) {
	if s.syncing != nil {
		syncing = s.syncing.overlay
	}
	return s.open.overlay, syncing
}

func (s *state) release() {
	if s.refs.Add(-1) > 0 {
		return
	}
	for _, v := range s.views {
		v.View.Release()
	}
	open, syncing := s.layers()
	open.unref()
	syncing.unref()
}

// acquire returns the present state, which stays whole until its release.
func (p *Pool) acquire() *state {
	for {
		s := p.state.Load()
		for n := s.refs.Load(); n > 0; n = s.refs.Load() {
			if s.refs.CompareAndSwap(n, n+1) {
				return s
			}
		}
	}
}

// install makes a new state. It takes over one reference to each view.
// The caller holds stateMu.
func (p *Pool) install(open, syncing *group, views []nodeView) {
	s := &state{open: open, syncing: syncing, views: views}
	s.refs.Store(1)
	open.refs.Add(1)
	if syncing != nil {
		syncing.refs.Add(1)
	}
	if old := p.state.Swap(s); old != nil {
		old.release()
	}
}

// refresh takes the engine's present views under the groups.
func (p *Pool) refresh() {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	s := p.state.Load()
	p.install(s.open, s.syncing, p.views())
	p.measure()
	p.viewsChanged()
}

// rotate closes the open group for new calls: a fresh one takes its place.
func (p *Pool) rotate() *group {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	s := p.state.Load()
	for _, v := range s.views {
		v.View.Retain()
	}
	p.install(newGroup(), s.open, s.views)
	return s.open
}

// retire drops the syncing group, which the views now contain.
func (p *Pool) retire() {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	s := p.state.Load()
	views := p.views()
	p.measure()
	p.install(s.open, nil, views)
	p.viewsChanged()
}

// views are the engine's, with the cache before them.
func (p *Pool) views() []nodeView { return p.front.before(p.engine.views()) }

// viewsChanged wakes readers that found no node to read from.
func (p *Pool) viewsChanged() {
	close(*p.viewsCh.Swap(newSignal()))
}

func newSignal() *chan struct{} {
	ch := make(chan struct{})
	return &ch
}

// poke asks for something on a channel with room for one wish.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// commitLoop closes and commits groups: Options.Commit after the first change
// in one, or sooner on a wish.
func (p *Pool) commitLoop() {
	defer p.workers.Done()
	timer := time.NewTimer(p.opts.Commit)
	timer.Stop()
	for {
		select {
		case <-p.firstChange:
			timer.Reset(p.opts.Commit)
			continue
		case <-p.wish:
		case <-timer.C:
		case <-p.ctx.Done():
			return
		}
		if p.ctx.Err() == nil && p.state.Load().open.touched.Load() {
			timer.Stop()
			p.commitOpen()
		}
	}
}

// commitOpen makes the open group durable. It returns early only when the
// pool is torn down.
func (p *Pool) commitOpen() {
	began := time.Now()
	g := p.rotate()
	g.seal()
	p.state.Load().open.firstNew.Store(p.lastInum.Load() + 1)
	b, err := p.build(p.ctx, g)
	wished := false // by who waits for the group that is open now
	for wait := retryFirst; ; wait = min(2*wait, retryMax) {
		if err == nil {
			err = p.commitBatch(b)
		}
		if err == nil {
			break
		}
		if p.ctx.Err() != nil {
			g.finish(err, false)
			return
		}
		p.commitFailed(g, err)
		wished = p.waitRetry(wait) || wished
		err = nil
		if b == nil {
			b, err = p.build(p.ctx, g)
		}
	}
	p.txgs.committed(b, time.Since(began))
	p.retire()
	p.lastErr.Store(nil)
	g.finish(nil, false)
	close(*p.room.Swap(newSignal()))
	if wished {
		poke(p.wish)
	}
	p.tidy()
}

// Pauses between tries to commit; a node that returns ends one at once.
const (
	retryFirst = 100 * time.Millisecond
	retryMax   = 10 * time.Second
)

// commitBatch commits b, or nothing if there is nothing in it. Another try
// takes the same batch, which the engine may have sent already: it gives it a
// new tid if it must, and a batch that takes effect twice changes nothing.
func (p *Pool) commitBatch(b *chain.Batch) error {
	if len(b.Changes) == 0 && len(b.Ops) == 0 {
		return nil
	}
	return p.engine.commit(p.ctx, b)
}

// commitFailed tells everyone who waits for g or for a later group.
func (p *Pool) commitFailed(g *group, err error) {
	p.log.Error("commit failed", "error", err)
	p.lastErr.Store(&err)
	p.txgs.failed.Add(1)
	// The later one first: whoever waited for g and syncs again then is not told
	// of this try once more.
	p.state.Load().open.finish(err, true)
	g.finish(err, true)
	close(*p.room.Swap(newSignal()))
}

func (p *Pool) waitRetry(d time.Duration) (wished bool) {
	changed := p.engine.changed()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-p.wish:
		return true
	case <-p.ctx.Done():
	}
	return false
}

// Sync returns nil when all that ended before is durable on a quorum of
// masters. Callers that come together share one commit. If nothing is in
// memory it returns at once.
func (p *Pool) Sync(ctx context.Context) error {
	s := p.state.Load()
	g := s.open
	if !g.touched.Load() {
		if g = s.syncing; g == nil {
			if p.ctx.Err() != nil {
				return ErrPoolClosed // what there was may have been dropped with the groups
			}
			return nil
		}
	}
	try := g.try.Load()
	poke(p.wish)
	select {
	case <-try.done:
		return try.err
	case <-ctx.Done():
		return ctx.Err()
	case <-p.ctx.Done():
		return ErrPoolClosed
	}
}
