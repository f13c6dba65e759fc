package matrix

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	resync "github.com/anvilfs/anvilfs/sync"
)

// A moment is what the member does when the fault comes.
type moment int

const (
	idle    moment = iota // mounted, and nothing is under way
	apply                 // it writes the blocks of a txg
	flushes               // the blocks are flushed, the header is not written
	promise               // in the election, at the header with its promise
	copying               // it is being resynced: the first block of the copy
	swap                  // ... at the header that puts the copy in place

	// Those of the intent log, which rows name in logs.
	record    // a txg is written into it, and not flushed
	unleveled // what was synced is there only
	replay    // it is brought into the tree while m is opened
	wrap      // its ring begins anew
	moments
)

var momentNames = [...]string{"idle", "mid-apply", "between flushes", "mid-promise", "mid-resync", "mid-swap",
	"mid-record", "logged only", "mid-replay", "ring begins anew"}

func (m moment) String() string { return momentNames[m] }

// A cell is one fault on one member at one moment.
type cell struct {
	row    *row
	member int
	at     moment
	bare   bool // with another master away, so that a majority needs this one
	seed   uint64
}

func (c cell) String() string {
	kind := "master"
	switch {
	case c.member >= masters+slaves && c.row.branch:
		kind = "soft master"
	case c.member >= masters+slaves:
		kind = "soft slave"
	case c.member >= masters:
		kind = "slave"
	}
	s := fmt.Sprintf("%s, %s %s, %s", c.row.name, kind, rig.Name(c.member), c.at)
	if c.row.fast {
		s = fmt.Sprintf("%s, %s", c.row.name, cacheMoments[c.at])
	}
	if c.bare {
		s += ", one master away"
	}
	return fmt.Sprintf("%s, seed %d", s, c.seed)
}

// dice decides what a cell leaves open. The same cell has the same.
func (c cell) dice(what uint64) *rand.Rand { return rand.New(rand.NewPCG(c.seed, what)) }

// mode is how a resync of the cell copies.
func (c cell) mode() resync.Mode {
	if c.row.copied {
		return resync.ModeShadow
	}
	return []resync.Mode{resync.ModeShadow, resync.ModeDirect, resync.ModeReplay}[c.dice(1).IntN(3)]
}

// memory is small where a returning member shall find the txgs it missed gone.
func (c cell) memory() int64 {
	if c.mode() == resync.ModeReplay {
		return 128 << 20
	}
	return 1 << 20
}

func (c cell) resync(log *slog.Logger) resync.Options {
	o := resync.Options{Logger: log}
	if c.mode() == resync.ModeShadow {
		o.DirectBytes, o.StepBytes, o.BatchBytes = 16<<10, 64<<10, 16<<10
	}
	return o
}

// play runs the cell in a bubble, where time costs nothing.
func (c cell) play(t *testing.T) {
	b, err := baseOne()
	if c.row.roomy || c.dice(2).IntN(2) == 1 {
		b, err = baseMany()
	}
	switch {
	case c.row.small:
		b, err = baseFull()
	case c.row.branch:
		b, err = baseBranch()
	}
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, c, b)
		defer r.end()
		r.row().play(r)
	})
}

// end leaves nothing behind in the bubble.
func (r *run) end() {
	if r.life != nil {
		r.w.Die(false)
		r.bury()
	}
	<-time.After(patience) // reads that others answered first are out as long as they are delayed
}

// script is what most rows do.
func script(r *run) {
	pending := r.reach()
	switch {
	case r.row().death != lives:
		r.rise()
	case r.life == nil: // the mount was refused: there is no majority without m
		r.heal()
		r.givenBack() // what hung had a lock, as long as its request was out
		r.check(r.open(), "mounting again")
	case r.cell.bare && r.row().stalls:
		r.stalled(pending)
		r.heal()
		r.resumed(pending)
	default:
		r.goesOn(pending)
		r.expect()
		r.heal()
	}
	r.finish()
}

