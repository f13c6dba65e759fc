package matrix

import (
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// An errand is what an operator, or a copy that comes back, has the mount do
// when the fault comes.
type errand struct {
	// do is done beside the calls of programs, and returns when it has ended. After
	// an error, or a death, it is done again.
	do func(r *run, l *life) error
	// expected is called before do where calls tell the model; nil: do changes no
	// content that calls see.
	expected func(r *run)
	// taken reports whether do works on m, and cannot end before m is well.
	taken func(r *run) bool
	// copies reports whether do has m copied anew, whatever it missed.
	copies bool
	after  func(r *run) // what must be true when it has ended
}

// A mishap is what happens to m in an errand. Which one it is goes by the seed.
type mishap struct {
	name   string
	inject func(r *run)
	death  death
	want   cluster.NodeState
	heal   func(r *run)
}

func mishaps(deadly bool) []mishap {
	if deadly {
		return []mishap{
			{name: "process crash", inject: func(r *run) { r.die(false) }, death: killed},
			{name: "power cut", inject: func(r *run) { r.die(true) }, death: powerCut},
		}
	}
	return []mishap{
		{name: "write error", inject: rule(faultdev.Fail, faultdev.Write, 0), want: cluster.NodeFailed},
		{name: "flush error", inject: rule(faultdev.Fail, faultdev.Flush, 0), want: cluster.NodeFailed},
		{name: "disconnect", inject: func(r *run) { r.ill.Pull() }, want: cluster.NodeFailed, heal: func(r *run) { r.ill.Plug(nil) }},
		{name: "hung device", inject: hang, want: cluster.NodeHung},
	}
}

// meeting returns the row of an errand with what happens in this cell.
func (c cell) meeting() *row {
	if c.row.errand == nil {
		return c.row
	}
	list := mishaps(c.row.deadly)
	m := list[c.dice(20).IntN(len(list))]
	ro := *c.row
	ro.name += ": " + m.name
	ro.inject, ro.death, ro.heal, ro.stalls = m.inject, m.death, m.heal, true
	if m.want != "" {
		ro.want = []cluster.NodeState{m.want, cluster.NodeInSync} // if it passes before anyone looks
	}
	return &ro
}

// errandScript is what rows with an errand do.
func errandScript(r *run) {
	ended, pending := r.reachErrand()
	e := r.row().errand
	switch {
	case r.row().death != lives:
		r.rise()
		r.again(e)
	case r.cell.bare:
		r.stalled(ended)
		r.heal()
		r.resumed(ended)
	default:
		r.goesOnBeside(e, ended, pending)
	}
	if e.after != nil {
		e.after(r)
	}
	r.finish()
}

// goesOnBeside: the mount does not suffer, and the errand ends, or is refused
// and is done again when m is well.
func (r *run) goesOnBeside(e *errand, ended, pending <-chan error) {
	r.t.Helper()
	taken := e.taken != nil && e.taken(r)
	err, over := error(nil), false
	if !taken { // it does not wait for m
		if err, over = wait(ended, 4*deadline), true; err == errLate {
			r.fail("what was begun does not end")
		}
		r.settleModel(e, err)
	}
	r.goesOn(pending)
	if !taken {
		r.expect()
	}
	r.heal()
	if !over {
		if err = wait(ended, patience); err == errLate {
			r.fail("what was begun does not end when %s is well", r.m.Name)
		}
	}
	if err != nil {
		r.note("it was refused: %v", err)
		r.again(e)
	}
}

// settleModel takes back what calls would see of an errand that was refused.
func (r *run) settleModel(e *errand, err error) {
	switch {
	case e.expected == nil:
	case err == nil:
		r.model.synced(len(r.model.states) - 1)
	default:
		r.model.states = r.model.states[:len(r.model.states)-1]
	}
}

// again does the errand when everything is well.
func (r *run) again(e *errand) {
	r.t.Helper()
	r.reset()
	if r.row().branch {
		r.w.Members[theBranch].Plug(nil)
	}
	r.until("a mount that is well but for the errand", func() bool {
		for _, n := range r.life.pool.Status().Nodes {
			switch n.State {
			case cluster.NodeInSync, cluster.NodeBranch, cluster.NodeForeign:
			case cluster.NodeOffline:
				r.check(r.life.pool.NodeOnline(r.life.ctx, n.Name), "node online")
				return false
			default:
				return false
			}
		}
		return true
	})
	if e.expected != nil {
		e.expected(r)
	}
	err := wait(r.begin(e), patience)
	r.check(err, "doing it again")
	r.settleModel(e, nil)
}

var errLate = fmt.Errorf("it does not end")

func wait(c <-chan error, limit time.Duration) error {
	select {
	case err := <-c:
		return err
	case <-time.After(limit):
		return errLate
	}
}

// begin does the errand beside what follows.
func (r *run) begin(e *errand) <-chan error {
	ended, l := make(chan error, 1), r.life
	go func() {
		err := e.do(r, l)
		r.note("the errand has ended: %v", err)
		ended <- err
	}()
	return ended
}

// reachErrand brings m to the moment in the errand.
func (r *run) reachErrand() (ended, pending <-chan error) {
	r.t.Helper()
	e := r.row().errand
	if r.cell.at == promise {
		r.reachPromise()
		if r.row().death != lives {
			return nil, closedSync()
		}
		if e.expected != nil {
			e.expected(r)
		}
		return r.begin(e), closedSync()
	}
	r.check(r.open(), "mounting")
	r.work(3)
	r.caughtUp()
	r.takeAway()
	copied := r.cell.at == copying || r.cell.at == swap
	taken := e.taken != nil && e.taken(r)
	if copied {
		if !taken || !e.copies {
			r.missSome()
		}
		r.watchCopy()
	}
	for range 4 {
		r.check(r.life.caller.call(r.life.ctx), "call")
	}
	switch r.cell.at {
	case idle:
		if r.row().death == lives {
			r.fire()
		}
	case apply, flushes:
		r.arm()
	case copying, swap: // at once: a source is not used while its log holds something
		r.check(r.settleIn(r.life.ctx), "settling")
	}
	if e.expected != nil {
		e.expected(r)
	}
	done := r.begin(e)
	if copied && !taken {
		r.check(r.life.pool.NodeOnline(r.life.ctx, r.m.Name), "node online")
	}
	if r.cell.at == idle {
		r.fire()
	}
	synced := closedSync()
	if e.expected == nil {
		c := make(chan error, 1)
		go func() { c <- r.syncIn(r.life.ctx) }()
		synced = c
	}
	r.awaitMoment()
	return done, synced
}

// unlessBare is inner for cells in which all are there.
func unlessBare(inner func(c cell) string) func(c cell) string {
	return func(c cell) string {
		if why := notWhileBare(c); why != "" {
			return why
		}
		return inner(c)
	}
}
