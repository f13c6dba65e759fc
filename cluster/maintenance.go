package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain"
)

// Bulkfree walks whole volumes: it runs by itself when space is low or much was
// dropped that only it finds, as after a crash, and not again soon if it found
// nothing.
const (
	lowSpace      = 8 // low: less than one part in this many is free
	bulkfreeMin   = time.Minute
	bulkfreeMax   = 2 * time.Hour
	bulkfreeGain  = 64      // worth it: one part in this many of the volume came free
	bulkfreeLeast = 8 << 20 // and this much at least, when there is no need
	bulkfreePause = 5 * time.Millisecond
)

// upkeep is the housekeeping of a pool.
type upkeep struct {
	mu    sync.Mutex
	next  time.Time     // no background run before
	pause time.Duration // after the last run
	hurry bool          // something was dropped while one ran

	busy    atomic.Bool
	waiting atomic.Bool   // for next
	wake    chan struct{} // for who watches to look whether something is due
}

// tidy starts the housekeeping that is due.
func (p *Pool) tidy() {
	s := p.engine.space()
	lost := max(s.Total/bulkfreeGain, bulkfreeLeast)
	o := chain.BulkfreeOptions{Pause: bulkfreePause}
	switch {
	case p.opts.ReadOnly || p.closing.Load() || s.Total == 0:
		return
	case s.Free+s.Pending < s.Total/lowSpace:
		lost, o.Pause = 0, 0
	case s.Lost < lost:
		return
	}
	u := &p.upkeep
	u.mu.Lock()
	early := time.Until(u.next)
	u.mu.Unlock()
	if early > 0 {
		if s.Lost > 0 {
			p.tidyIn(early)
		}
		return
	}
	if u.busy.Swap(true) {
		return
	}
	p.workers.Go(func() {
		defer poke(u.wake) // what was dropped meanwhile
		defer u.busy.Store(false)
		if err := p.bulkfree(p.ctx, lost, o); err != nil && !errors.Is(err, context.Canceled) {
			p.log.Warn("bulkfree failed", "error", err)
		}
	})
}

// tidyIn has it looked again by then, also if nothing is committed until then.
func (p *Pool) tidyIn(d time.Duration) {
	u := &p.upkeep
	if u.waiting.Swap(true) {
		return
	}
	p.workers.Go(func() {
		select {
		case <-time.After(d):
			u.waiting.Store(false)
			poke(u.wake)
		case <-p.ctx.Done():
		}
	})
}

// Dropped is called when nobody reads a snapshot any more that is deleted, or one
// is deleted by hand: that earlier runs found nothing says nothing now.
func (p *Pool) Dropped() {
	u := &p.upkeep
	u.mu.Lock()
	u.next, u.pause, u.hurry = time.Time{}, 0, true
	u.mu.Unlock()
	p.budget.freedAt.Store(0)
	poke(u.wake)
}

// bulkfree finds space that nothing uses on the members that lost at least so
// many bytes, and sets the time of the next background run by how much it found.
func (p *Pool) bulkfree(ctx context.Context, lost uint64, o chain.BulkfreeOptions) error {
	u := &p.upkeep
	u.mu.Lock()
	u.hurry = false
	u.mu.Unlock()
	before := p.engine.space()
	err := p.engine.bulkfree(ctx, lost, o)
	after := p.engine.space()
	gain := int64(after.Free+after.Pending) - int64(before.Free+before.Pending)
	u.mu.Lock()
	switch {
	case u.hurry:
	case gain >= int64(after.Total/bulkfreeGain):
		u.pause = bulkfreeMin
	default:
		u.pause = min(max(2*u.pause, bulkfreeMin), bulkfreeMax)
	}
	u.next = time.Now().Add(u.pause)
	u.mu.Unlock()
	poke(u.wake)
	if err == nil {
		p.log.Info("bulkfree", "found", max(0, gain), "next", u.pause) // writers may have taken more meanwhile
		p.refresh()
	}
	return err
}

// bulkfreeOnce is the bulkfree before a call is refused: once per state of the
// pool, since a second walk of the same trees finds nothing more.
func (p *Pool) bulkfreeOnce(ctx context.Context) error {
	t := uint64(p.engine.committed().T)
	if p.budget.freedAt.Load() == t {
		return nil
	}
	p.budget.freedAt.Store(t) // unless something is dropped meanwhile
	if err := p.bulkfree(ctx, 0, chain.BulkfreeOptions{}); err != nil {
		p.budget.freedAt.Store(0)
		return err
	}
	if p.engine.space().Pending == 0 {
		return nil
	}
	return p.engine.drainFrees(ctx)
}

// Bulkfree finds space that nothing uses any more, now.
func (p *Pool) Bulkfree(ctx context.Context) error {
	if p.opts.ReadOnly {
		return ErrReadOnly
	}
	if err := p.Settle(ctx); err != nil {
		return err
	}
	return p.bulkfree(ctx, 0, chain.BulkfreeOptions{})
}