// reach brings the member to the moment; the fault is there when it returns.
// What it returns is the end of the sync that was under way.
func (r *run) reach() <-chan error {
	r.t.Helper()
	if r.cell.at == promise {
		r.reachPromise()
		return closedSync()
	}
	r.check(r.open(), "mounting")
	r.work(3)
	r.caughtUp()
	if r.row().level {
		r.level()
	}
	if r.cell.at == replay {
		r.reachReplay()
		return closedSync()
	}
	r.takeAway()
	switch r.cell.at {
	case record, wrap:
		return r.reachRecord()
	case unleveled:
		r.logSome()
		r.fire()
	case idle:
		r.fire()
	case apply, flushes:
		for range 4 {
			r.check(r.life.caller.call(r.life.ctx), "call")
		}
		r.arm()
	case copying, swap:
		r.reachCopy()
	}
	if (r.cell.at == idle || r.cell.at == unleveled) && r.row().death == lives {
		for range 4 {
			r.check(r.life.caller.call(r.life.ctx), "call")
		}
	}
	pending := make(chan error, 1)
	go func() {
		if r.cell.at == flushes { // of a commit: what is logged has but one
			pending <- r.settleIn(r.life.ctx)
			return
		}
		pending <- r.syncIn(r.life.ctx)
	}()
	r.awaitMoment()
	return pending
}

func closedSync() <-chan error {
	c := make(chan error, 1)
	c <- nil
	return c
}

// takeAway has another master leave, if the cell wants that.
func (r *run) takeAway() {
	if !r.cell.bare {
		return
	}
	r.away = r.w.Members[(r.cell.member+1)%masters]
	r.check(r.life.pool.NodeOffline(r.life.ctx, r.away.Name), "node offline")
	r.work(2)
}

// arm sets the trap for the moment.
func (r *run) arm() {
	trap := &rig.Trap{On: faultdev.Write, Match: isBlock, Do: r.fire}
	switch r.cell.at {
	case flushes, promise, swap:
		trap.Match = isHeader
	case replay:
		if r.cell.dice(25).IntN(2) == 0 {
			trap.Match = isHeader
		}
	}
	trap.After = r.row().death != lives && r.cell.dice(3).IntN(2) == 0
	if r.ill != r.m {
		trap.Match, trap.Nth = nil, 1+r.cell.dice(29).IntN(2) // it has no blocks yet
	}
	r.ill.Arm(trap)
}

func isHeader(off int64, n int) bool { return off%ondisk.HeaderZone < ondisk.HeaderSize }

func isBlock(off int64, n int) bool { return off%ondisk.ZoneSize >= ondisk.ReservedSize }

// fire is the moment.
func (r *run) fire() {
	r.once.Do(func() {
		close(r.fired)
		r.note("the moment: %s", r.row().name)
		r.row().inject(r)
	})
}

func (r *run) awaitMoment() {
	r.t.Helper()
	select {
	case <-r.fired:
	case <-time.After(patience):
		r.fail("the moment does not come")
	}
	synctest.Wait()
}

// reachPromise mounts, and the fault comes while m promises.
func (r *run) reachPromise() {
	r.t.Helper()
	if r.cell.bare {
		r.away = r.w.Members[(r.cell.member+1)%masters]
		r.away.Pull()
	}
	r.arm()
	err := r.open()
	r.note("mounting: %v", err)
	if !r.hasFired() {
		r.fail("mounted before the moment came for %s: %v", r.m.Name, err)
	}
	switch {
	case r.row().death != lives:
	case err != nil && !r.cell.bare:
		r.fail("mounting with one bad member: %v", err)
	case err != nil:
		r.mustName(err.Error())
		r.life = nil
	}
}

// reachCopy lets m miss something, and the fault comes while that is copied.
func (r *run) reachCopy() {
	r.t.Helper()
	r.missSome()
	r.watchCopy()
	r.check(r.life.pool.NodeOnline(r.life.ctx, r.m.Name), "node online")
}

// missSome lets m miss something.
func (r *run) missSome() {
	r.t.Helper()
	r.check(r.life.pool.NodeOffline(r.life.ctx, r.m.Name), "node offline")
	for range 6 {
		r.work(5)
	}
}

// watchCopy sets the trap once m is being copied to.
func (r *run) watchCopy() {
	first := true
	want := r.cell.mode()
	if want == resync.ModeReplay { // the primary feeds it, or a run replays
		r.arm()
	}
	r.mu.Lock()
	r.onCopy = func(rep resync.Report) {
		ready := rep.State == resync.Planning && want == resync.ModeDirect
		if want == resync.ModeShadow {
			ready = rep.Mode == resync.ModeShadow && rep.BytesDone > 0
			if r.cell.at == swap {
				ready = rep.State == resync.Joining
			}
		}
		if ready && first {
			first = false
			r.arm()
		}
	}
	r.mu.Unlock()
}

