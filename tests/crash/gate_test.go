package crash

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A gate is a device that can be cut off from the process that uses it.
type gate struct {
	ondisk.Device              // for who looks at it while nobody uses it
	inside        sync.RWMutex // held by requests
	shut          atomic.Bool
	life          atomic.Int64         // of the device: it is another one when it had no power
	opens         atomic.Int64         // the last life in which it was opened
	fuse          atomic.Pointer[fuse] // burns with each request that changes something
}

var errShut = errors.New("cut off")

// do lets a request of that life through, unless the gate is shut.
func (g *gate) do(life int64, changes bool, request func() error) error {
	if changes {
		g.fuse.Load().burn()
	}
	g.inside.RLock()
	defer g.inside.RUnlock()
	if g.shut.Load() || life != g.life.Load() {
		return errShut
	}
	return request()
}

// drain waits until no request is inside of a gate that was shut: none of them
// reaches the device later.
func (g *gate) drain() {
	g.inside.Lock()
	defer g.inside.Unlock()
}

// opened is what a process has of the device, until that loses its power.
func (g *gate) opened() ondisk.Device {
	h := &handle{g.Device, g, g.life.Load()}
	g.opens.Store(h.life)
	return h
}

// A handle is one opening of a gate.
type handle struct {
	ondisk.Device
	g    *gate
	life int64
}

func (h *handle) ReadAt(p []byte, off int64) (n int, err error) {
	err = h.g.do(h.life, false, func() error { n, err = h.Device.ReadAt(p, off); return err })
	return n, err
}

func (h *handle) WriteAt(p []byte, off int64) (n int, err error) {
	err = h.g.do(h.life, true, func() error { n, err = h.Device.WriteAt(p, off); return err })
	return n, err
}

func (h *handle) Flush() error { return h.g.do(h.life, true, h.Device.Flush) }

func (h *handle) Discard(off, n int64) error {
	return h.g.do(h.life, true, func() error { return h.Device.Discard(off, n) })
}

// A fuse takes the power away in the middle of something: at the request with
// that number of those that the gates with it let through.
type fuse struct {
	left  atomic.Int64
	burnt atomic.Bool // from when it begins to blow
	once  sync.Once
	blow  func()
	blown chan struct{}
}

func newFuse(after int, blow func()) *fuse {
	f := &fuse{blow: blow, blown: make(chan struct{})}
	f.left.Store(int64(after))
	return f
}

// burn counts a request.
func (f *fuse) burn() {
	if f != nil && f.left.Add(-1) == 0 {
		f.out()
	}
}

// out blows it now, if it is not blown.
func (f *fuse) out() {
	f.once.Do(func() {
		f.burnt.Store(true)
		f.blow()
		close(f.blown)
	})
}
