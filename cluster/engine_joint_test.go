package cluster

import (
	"errors"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A batch that comes while the primary ends a change of members, as it does by
// itself after a crash half way, waited for ever.
func TestBatchDuringAChangeOfMembers(t *testing.T) {
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	untilEqual(t, e)
	r := &request{done: make(chan struct{})}
	e.ask(func() {
		members := e.primary.Charter().Config.Clone().Members
		members[2].Role = ondisk.PFSSlave
		e.step(core.Reconfigure{Members: members})
		r.b = file(e.primary.NextT(), 77, "x")
		r.manifest = Manifest(r.b)
		e.request = r
		e.submit()
		if r.sent != nil {
			t.Error("the batch did not have to wait")
		}
	})
	select {
	case <-r.done:
	case <-c.ctx.Done():
		t.Fatal("the batch is not committed")
	}
}

// Until the end of a change of members is committed, those before it count as
// well: taking one of them away then stalled the cluster.
func TestOfflineDuringAChange(t *testing.T) {
	c := newTestCluster(t, 2, ondisk.PFSSlave)
	e := c.mustStart(Options{})
	untilStates(t, e, "in-sync in-sync in-sync")
	var seen error
	for n := 0; seen == nil && n < 100; n++ {
		role := []ondisk.PFSType{ondisk.PFSMaster, ondisk.PFSSlave}[n%2]
		done := make(chan error, 1)
		go func() { done <- e.setRole(c.ctx, "c.img", role) }()
		for changing := true; changing; {
			e.ask(func() {
				ending := e.primary.Changing() && e.primary.Charter().Config.Joint == nil
				if seen == nil && ending && role == ondisk.PFSMaster {
					seen = e.spare(e.byName("b.img"))
					if seen == nil {
						seen = errors.New("a master that is still needed may go")
					}
					cfg := &e.primary.Charter().Config
					if r := e.report(e.byName("c.img"), cfg); r.Role != ondisk.PFSSlave {
						t.Errorf("reported as %v before that is decided", r.Role)
					}
				}
			})
			select {
			case err := <-done:
				check(t, err)
				changing = false
			default:
			}
		}
		untilStates(t, e, "in-sync in-sync in-sync")
	}
	if !errors.Is(seen, errChanging) {
		t.Fatalf("while a change of members ends: %v", seen)
	}
	if err := e.setRole(c.ctx, "c.img", ondisk.PFSMaster); err != nil && !strings.Contains(err.Error(), "already") {
		t.Fatal(err)
	}
	check(t, e.offline(c.ctx, "b.img"))
	put(t, e, 2000, "two of three")
}

// Nobody who waits for a healthy pool goes on while members are being changed: a
// crash then has those before the change decide, too.
func TestChangeOfMembersIsShown(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	e := p.engine.(*engine)
	untilEqual(t, e)
	e.ask(func() {
		members := e.primary.Charter().Config.Clone().Members
		members[2].Role = ondisk.PFSSlave
		e.step(core.Reconfigure{Members: members})
		e.refresh()
		if !e.changing() {
			t.Error("not while it is under way")
		}
	})
	during := Status{Quorum: QuorumStatus{Changing: true}}
	if during.settled() || during.resynced() {
		t.Error("settled while it is under way")
	}
	check(t, p.Wait(c.ctx, WaitHealthy))
	if st := p.Status(); st.Quorum.Changing || st.Quorum.Masters != 2 {
		t.Errorf("afterwards: %+v", st.Quorum)
	}
	settle(t, p)
}
