package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// A group goes into the log if it is small, somebody waits for it, and nobody for
// the trees; and if not too much is there.
func TestWhichGroupsAreLogged(t *testing.T) {
	const closeAt = 4 << 20
	p := &Pool{}
	p.budget.closeAt = closeAt
	fresh := func() *group {
		g := newGroup(1)
		g.hurry.Store(true)
		p.state.Store(&state{open: g})
		return g
	}
	logged := func(size int64) {
		o := newOverlay()
		o.load.memory.Store(size)
		p.state.Store(&state{open: p.state.Load().open, logged: o})
	}
	for _, c := range []struct {
		what string
		with func(g *group)
		want bool
	}{
		{"a small one", func(g *group) { g.load.memory.Store(loggedGroup) }, true},
		{"a large one", func(g *group) { g.load.memory.Store(loggedGroup + 1) }, false},
		{"one that nobody waits for", func(g *group) { g.hurry.Store(false) }, false},
		{"one whose waiter wants the trees", func(g *group) { g.settle.Store(true) }, false},
		{"an operation on a PFS", func(g *group) { g.ops = append(g.ops, chain.PFSOp{}) }, false},
		{"one that accounts are settled with", func(g *group) { g.accounts = true }, false},
		{"behind others", func(*group) { logged(closeAt / loggedShare) }, true},
		{"behind too many", func(*group) { logged(closeAt/loggedShare + 1) }, false},
	} {
		g := fresh()
		c.with(g)
		if got := p.mayLog(g); got != c.want {
			t.Errorf("%s may be logged: %v", c.what, got)
		}
	}
}

// A member logs txgs that ask for it and are nothing but leaves.
func TestWhichJobsAreLogged(t *testing.T) {
	before := core.Durable{Promised: core.Ballot{Epoch: 3, Cand: 7}}
	for _, c := range []struct {
		what string
		with func(j *core.Job, d *core.Durable)
		want bool
	}{
		{"a txg", func(*core.Job, *core.Durable) {}, true},
		{"a promise alone", func(j *core.Job, _ *core.Durable) { j.Txg = nil }, false},
		{"a whole state", func(j *core.Job, _ *core.Durable) { j.Whole = true }, false},
		{"a charter", func(j *core.Job, _ *core.Durable) { j.Txg.Charter = &core.Charter{} }, false},
		{"a higher promise", func(j *core.Job, _ *core.Durable) { j.Ballot.Epoch++ }, false},
		{"the promise of another", func(j *core.Job, _ *core.Durable) { j.Ballot.Cand++ }, false},
		{"what ends a distrust", func(_ *core.Job, d *core.Durable) { d.Flags = core.Tainted }, false},
		{"what does not ask for it", func(j *core.Job, _ *core.Durable) { j.Txg.Batch.(*chain.Batch).Log = false }, false},
	} {
		j, d := core.Job{Ballot: before.Promised, Txg: &core.Txg{Batch: &chain.Batch{Log: true}}}, before
		c.with(&j, &d)
		if got := new(Media).mayLog(&j, d); got != c.want {
			t.Errorf("%s may be logged: %v", c.what, got)
		}
	}
}

// Nothing is logged while a member is copied, or after somebody asked for views
// that are level.
func TestNothingIsLoggedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{began: time.Now(), members: []*member{{}, {}}}
		if !e.mayLog() {
			t.Error("nothing is logged while all is well")
		}
		e.members[1].hold = &hold{}
		if e.mayLog() {
			t.Error("a txg is logged while a member is copied")
		}
		e.members[1].hold = nil
		e.wantLevel()
		<-time.After(levelFor - time.Millisecond)
		if e.mayLog() {
			t.Error("a txg is logged while copies are compared")
		}
		<-time.After(time.Millisecond)
		if !e.mayLog() {
			t.Error("nothing is logged after copies were compared")
		}
	})
}

// A member whose log cannot be brought into its tree, since its device fails, is
// known to have failed then, not when something is written to it next.
func TestLevelOntoAFailedDevice(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{Commit: time.Hour})
	inum := makeFile(t, p, ondisk.InumRoot, "file", ondisk.ObjFile)
	write(t, p, inum, 0, []byte("content"))
	check(t, p.Sync(c.ctx))
	if p.state.Load().logged == nil {
		t.Fatal("a small txg that somebody waits for is not logged")
	}
	e := p.engine.(*engine)
	e.ask(func() { e.written = e.now() + time.Hour }) // nothing is sealed meanwhile
	c.fault[1].Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Write, Times: faultdev.Always})
	e.wantLevel()
	untilStates(t, e, "in-sync failed in-sync")
}
