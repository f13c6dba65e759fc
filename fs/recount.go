package fs

import (
	"context"
	"sync"
)

// A pendingStore has data that takes another space once it is on the media, where it
// is compressed.
type pendingStore interface {
	// Pending reports whether an inode has data that is not there yet.
	Pending(inum uint64) bool
	// OnTrees has fn called when data came there. It must not wait.
	OnTrees(fn func())
}

// A recounter has the kernel ask again what space a file takes. The kernel keeps what
// it was told, and a commit changes the space of files without a call of theirs.
//
// A reply that was on its way when the kernel is told to forget is dropped by it.
type recounter struct {
	store      pendingStore // nil: what it says of space stays so
	invalidate func(inum uint64)

	mu   sync.Mutex
	told map[uint64]struct{} // files of which the kernel was told before all was on the media

	wake   chan struct{}
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (c *recounter) start(store Store, invalidate func(inum uint64)) {
	c.store, _ = store.(pendingStore)
	c.invalidate, c.told, c.wake = invalidate, make(map[uint64]struct{}), make(chan struct{}, 1)
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	if c.store == nil {
		return
	}
	c.store.OnTrees(func() {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	})
	c.done.Go(func() {
		for {
			select {
			case <-c.wake:
				c.pass()
			case <-ctx.Done():
				return
			}
		}
	})
}

func (c *recounter) stop() {
	c.cancel()
	c.done.Wait()
}

// pending notes that the kernel is about to be told of the space of a file, and
// reports whether that will be another one.
func (c *recounter) pending(inum uint64) bool {
	if c == nil || c.store == nil || !c.store.Pending(inum) {
		return false
	}
	c.mu.Lock()
	c.told[inum] = struct{}{}
	c.mu.Unlock()
	return true
}

// pass has the kernel forget what is not so any more.
func (c *recounter) pass() {
	c.mu.Lock()
	list := make([]uint64, 0, len(c.told))
	for inum := range c.told {
		list = append(list, inum)
	}
	c.mu.Unlock()
	for _, inum := range list {
		if c.store.Pending(inum) {
			continue
		}
		c.mu.Lock()
		delete(c.told, inum) // before: who is told meanwhile notes it again
		c.mu.Unlock()
		c.invalidate(inum)
	}
}

// Recount returns when the kernel has nothing of the space of files that was so
// before they were on the media, as far as that has come.
func (s *Server) Recount() {
	if s.recount.store != nil {
		s.recount.pass()
	}
}
