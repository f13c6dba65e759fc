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
	number   uint64       // counts groups, in the order in which they are committed
	calls    atomic.Int64 // calls inside, plus closedBit
	idle     chan struct{}
	touched  atomic.Bool // something was changed
	try      atomic.Pointer[attempt]
	growth   growth       // of accounts
	accounts bool         // they are settled with it; set when it is sealed
	hurry    atomic.Bool  // someone waits for it to be durable
	syncers  atomic.Int32 // how many do, or did until a try failed
	settle   atomic.Bool  // someone waits for it to be in the trees

	opsMu sync.Mutex // guards ops, which are complete when the group is sealed
	ops   []chain.PFSOp
}

// An attempt is one try to make a group durable. Waiters wait for it, not
// for the group, so that a failure reaches them.
type attempt struct {
	done chan struct{}
	err  error // valid once done is closed
}

func newGroup(number uint64) *group {
	g := &group{overlay: newOverlay(), number: number, idle: make(chan struct{}, 1)}
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

// seal keeps further calls out and returns when those inside have ended, or false
// when gone is closed before: a call that waits for who waits for us would never end.
func (g *group) seal(gone <-chan struct{}) bool {
	if g.calls.Add(closedBit) != closedBit {
		select {
		case <-g.idle:
		case <-gone:
			return false
		}
	}
	return true
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
	syncing *group   // nil = none
	logged  *overlay // of groups that are durable and not in the views; nil = none
	views   []nodeView
	refs    atomic.Int64
}

// maxLayers is how many overlays a state has at most.
const maxLayers = 3

// layers returns the overlays, top first, nil for what is not there.
func (s *state) layers() [maxLayers]*overlay {
	layers := [maxLayers]*overlay{s.open.overlay, nil, s.logged}
	if s.syncing != nil {
		layers[1] = s.syncing.overlay
	}
	return layers
}

// under returns the layers from o on, which is the open or the syncing one.
func (s *state) under(o *overlay) [maxLayers]*overlay {
	layers := s.layers()
	if o != layers[0] {
		layers[0], layers[1] = o, nil
	}
	return layers
}

// inTreeOnly reports whether no overlay says anything about an inode.
func (s *state) inTreeOnly(inum uint64) bool {
	for _, o := range s.layers() {
		if o != nil && (o.find(inum) != nil || o.isNew(inum)) {
			return false
		}
	}
	return true
}

// below returns the layers under o.
func (s *state) below(o *overlay) []*overlay {
	layers := s.under(o)
	return layers[1:]
}

func (s *state) release() {
	if s.refs.Add(-1) > 0 {
		return
	}
	for _, v := range s.views {
		v.View.Release()
	}
	for _, o := range s.layers() {
		o.unref()
	}
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
func (p *Pool) install(open, syncing *group, logged *overlay, views []nodeView) {
	s := &state{open: open, syncing: syncing, logged: logged, views: views}
	s.refs.Store(1)
	for _, o := range s.layers() {
		if o != nil {
			o.refs.Add(1)
		}
	}
	if old := p.state.Swap(s); old != nil {
		old.release()
	}
}

// retained returns the views of s for another state.
func (s *state) retained() []nodeView {
	for _, v := range s.views {
		v.View.Retain()
	}
	return s.views
}

// refresh takes the engine's present views under the groups.
func (p *Pool) refresh() {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	s := p.state.Load()
	p.install(s.open, s.syncing, s.logged, p.views())
	p.measure()
	p.viewsChanged()
}

// rotate closes the open group for new calls: a fresh one takes its place.
func (p *Pool) rotate() *group {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	s := p.state.Load()
	p.install(newGroup(s.open.number+1), s.open, s.logged, s.retained())
	return s.open
}

// retire drops the syncing group, and what was logged before it: the views
// now contain all of it.
func (p *Pool) retire() {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	s := p.state.Load()
	views := p.views()
	p.measure()
	p.treed.Store(s.syncing.number)
	p.install(s.open, nil, nil, views)
	p.viewsChanged()
	if fn := p.onTrees.Load(); fn != nil {
		(*fn)()
	}
}

// views are the engine's, with the cache before them.
func (p *Pool) views() []nodeView { return p.front.before(p.engine.views()) }

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
// in one, or sooner on a wish. What was logged is in the trees as long after.
func (p *Pool) commitLoop() {
	defer p.workers.Done()
	timer, late := time.NewTimer(p.opts.Commit), time.NewTimer(p.opts.Commit)
	timer.Stop()
	late.Stop()
	for {
		select {
		case <-p.firstChange:
			timer.Reset(p.opts.Commit)
			continue
		case <-p.wish:
		case <-timer.C:
		case <-late.C:
			p.state.Load().open.wantTree()
		case <-p.ctx.Done():
			return
		}
		if p.ctx.Err() != nil || !p.state.Load().open.touched.Load() {
			continue
		}
		timer.Stop()
		had := p.state.Load().logged != nil
		p.crowd.gather(p, p.state.Load().open)
		p.commitOpen()
		switch has := p.state.Load().logged != nil; {
		case has && !had:
			late.Reset(p.opts.Commit)
		case !has:
			late.Stop()
		}
	}
}

// commitOpen makes the open group durable. It returns early only when the
// pool is torn down.
func (p *Pool) commitOpen() {
	began := time.Now()
	g := p.rotate()
	if !g.seal(p.ctx.Done()) {
		g.finish(p.ctx.Err(), false)
		return
	}
	p.state.Load().open.firstNew.Store(p.lastInum.Load() + 1)
	b, err := p.make(p.ctx, g)
	wished := false // by who waits for the group that is open now
	logged := false
	for wait := retryFirst; ; wait = min(2*wait, retryMax) {
		if err == nil {
			logged, err = p.commitBatch(b)
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
			b, err = p.make(p.ctx, g)
		}
	}
	p.txgs.committed(b, time.Since(began))
	if logged {
		p.keep()
	} else {
		p.retire()
	}
	p.lastErr.Store(nil)
	p.crowd.note(p, g, time.Since(began)) // before those who waited can come again
	g.finish(nil, false)
	close(*p.room.Swap(newSignal()))
	if wished {
		poke(p.wish)
	}
	if !logged {
		p.tidy()
	}
}

// Pauses between tries to commit; a node that returns ends one at once.
const (
	retryFirst = 100 * time.Millisecond
	retryMax   = 10 * time.Second
)

// commitBatch commits b, or nothing if there is nothing in it. Another try
// takes the same batch, which the engine may have sent already: it gives it a
// new tid if it must, and a batch that takes effect twice changes nothing.
func (p *Pool) commitBatch(b *chain.Batch) (logged bool, err error) {
	if len(b.Changes) == 0 && len(b.Ops) == 0 && p.state.Load().logged == nil {
		return false, nil
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
			return p.dropped()
		}
	}
	g.hurry.Store(true)
	g.syncers.Add(1)
	return p.await(ctx, g)
}

// dropped is what a sync says that finds nothing to do: what there was may have
// been dropped with the groups of a pool that was closed in vain.
func (p *Pool) dropped() error {
	if p.ctx.Err() != nil {
		return ErrPoolClosed
	}
	return nil
}

// await has g committed and waits for that, or for the failure of a try.
func (p *Pool) await(ctx context.Context, g *group) error {
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
