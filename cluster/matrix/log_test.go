package matrix

import (
	"testing/synctest"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// ofLog are all moments of the intent log; before the last, those at which m
// was not opened anew.
var ofLog = []moment{record, unleveled, wrap, replay}

// header is the newest header of m, and where it is.
func (r *run) header() (h *ondisk.VolumeHeader, off int64) {
	r.t.Helper()
	set, err := media.Open([]ondisk.Device{r.m.Copy()})
	r.check(err, "reading the headers")
	return set.Header(), set.Best.Off
}

// nearRingEnd lets the log of m go on so near to the end of its ring that a
// few txgs of the cell have it begin anew.
func (r *run) nearRingEnd() {
	r.t.Helper()
	h, off := r.header()
	_, end := chain.LogArea(h)
	h = h.Clone()
	h.Mark.Log = uint64(end) - 1<<20
	buf := make([]byte, ondisk.HeaderSize)
	h.Encode(buf)
	r.m.Scribble(off, buf)
}

// reachRecord changes things until a record of m is written, or that one which
// begins the ring anew.
func (r *run) reachRecord() <-chan error {
	r.t.Helper()
	h, _ := r.header()
	beg, end := chain.LogArea(h)
	trap := &rig.Trap{On: faultdev.Write, After: true, Do: r.fire,
		Match: func(off int64, n int) bool { return off >= beg && off < end }}
	if r.cell.at == wrap {
		trap.Match = func(off int64, n int) bool { return off == beg }
		trap.After = r.cell.dice(3).IntN(2) == 0
	}
	r.m.Arm(trap)
	pending := closedSync()
	for i := 0; !r.hasFired(); i++ {
		r.caughtUp() // nothing is logged while somebody is copied
		for range 4 {
			if err := r.life.caller.call(r.life.ctx); r.row().death == lives || !r.hasFired() {
				r.check(err, "call")
			}
		}
		c := make(chan error, 1)
		go func() { c <- r.syncIn(r.life.ctx) }()
		pending = c
		select {
		case <-r.fired:
		case err := <-c:
			synctest.Wait() // slaves get it then
			if pending = closedSync(); err != nil && !r.hasFired() || i > 200 {
				r.fail("the moment does not come: %v", err)
			}
		}
	}
	synctest.Wait()
	if r.cell.bare && r.row().stalls {
		select {
		case err := <-pending: // the fault was too late for it
			r.check(err, "the sync that was under way")
			pending = r.changeAndSync()
		default:
		}
	}
	return pending
}

// logSome has m hold a txg in its log that is not in its tree.
func (r *run) logSome() {
	r.t.Helper()
	for range 50 {
		r.caughtUp() // nothing is logged while somebody is copied
		for range 4 {
			r.check(r.life.caller.call(r.life.ctx), "call")
		}
		r.check(r.sync(r.limit), "sync")
		synctest.Wait() // slaves get it then
		h, _ := r.header()
		// Without the positions of the trees the first record is one too many.
		if _, err := chain.ReadLog(r.m.Copy(), h, nil); err != nil {
			return
		}
	}
	r.fail("nothing stays in the log of %s", r.m.Name)
}

// reachReplay ends the process, and the fault comes while the next one brings
// the log of m into its tree.
func (r *run) reachReplay() {
	r.t.Helper()
	r.logSome()
	r.die(r.cell.dice(26).IntN(2) == 0)
	r.bury()
	r.check(r.w.Restart(r.cell.dice(27)), "restarting")
	r.reachPromise()
}
