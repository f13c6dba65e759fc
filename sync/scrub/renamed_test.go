package scrub

import (
	"context"
	"testing"
)

// A scrub goes on where it was with each member, by what the member is: devices
// change their names from boot to boot, and may even swap them.
func TestScrubGoesOnUnderOtherNames(t *testing.T) {
	r := newRig(t, 3)
	r.fill(40)
	j := newJob(r.pool, &r.o, &State{}, 0)
	if j.lanes["m0"].Node == "" || j.lanes["m0"].Node == j.lanes["m1"].Node {
		t.Fatalf("ids %q and %q", j.lanes["m0"].Node, j.lanes["m1"].Node)
	}
	// As it was kept when m0 was sdb, m1 was m0 and m2 was m1: the first was done.
	was := map[string]string{"sdb": "m0", "m0": "m1", "m1": "m2"}
	state := State{Report: Report{Phase: Verifying}, Lanes: make(map[string]*Place)}
	for name, is := range was {
		state.Lanes[name] = &Place{Node: j.lanes[is].Node, Report: LaneReport{Node: name}}
	}
	state.Lanes["sdb"].Done, state.Lanes["sdb"].Report.Bytes = true, 12345
	r.o.Load = func() *State { return &state }
	m := NewManager(r.pool, r.o)
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	r.until(func() bool { return m.Report().Phase == Done })
	cancel()
	<-done
	seen := make(map[string]int64)
	for _, l := range m.Report().Lanes {
		if l.Err != "" {
			t.Errorf("%s: %s", l.Node, l.Err)
		}
		seen[l.Node] = l.Bytes
	}
	if len(seen) != 3 || seen["m0"] != 12345 || seen["m1"] < 40*150_000 || seen["m2"] < 40*150_000 {
		t.Errorf("verified %v", seen)
	}
}
