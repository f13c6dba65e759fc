package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A filler completes blocks while their group is still open.
type filler struct {
	pool *Pool
	jobs chan fillJob
	quit chan struct{} // closed when no job is done any more
	wg   sync.WaitGroup
}

type fillJob struct {
	o   *overlay
	n   *onode
	key uint64
}

const (
	fillQueue   = 512 // blocks waiting; more are left to the close
	fillWorkers = 8   // reads at once
)

func (f *filler) start(p *Pool) {
	f.pool = p
	f.jobs, f.quit = make(chan fillJob, fillQueue), make(chan struct{})
	if p.opts.ReadOnly {
		return
	}
	for range fillWorkers {
		f.wg.Go(f.work)
	}
}

func (f *filler) work() {
	for {
		select {
		case j := <-f.jobs:
			// What fails here is tried again at the close.
			_ = f.pool.fillBlock(f.pool.ctx, j.o, j.n, j.key)
			j.o.filling.Done()
		case <-f.quit:
			f.drop()
			return
		}
	}
}

// drop lets go of those that wait: nobody completes them any more.
func (f *filler) drop() {
	for {
		select {
		case j := <-f.jobs:
			j.o.filling.Done()
		default:
			return
		}
	}
}

// stop ends the workers; no group is committed any more. One that reads from a
// device that hangs is not waited for longer than ctx.
func (f *filler) stop(ctx context.Context) {
	close(f.quit)
	done := make(chan struct{})
	go func() { f.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// wrote hears that a call wrote to b. A block that is written from its start on
// is left alone until the writer goes to another one: it may need no read.
func (f *filler) wrote(o *overlay, n *onode, b *oblock) {
	n.mu.Lock()
	last := n.growing
	n.growing = nil
	if b.begun() {
		n.growing = b
	}
	var jobs [2]fillJob
	due := jobs[:0]
	for _, c := range [...]*oblock{last, b} {
		if c != nil && c != n.growing && len(c.gaps) > 0 && !c.queued {
			c.queued = true
			due = append(due, fillJob{o, n, c.key})
		}
	}
	n.mu.Unlock()
	for _, j := range due {
		o.filling.Add(1)
		select {
		case f.jobs <- j:
		default:
			o.filling.Done()
		}
	}
}

// fillRest completes what is left of a closed group, in parallel. Blocks for
// which there is no hope are given up.
func (p *Pool) fillRest(ctx context.Context, g *group, nodes []*onode) error {
	if !g.partial.Load() {
		return nil
	}
	if err := g.awaitFillers(ctx); err != nil {
		return err
	}
	var jobs []fillJob
	for _, n := range nodes {
		n.mu.RLock()
		for _, b := range n.blocks {
			if len(b.gaps) > 0 {
				jobs = append(jobs, fillJob{g.overlay, n, b.key})
			}
		}
		n.mu.RUnlock()
	}
	workers := min(fillWorkers, len(jobs))
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(jobs); i += workers { // so that neighbours are read together
				errs[w] = errors.Join(errs[w], p.completeOf(ctx, g, jobs[i]))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// awaitFillers waits for those who have blocks of a closed group.
func (g *group) awaitFillers(ctx context.Context) error {
	done := make(chan struct{})
	go func() { g.filling.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// completeOf is fillBlock for a closed group, and gives up what cannot be read: all
// others would wait for it.
func (p *Pool) completeOf(ctx context.Context, g *group, j fillJob) error {
	for again := false; ; again = true {
		err := p.fillBlock(ctx, j.o, j.n, j.key)
		switch {
		case err == nil || !p.hopeless(err):
			return err
		case again && !g.patient(err):
			p.giveUp(j, err)
			return nil
		}
		if !pause(ctx, unreadPause) {
			return ctx.Err()
		}
	}
}

const (
	unreadPause = 50 * time.Millisecond // between two tries to read a block
	unreadLimit = time.Second           // that a closed group waits for blocks which devices do not give
)

// pause waits, and reports whether ctx is still there.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// hopeless reports whether an error says that none of the members has a block's
// content, though enough of them are there for a commit. If they are gone, all
// waits for their return.
func (p *Pool) hopeless(err error) bool {
	var node *chain.NodeError
	unread := errors.As(err, &node) || errors.Is(err, ondisk.ErrCorrupt)
	return unread && !errors.Is(err, chain.ErrClosed) && p.ctx.Err() == nil && p.engine.hasQuorum() && !p.engine.stale()
}

// patient reports whether a group still waits for a block. Damage does not go
// away; a device that fails requests may be about to be found gone.
func (g *group) patient(err error) bool {
	now := time.Now().UnixNano()
	g.unread.CompareAndSwap(0, now)
	return !errors.Is(err, ondisk.ErrCorrupt) && now-g.unread.Load() < int64(unreadLimit)
}

// giveUp takes back what a closed group has of a block that cannot be completed.
func (p *Pool) giveUp(j fillJob, why error) {
	err := fmt.Errorf("inode %d: what was written at %#x is lost, since no member can read the rest of that block: %w", j.n.inum, j.key, why)
	p.log.Error("a write is lost", "err", err)
	p.lost.add(j.n.inum, j.key, err)
	j.n.mu.Lock()
	j.o.dropBlocks(j.n, j.key, j.key+ondisk.LogicalBlock)
	j.n.mu.Unlock()
	if p.opts.Lost != nil {
		p.opts.Lost(j.n.inum)
	}
}
