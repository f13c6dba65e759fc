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
				err := p.fillBlock(ctx, g.overlay, jobs[i].n, jobs[i].key)
				if err != nil && p.hopeless(g, err) {
					p.giveUp(jobs[i], err)
					err = nil
				}
				errs[w] = errors.Join(errs[w], err)
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

// hopeless reports whether a block of g need not be waited for any more: all
// members that a commit needs are there, and none has its content. Damage does
// not go away; a device that fails the request gets the time that one has to answer.
func (p *Pool) hopeless(g *group, err error) bool {
	var node *chain.NodeError
	if !errors.As(err, &node) || p.ctx.Err() != nil || !p.engine.hasQuorum() || p.engine.stale() {
		return false
	}
	now := time.Now().UnixNano()
	g.unread.CompareAndSwap(0, now)
	return errors.Is(err, ondisk.ErrCorrupt) || now-g.unread.Load() > int64(p.opts.Deadline)
}

// giveUp takes back what a closed group has of a block that cannot be completed.
// Without that nothing could ever be committed again.
func (p *Pool) giveUp(j fillJob, why error) {
	p.log.Error("a write is lost, since it changed a part of a block that no member can read", "inode", j.n.inum, "offset", j.key, "err", why)
	p.lost.add(j.n.inum, fmt.Errorf("inode %d: what was written at %#x is lost: %w", j.n.inum, j.key, why))
	j.n.mu.Lock()
	j.o.dropBlocks(j.n, j.key, j.key+ondisk.LogicalBlock)
	j.n.mu.Unlock()
}

// lostWrites are errors that nobody was told yet.
type lostWrites struct {
	mu     sync.Mutex
	inodes map[uint64]error
	any    error
}

func (l *lostWrites) add(inum uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inodes == nil {
		l.inodes = make(map[uint64]error)
	}
	l.inodes[inum], l.any = err, err
}

// Lost returns, once, why something that was written to an inode, and accepted,
// is not durable though a Sync returned nil. Who syncs a file asks behind it.
func (p *Pool) Lost(inum uint64) error {
	l := &p.lost
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.inodes[inum]
	delete(l.inodes, inum)
	return err
}

// LostAny is Lost for who syncs everything.
func (p *Pool) LostAny() error {
	l := &p.lost
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.any
	l.any = nil
	return err
}
