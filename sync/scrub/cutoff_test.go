package scrub

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/anvilfs/anvilfs/cluster"
)

// Closed peers repair nothing once the mount ends. Others may, in the very moment in
// which it does: then nobody counts it.
type closed struct {
	Peers
	mount context.Context
}

func (c closed) Repair(ctx context.Context, d cluster.Damage) error {
	if c.mount.Err() == nil {
		return c.Peers.Repair(ctx, d)
	}
	<-ctx.Done() // the scrub hears of it in its turn
	return ctx.Err()
}

// An unmount in the middle of what a step found bad leaves nothing out: who goes on
// finds the rest again, and counts each place once.
func TestScrubCutOffGoesOn(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(9)
	r.unmount()
	const bad = 8
	for _, inum := range inums[:bad] {
		r.flip(1, r.block(1, label, inum, 0))
	}
	r.mount()
	var mu sync.Mutex // guards kept
	var kept []byte
	r.o.Save = func(s *State) error {
		mu.Lock()
		defer mu.Unlock()
		var err error
		kept, err = json.Marshal(s)
		return err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	n := 0
	r.told(func(cluster.Damage, string, error) {
		if n++; n == 2 {
			cancel() // the unmount
		}
	})
	m := NewManager(closed{r.pool, ctx}, r.o)
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	r.must(m.Start(0))
	<-done
	var state State
	r.must(json.Unmarshal(kept, &state))
	if s := state.Report; s.Bad != s.Repaired+s.Unrepaired || s.Bad == 0 || s.Bad == bad {
		t.Errorf("when it was cut off: %+v", s)
	}
	r.o.Load = func() *State { return &state }
	m = NewManager(r.pool, r.o)
	ctx, cancel = context.WithCancel(r.ctx)
	done = make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	r.until(func() bool { return m.Report().Phase == Done })
	cancel()
	<-done
	if rep := m.Report(); rep.Bad != bad || rep.Repaired != bad || rep.Unrepaired != 0 {
		t.Errorf("%+v", rep)
	}
	r.unmount()
	r.alone(inums)
}
