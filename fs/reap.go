package fs

import (
	"context"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

// reapBatch is how many inodes are deleted in one transaction.
const reapBatch = 64

// A reaper deletes inodes that have neither a name nor a user, in the
// background: unlink and close do not wait for it.
type reaper struct {
	f    *FS
	wake chan struct{} // capacity 1
	done chan struct{}
	turn turn // held while a batch is taken and deleted

	mu      sync.Mutex
	queue   []uint64
	closing bool
	working bool          // a batch is being deleted
	idle    chan struct{} // closed when there is nothing left; nil: nobody waits
}

func newReaper(f *FS) *reaper {
	r := &reaper{f: f, turn: newTurn(), wake: make(chan struct{}, 1), done: make(chan struct{})}
	go r.loop()
	return r
}

// add queues dead inodes.
func (r *reaper) add(inums ...uint64) {
	if len(inums) == 0 {
		return
	}
	r.mu.Lock()
	r.queue = append(r.queue, inums...)
	r.mu.Unlock()
	r.poke()
}

func (r *reaper) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (r *reaper) take() (batch []uint64, closing bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.queue), reapBatch)
	batch = append(batch, r.queue[:n]...)
	if r.working = n > 0; !r.working && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
	r.queue = r.queue[:copy(r.queue, r.queue[n:])]
	return batch, r.closing
}

// busy reports whether inodes are still to be deleted.
func (r *reaper) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.working || len(r.queue) > 0
}

// settle returns when what is queued is deleted.
func (r *reaper) settle(ctx context.Context) {
	r.mu.Lock()
	if r.closing || !r.working && len(r.queue) == 0 {
		r.mu.Unlock()
		return
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// Reaped returns when the inodes are deleted that have neither a name nor a user by
// now, or ctx ends.
func (f *FS) Reaped(ctx context.Context) { f.reaper.settle(ctx) }

func (r *reaper) loop() {
	defer close(r.done)
	for {
		some, closing := r.work()
		if some {
			continue
		}
		if closing {
			return
		}
		<-r.wake
	}
}

// work deletes a batch, if there is one.
func (r *reaper) work() (some, closing bool) {
	r.turn.Lock()
	defer r.turn.Unlock()
	batch, closing := r.take()
	if len(batch) == 0 {
		return false, closing
	}
	if err := r.f.reap(context.Background(), batch); err != nil {
		// They have no link, so the next mount finds them.
		r.f.log.Warn("unnamed files stay until the next mount", "files", len(batch), "error", err)
	}
	return true, closing
}

// clear forgets what is queued: it is of content that is gone.
func (r *reaper) clear() {
	r.mu.Lock()
	r.queue = nil
	r.mu.Unlock()
}

// close deletes what is queued and ends the loop.
func (r *reaper) close(ctx context.Context) error {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	r.poke()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reap deletes inodes with their data and attributes. Nobody can reach them
// any more, so no lock is needed; numbers are never used again.
func (f *FS) reap(ctx context.Context, inums []uint64) error {
	withAttrs := make([]bool, len(inums))
	for i, inum := range inums {
		if inum&ondisk.AttrBit != 0 {
			continue
		}
		set, err := f.knownAttrs(ctx, inum)
		if err != nil {
			return err
		}
		withAttrs[i] = set
	}
	t, err := f.store.BeginFree(ctx)
	if err != nil {
		return err
	}
	defer t.End()
	for i, inum := range inums {
		t.DeleteInode(inum)
		f.quotas.drop(inum)
		if withAttrs[i] {
			t.DeleteInode(ondisk.AttrBit | inum)
		}
	}
	return nil
}

// knownAttrs reports whether inum has an attribute inode.
func (f *FS) knownAttrs(ctx context.Context, inum uint64) (bool, error) {
	n := f.table.pin(inum)
	defer f.table.unpin(n)
	if set := n.attrs.Load(); set != nil {
		return set.exists, nil
	}
	_, ok, err := f.store.Inode(ctx, ondisk.AttrBit|inum)
	return ok, err
}

// collectOrphans has deleted what a crash or a foreign writer left: files
// without a link, attributes without a file. They are those of the state that
// was there when it began; what of them is in use by then stays in use.
func (f *FS) collectOrphans(ctx context.Context) error {
	walk, err := f.store.Orphans(ctx)
	if err != nil {
		return err
	}
	ctx, f.stopCollecting = context.WithCancel(context.Background())
	f.collected = make(chan struct{})
	go func() {
		defer close(f.collected)
		err := walk(ctx, func(inum uint64) bool {
			f.orphan(ctx, inum)
			return true
		})
		if err != nil && ctx.Err() == nil {
			f.log.Warn("looking for unnamed files", "error", err)
		}
	}()
	return nil
}