// goesOn checks that the mount does not suffer.
func (r *run) goesOn(pending <-chan error) {
	r.t.Helper()
	select {
	case err := <-pending:
		r.check(err, "the sync that was under way")
	case <-time.After(r.limit):
		r.fail("the sync that was under way does not return")
	}
	r.work(4)
	r.reads()
	if st := r.life.pool.Status(); !st.Quorum.Held {
		r.fail("no quorum: %+v", st)
	}
}

// stalled checks that changes wait, and that the status says so.
func (r *run) stalled(pending <-chan error) {
	r.t.Helper()
	if r.cell.at == promise || r.cell.at == replay { // it was mounted before the fault could show
		pending = r.changeAndSync()
	}
	select {
	case err := <-pending:
		r.fail("a sync without a quorum returned: %v", err)
	case <-time.After(2 * deadline):
	}
	st := r.life.pool.Status()
	if st.Quorum.Held || st.Health != "stalled" || st.Next == "" {
		r.fail("the stall does not show in the status: %+v", st)
	}
	r.mustName(fmt.Sprintf("%+v", st.Nodes))
}

func (r *run) changeAndSync() <-chan error {
	pending := make(chan error, 1)
	go func() {
		if err := r.life.caller.call(r.life.ctx); err != nil {
			pending <- err
			return
		}
		pending <- r.syncIn(r.life.ctx)
	}()
	return pending
}

// resumed checks that what waited goes through by itself.
func (r *run) resumed(pending <-chan error) {
	r.t.Helper()
	select {
	case err := <-pending:
		r.check(err, "the sync that waited")
	case <-time.After(patience):
		r.fail("the sync that waited does not return: %+v", r.life.pool.Status())
	}
}

// expect waits until m was in one of the states that the row names, with a
// word about why.
func (r *run) expect() {
	r.t.Helper()
	ro := r.row()
	if ro.expect != nil {
		ro.expect(r)
	}
	if len(ro.want) == 0 || r.spared {
		return
	}
	r.until(fmt.Sprintf("%s in one of %v", r.m.Name, ro.want), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, s := range ro.want {
			if n, ok := r.seen[s]; ok {
				if s != "in-sync" && n.Error == "" {
					r.t.Errorf("%v: the status says %s without a reason", r.cell, s)
				}
				if ro.remedy && n.Next == "" {
					r.t.Errorf("%v: the status says %s without a remedy", r.cell, s)
				}
				return true
			}
		}
		return false
	})
}

// heal takes the fault away, or does what an operator would.
func (r *run) heal() {
	r.note("healing")
	r.ill.Fault().Clear()
	r.ill.Fault().Release()
	if h := r.row().heal; h != nil {
		h(r)
	}
}

// rise buries the dead process and mounts again.
func (r *run) rise() {
	r.t.Helper()
	r.bury()
	r.check(r.w.Restart(r.cell.dice(4)), "restarting")
	r.note("the next process")
	if b := r.row().between; b != nil {
		b(r)
	}
	r.check(r.open(), "mounting after the crash")
	r.settles()
	r.expect()
	r.heal()
}

// finish demands that all is as if nothing had been.
func (r *run) finish() {
	r.t.Helper()
	r.gather()
	r.healthy()
	for range 5 { // every header slot is written anew
		r.work(2)
		r.check(r.settleIn(r.life.ctx), "settling") // by a header, not in the log only
	}
	r.reads()
	if n := len(r.life.pool.Status().Nodes); n != nodes {
		r.fail("%d nodes in the status: %+v", n, r.life.pool.Status().Nodes)
	}
	r.healthy()
	r.level()
	r.verify()
}

// gather brings back whom the cell took away.
func (r *run) gather() {
	r.t.Helper()
	if r.away != nil {
		r.away.Plug(nil)
		r.check(r.life.pool.NodeOnline(r.life.ctx, r.away.Name), "node online")
	}
}

// level waits until every node has the last txg.
func (r *run) level() {
	r.t.Helper()
	r.until("everybody at the last txg", func() bool {
		st := r.life.pool.Status()
		for _, n := range st.Nodes {
			if n.T != st.Committed {
				return false
			}
		}
		return true
	})
}

func (r *run) row() *row { return r.cell.row }
