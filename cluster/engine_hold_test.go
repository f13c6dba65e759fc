package cluster

import (
	"errors"
	"testing"
	"time"
)

// Who gave a member back by joining lets go of it later still. The next resync
// may hold it by then: it must keep it, and be able to give it back.
func TestLateReleaseLeavesTheNextHold(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	put(t, e, 2000, "x")
	untilEqual(t, e)
	first, release, err := e.acquireTarget("b.img")
	check(t, err)
	check(t, e.join(first, first.Position))
	untilEqual(t, e)
	second, releaseSecond, err := e.acquireTarget("b.img")
	check(t, err)
	release()
	if err := e.join(first, first.Position); !errors.Is(err, errNotHeld) {
		t.Errorf("the first joins once more: %v", err)
	}
	if _, _, err := e.acquireTarget("b.img"); err == nil {
		t.Error("two hold it")
	}
	put(t, e, 2000, "y")
	check(t, e.join(second, second.Position))
	releaseSecond()
	untilEqual(t, e)
	put(t, e, 2000, "z")
	untilEqual(t, e)
	check(t, e.close(c.ctx))
}

// What looks at a pool while it closes, as metrics do, gets an answer.
func TestClosedPoolAnswers(t *testing.T) {
	t.Parallel()
	p := newTestCluster(t, 3).openPool(Options{})
	check(t, p.Close(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Status()
		p.StatFS()
		if _, _, err := p.Inode(t.Context(), 1); !errors.Is(err, ErrPoolClosed) {
			t.Errorf("a read: %v", err)
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not answer")
	}
}
