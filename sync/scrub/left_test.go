package scrub

import (
	"context"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Symptom: a node that was replaced or removed stayed in the status of the scrub as not
// in sync, and made it one that had not verified all, until the next one.
func TestNodeThatLeft(t *testing.T) {
	r := newRig(t, 4)
	r.fill(6)
	r.o.pause, r.o.patience = time.Millisecond, 50*time.Millisecond
	kept := 0 // lanes that a restart would go on with
	r.o.Save = func(s *State) error { kept = len(s.Lanes); return nil }
	m := NewManager(r.peers, r.o)
	run := func() {
		t.Helper()
		ctx, cancel := context.WithCancel(r.ctx)
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		r.end = m.Wait(r.ctx)
		cancel()
		<-done
	}
	r.must(m.Start(0))
	r.must(r.pool.NodeRemove(r.ctx, "m3"))
	run()
	if rep := m.Report(); r.end != nil || len(rep.Lanes) != 3 || kept != 3 {
		t.Errorf("it left while it was scrubbed: %v, %d lanes, %+v", r.end, kept, rep)
	}
	// One that was not there, or not to the end, is missed until it leaves.
	r.must(r.pool.NodeOffline(r.ctx, "m2"))
	r.must(m.Start(0))
	run()
	if rep := m.Report(); r.end == nil || len(rep.Absent) != 1 {
		t.Errorf("it is away: %v, %+v", r.end, rep)
	}
	r.must(r.pool.NodeOnline(r.ctx, "m2"))
	r.must(r.pool.Wait(r.ctx, cluster.WaitHealthy))
	r.must(m.Start(0))
	r.must(r.pool.NodeOffline(r.ctx, "m2"))
	run()
	if rep := m.Report(); r.end == nil || len(rep.Lanes) != 3 {
		t.Errorf("it went away: %v, %+v", r.end, rep)
	}
	r.must(r.pool.NodeRemove(r.ctx, "m2"))
	if rep := m.Report(); m.Wait(r.ctx) != nil || len(rep.Lanes) != 2 || len(rep.Absent) != 0 {
		t.Errorf("it left afterwards: %v, %+v", m.Wait(r.ctx), rep)
	}
	r.unmount()
}

func TestLeft(t *testing.T) {
	held := cluster.QuorumStatus{Held: true}
	nodes := []cluster.NodeStatus{{Fsid: "a", Role: ondisk.PFSMaster.String()}, {Fsid: "b", Role: ondisk.PFSNone.String()}}
	for _, c := range []struct {
		fsid string
		q    cluster.QuorumStatus
		want bool
	}{
		{"a", held, false}, {"b", held, true}, {"c", held, true}, {"", held, false},
		{"c", cluster.QuorumStatus{}, false}, // nobody can say
	} {
		if got := left(&cluster.Status{Quorum: c.q, Nodes: nodes}, c.fsid); got != c.want {
			t.Errorf("%q, %+v: %v", c.fsid, c.q, got)
		}
	}
}
