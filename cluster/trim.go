package cluster

import (
	"context"
	"errors"
	"sync"

	"github.com/anvilfs/anvilfs/chain"
)

// ErrShutDown: the pool was told to behave as if its process had died.
var ErrShutDown = errors.New("shut down: nothing is written any more, unmount to go on")

// Trim tells the devices of all attached members which of their space is
// free. It returns the most bytes that a member had. errors.ErrUnsupported: no
// device takes such news.
func (p *Pool) Trim(ctx context.Context, o chain.TrimOptions) (uint64, error) {
	if p.opts.ReadOnly {
		return 0, ErrReadOnly
	}
	return p.engine.trim(ctx, o)
}

func (e *engine) trim(ctx context.Context, o chain.TrimOptions) (most uint64, err error) {
	var mu sync.Mutex
	deaf, members := 0, 0
	err = e.each(func(v *chain.Volume) error {
		n, err := v.Trim(ctx, o)
		mu.Lock()
		defer mu.Unlock()
		most = max(most, n)
		members++
		if errors.Is(err, errors.ErrUnsupported) {
			deaf++
			return nil
		}
		return err
	})
	if err == nil && deaf > 0 && deaf == members {
		return 0, errors.ErrUnsupported
	}
	return most, err
}

// Abandon makes the pool behave as after a crash of its process: what is not
// durable by now never will be, and no call changes anything any more. Close
// is still due; it writes nothing of what is in memory.
func (p *Pool) Abandon() {
	p.abandoned.Store(true)
	if p.closing.Swap(true) {
		return
	}
	why := ErrShutDown
	p.lastErr.Store(&why)
	p.cancel()
}
