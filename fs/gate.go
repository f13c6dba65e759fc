package fs

import (
	"context"
	"sync"
	"sync/atomic"
)

// gateClosed is what a closed gate has in front of the count of those inside.
const gateClosed = 1 << 40

// A gate lets requests in, all at once; while it is closed it keeps new ones
// out, and whoever closed it knows that nobody is inside.
type gate struct {
	inside atomic.Int64 // requests, plus gateClosed
	idle   chan struct{}
	turn   sync.Mutex // held by whoever closed it
	out    atomic.Pointer[outside]
}

// outside is what those wait for who came while the gate was closed.
type outside struct {
	open   chan struct{} // closed when it opens
	refuse chan struct{} // closed when they are to be sent away
	once   sync.Once     // of refuse
}

func newGate() *gate { return &gate{idle: make(chan struct{}, 1)} }

// enter waits while the gate is closed. false: the request is to fail, which
// does not happen to those that must be carried out.
func (g *gate) enter(must bool) bool {
	for g.inside.Add(1) >= gateClosed {
		o := g.out.Load()
		g.leave()
		refuse := o.refuse
		if must {
			refuse = nil
		}
		select {
		case <-o.open:
		case <-refuse:
			return false
		}
	}
	return true
}

func (g *gate) leave() {
	if g.inside.Add(-1) == gateClosed {
		select {
		case g.idle <- struct{}{}:
		default:
		}
	}
}

// Use keeps a rollback out until the result is called, as a request of the
// kernel does, for others who change files.
func (f *FS) Use() (done func(), err error) {
	if !f.gate.enter(false) {
		return nil, errIO
	}
	return f.gate.leave, nil
}

// close returns when all are out, or lets all in again if ctx ends first.
func (g *gate) close(ctx context.Context) error {
	g.turn.Lock()
	g.out.Store(&outside{open: make(chan struct{}), refuse: make(chan struct{})})
	for n := g.inside.Add(gateClosed); n != gateClosed; n = g.inside.Load() {
		select {
		case <-g.idle:
		case <-ctx.Done():
			g.open()
			return ctx.Err()
		}
	}
	return nil
}

// refuse sends away those who wait, and all who come before the gate opens.
func (g *gate) refuse() {
	o := g.out.Load()
	o.once.Do(func() { close(o.refuse) })
}

func (g *gate) open() {
	g.inside.Add(-gateClosed)
	close(g.out.Load().open)
	g.turn.Unlock()
}
