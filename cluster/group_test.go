package cluster

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A group is built when the calls in it have ended: half a call would be
// committed otherwise.
func TestGroupSealWaits(t *testing.T) {
	g := newGroup(1)
	if !g.enter() {
		t.Fatal("a new group is closed")
	}
	var left, early atomic.Bool
	sealed := make(chan struct{})
	go func() {
		g.seal(nil)
		early.Store(!left.Load())
		close(sealed)
	}()
	for g.enter() { // until it takes no more
		g.leave()
		runtime.Gosched()
	}
	for range 10000 {
		runtime.Gosched()
	}
	left.Store(true)
	g.leave()
	<-sealed
	if early.Load() {
		t.Error("sealed under a call")
	}
}

// Sync covers what is being committed already, though the open group is empty.
func TestPoolSyncWaitsForWhatIsOnItsWay(t *testing.T) {
	p, e := openFake(t, Options{Commit: time.Hour}, formatted(t, 256<<20))
	defer closePool(t, p)
	makeFile(t, p, 1, "a", ondisk.ObjFile)
	e.set(func() { e.fail = errors.New("not yet") })
	if err := p.Sync(bg); err == nil {
		t.Fatal("the commit cannot have succeeded")
	}
	if s := p.state.Load(); s.syncing == nil || s.open.touched.Load() {
		t.Fatal("the group is not on its way")
	}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if err := p.Sync(ctx); err == nil {
		t.Error("durable, says Sync, while nothing is")
	}
	e.set(func() { e.fail = nil })
	mustSync(t, p)
}

// A call under way counts with its worst case when another is admitted: both
// together must fit.
func TestPoolCountsCallsUnderWay(t *testing.T) {
	p, _ := openFake(t, Options{}, formatted(t, 256<<20))
	defer closePool(t, p)
	for _, small := range []bool{false, true} { // large blocks have to find whole places, too
		most := Cost{Leaves: 1, Bytes: int64(p.StatFS().Avail) * 2 / 3, Small: small}
		first, err := p.Begin(bg, most)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(bg, 50*time.Millisecond)
		if second, err := p.Begin(ctx, most); err == nil {
			second.End()
			t.Errorf("two calls were promised two thirds of the space each, small blocks: %v", small)
		}
		cancel()
		first.End()
		again, err := p.Begin(bg, most)
		if err != nil {
			t.Fatal(err)
		}
		again.End()
	}
}
