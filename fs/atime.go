package fs

import (
	"context"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Times of reads are kept in memory and stored in batches: a read must not
// cost a write. A crash may lose those of the last atimeDelay.
const (
	atimeDelay = 60 * time.Second
	atimeMax   = 1024 // nodes held for it; more are stored at once
	atimeStale = 24 * time.Hour
)

// atimes are the nodes whose time of reading is not stored. Each is pinned.
type atimes struct {
	f    *FS
	wake chan struct{} // capacity 1
	stop chan struct{}
	done chan struct{}
	busy turn // held while times are stored

	mu    sync.Mutex
	nodes []*node
}

func newAtimes(f *FS) *atimes {
	a := &atimes{f: f, busy: newTurn(), wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go a.loop()
	return a
}

// touch notes a read of a locked node, by the rule of relatime: once after
// each change, and once a day.
func (a *atimes) touch(n *node, m *ondisk.InodeMeta) {
	if a.f.opts.NoAtime || n.atime.Load() != 0 {
		return
	}
	now := a.f.now()
	if m.Atime > m.Mtime && m.Atime > m.Ctime && now.Sub(time.UnixMicro(int64(m.Atime))) < atimeStale {
		return
	}
	if !n.atime.CompareAndSwap(0, now.UnixNano()) {
		return
	}
	a.f.table.pin(n.inum)
	a.mu.Lock()
	a.nodes = append(a.nodes, n)
	full := len(a.nodes) == atimeMax
	a.mu.Unlock()
	if full {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

func (a *atimes) loop() {
	defer close(a.done)
	tick := time.NewTicker(atimeDelay)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-a.wake:
		case <-a.stop:
			a.store()
			return
		}
		a.store()
	}
}

// close stores what is left and ends the loop.
func (a *atimes) close() {
	close(a.stop)
	<-a.done
}

// store writes the times of all nodes that have one.
func (a *atimes) store() {
	a.busy.Lock()
	defer a.busy.Unlock()
	a.mu.Lock()
	nodes := a.nodes
	a.nodes = nil
	a.mu.Unlock()
	for _, n := range nodes {
		a.storeOne(context.Background(), n)
		a.f.table.unpin(n)
	}
}

// storeOne writes the time of one node. It is no loss when that fails.
func (a *atimes) storeOne(ctx context.Context, n *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ns := n.atime.Swap(0)
	rec := n.rec.Load()
	if ns == 0 || rec == nil || rec.Meta.Nlinks == 0 {
		return
	}
	t, err := a.f.store.Begin(ctx, Cost{Leaves: 1})
	if err != nil {
		return
	}
	defer t.End()
	a.f.update(t, n, func(m *ondisk.InodeMeta) { setAtimeNs(m, ns) })
}

func setAtimeNs(m *ondisk.InodeMeta, ns int64) {
	m.SetAtime(ns/int64(time.Second), uint32(ns%int64(time.Second)))
}
