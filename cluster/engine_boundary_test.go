package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// Symptom: the last round of a copy hung with its target, and all writers were
// held until the device was given up.
func TestEngineHoldEnds(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	began, end := make(chan Position), make(chan struct{})
	result := make(chan error, 1)
	hung := errors.New("the target hung")
	go func() {
		result <- e.hold(c.ctx, 20*time.Millisecond, func(at Position) error {
			began <- at
			<-end
			return hung
		})
	}()
	if at := <-began; at != e.committed() {
		t.Errorf("held at %v, committed is %v", at, e.committed())
	}
	put(t, e, 2000, "goes on")
	select {
	case err := <-result:
		t.Errorf("it ended before what it held for: %v", err)
	default:
	}
	close(end)
	if err := <-result; err != hung {
		t.Errorf("it ended with %v", err)
	}
	put(t, e, 2001, "goes on")
}

// While a txg waits for a quorum, whoever wants to hold the boundary does not
// keep others from hearing that there is none.
func TestEngineHoldWaitsNotForQuorum(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{OnNoQuorum: EIO})
	for i := range 2 {
		c.gone[i] = true
		c.fault[i].Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Write, Times: faultdev.Always})
	}
	if err := commitOn(e, c.ctx, file(e.nextT(), 2000, "waits")); !errors.Is(err, ErrNoQuorum) {
		t.Fatalf("commit without a quorum: %v", err)
	}
	err := e.hold(c.ctx, 20*time.Millisecond, func(Position) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it held: %v", err)
	}
	if err := commitOn(e, c.ctx, file(e.nextT(), 2001, "waits")); !errors.Is(err, ErrNoQuorum) {
		t.Errorf("the next commit: %v", err)
	}
}
