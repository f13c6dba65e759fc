package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// ErrLate: a device did not answer within the caller's patience. The read goes
// on without the caller; another node may be quicker.
var ErrLate = errors.New("no answer in time")

type patienceKey struct{}

// A patience is how long each read of a device is waited for.
type patience struct {
	limit time.Duration
	late  func() (back func())
}

// Patient returns a context under which reads of a device that takes longer
// than limit fail with ErrLate. late is called then, and what it returns when
// the device has answered after all; nil if nobody wants to know. Cached blocks cost nothing extra.
func Patient(ctx context.Context, limit time.Duration, late func() (back func())) context.Context {
	return context.WithValue(ctx, patienceKey{}, &patience{limit, late})
}

func (p *patience) read(dev ondisk.Device, buf []byte, at int64) error {
	done := make(chan error, 1)
	go func() { done <- readFull(dev, buf, at) }()
	timer := time.NewTimer(p.limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
	}
	if p.late != nil {
		back := p.late()
		go func() {
			<-done
			back()
		}()
	}
	return fmt.Errorf("%s: read of %d bytes at %#x: %w after %v", dev.Name(), len(buf), at, ErrLate, p.limit)
}
