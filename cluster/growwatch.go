package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/metered"
)

// errHangs: a device has had a request out for longer than the deadline.
var errHangs = errors.New("it does not answer")

// A growWatch sees whether the devices of a member that grows still answer. How
// long growing takes says nothing: it may copy much.
type growWatch struct {
	limit   time.Duration
	meters  []*metered.Meter
	opening atomic.Int64 // when a device was begun to be opened, ns since 1970; 0 = none is
	joined  atomic.Bool  // the new device is one that all wait for
}

// hangs reports whether one of them does not.
func (w *growWatch) hangs() bool {
	if at := w.opening.Load(); at > 0 && time.Since(time.Unix(0, at)) >= w.limit {
		return true
	}
	for _, m := range w.meters {
		if m.Oldest() >= w.limit {
			return true
		}
	}
	return false
}

// addition is add with its opening and its requests watched.
func (w *growWatch) addition(add Addition) *Addition {
	open, meter := add.Open, new(metered.Meter)
	w.meters = append(w.meters, meter)
	add.Open = func(ctx context.Context) (ondisk.Device, error) {
		w.opening.Store(time.Now().UnixNano())
		defer w.opening.Store(0)
		d, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return meter.Wrap(d), nil
	}
	return &add
}

// patiently returns what step returns, or errHangs: step goes on then, as long as
// the device takes, and what it returns goes to late.
func patiently[T any](w *growWatch, step func() (T, error), late func(T, error)) (T, error) {
	type result struct {
		of  T
		err error
	}
	done := make(chan result, 1)
	go func() {
		of, err := step()
		done <- result{of, err}
	}()
	tick := time.NewTicker(max(w.limit/8, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case r := <-done:
			return r.of, r.err
		case <-tick.C:
			if !w.hangs() {
				continue
			}
			go func() {
				r := <-done
				late(r.of, r.err)
			}()
			var none T
			return none, fmt.Errorf("%w: a request has been out for %v", errHangs, w.limit)
		}
	}
}
