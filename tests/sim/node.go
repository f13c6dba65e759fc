package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A disk keeps what a node must not forget. There are two: imagined ones, on
// which a state is written and flushed at once, and real volumes.
type disk interface {
	// open reads the state, flushed. An error leaves the node down.
	open() (core.Durable, error)
	// begin starts a job, and step goes on with it to the next flush.
	begin(j *core.Job, before core.Durable)
	step(f diskFault) (done bool, r core.Result)
	// drain ends the work that is out as if nothing were wrong.
	drain()
	// close ends the process, whatever it is at. After a power cut the disk
	// holds what was flushed, and of the rest what chance left.
	close(power bool)
}

// A node is a process with a disk.
type node struct {
	w     *world
	index int
	id    ondisk.UUID
	core  *core.Node // nil while down
	life  int        // counts restarts: what belongs to an earlier life is void
	disk  disk
	vol   *volume // the disk, if it is a real one

	durable  core.Durable    // sure to survive a power cut
	maybe    []core.Position // where a cut may leave it instead, while work is out
	promise  uint32          // highest epoch an answer has promised
	skew     time.Duration   // of its clock
	drift    time.Duration   // per second
	taken    *copying        // by a resync
	wait     []time.Duration // before the next resync, by primary
	hung     bool
	spoilt   bool          // its disk was given silent faults
	voted    bool          // it is or was a master
	followed core.Position // the last one that was checked, of one that never was
	refused  error         // why it does not open: it has to be replaced

	lags   bool            // its snapshots may not be those of the list
	atOps  bool            // the job that is out does something to snapshots
	opsCut bool            // the power went then
	cloned map[string]bool // clones that it must have, by label

	granted core.Position // the last txg that was admitted against it
	isFull  bool          // its last job found no space
	noRoom  bool          // nor did its last job or copy
	chores  bool          // it looks for space
	waiting *core.Job     // for the end of that
}

func (n *node) clock() time.Duration { return n.w.clock(n.skew, n.drift) }

// open starts the process: what is in the cache is read, flushed, and only
// then told.
func (n *node) open() {
	n.life++
	d, err := n.disk.open()
	if err != nil {
		n.w.logf("%s does not open: %v", nodeName(n.id), err)
		if !n.spoilt {
			n.w.fail("I10: %s does not open: %v", nodeName(n.id), err)
		}
		n.refused = err
		n.openLater(time.Second)
		return
	}
	n.refused = nil
	n.found(d)
	n.skew, n.drift = n.w.newClock()
	n.core = core.NewNode(n.clock(), n.id, d, core.NodeOptions{
		Lease: n.w.lease, Quiet: n.w.lease / 4, Omit: n.w.opt.Omit})
	n.w.logf("%s opens at %v %v", nodeName(n.id), d.Pos, d.Flags)
	for _, p := range n.w.prims {
		p.reattach(n)
	}
}

// found checks what an open found: the state that was durable, or what the
// work that was cut off would have made of it, and nothing between: I10, I16.
func (n *node) found(d core.Durable) {
	if n.forgets(d) {
		n.durable, n.maybe = d, nil
		n.w.check.changed()
		return
	}
	if n.vol != nil && d.Pos != n.durable.Pos && !slices.Contains(n.maybe, d.Pos) {
		n.w.fail("I10: %s was at %v, might be at %v, and is at %v", nodeName(n.id), n.durable.Pos, n.maybe, d.Pos)
	}
	if d.Flags&core.Foreign != 0 {
		n.w.fail("I12: %s: tree and entry differ at %v", nodeName(n.id), d.Pos)
	}
	if n.vol != nil { // an imagined disk knows better
		n.durable = d
	}
	n.maybe = nil
	n.w.check.changed()
}

func (n *node) openLater(wait time.Duration) {
	life := n.life
	n.w.after(wait, func() {
		if n.core == nil && n.life == life {
			n.open()
		}
	})
}

// crash ends the process.
func (n *node) crash(power bool) {
	n.w.logf("%s crashes, power cut %v, durable %v", nodeName(n.id), power, n.durable.Pos)
	n.core, n.hung = nil, false
	if n.atOps {
		n.w.stats.OpsCut++
	}
	n.opsCut, n.atOps = n.atOps && power, false
	n.chores, n.waiting, n.granted = false, nil, core.Position{}
	n.life++
	if c := n.taken; c != nil {
		c.abandon()
	}
	n.disk.close(power)
	if power {
		n.w.check.changed()
	}
	for _, p := range n.w.prims {
		p.detach(n)
	}
}

func (n *node) step(ev core.Event) {
	if n.core == nil || n.hung {
		return
	}
	if _, done := ev.(core.Done); n.taken != nil && !done {
		return // a resync has it
	}
	for _, e := range n.core.Step(n.clock(), ev) {
		switch e := e.(type) {
		case core.Start:
			n.start(e.Job)
		case core.Send:
			n.w.check.answer(n.w, n, e.Msg)
			n.w.toPrimary(n, n.w.prims[e.To], e.Msg)
		}
	}
}

// start runs a job on the disk, flush by flush.
func (n *node) start(j *core.Job) {
	w := n.w
	if n.chores {
		n.waiting = j
		return
	}
	before := n.core.State()
	if j.Txg != nil && !j.Whole {
		w.check.record(w, j.Txg)
		if at := before.Pos; at != j.Txg.Prev {
			w.fail("I3: %s at %v applies %v, which follows %v", nodeName(n.id), at, j.Txg.Pos, j.Txg.Prev)
		}
	}
	n.maybe = append(n.maybe[:0], j.After(before).Pos)
	n.onSnapshots(j)
	n.disk.begin(j, before)
	n.later(func(f diskFault) bool {
		done, result := n.disk.step(f)
		if done {
			n.ended(j, result)
		}
		return done
	})
}

// later calls step after a while, again and again until the work is done. At
// times the disk hangs, is slow or fails.
func (n *node) later(step func(diskFault) (done bool)) {
	w, life := n.w, n.life
	wait := time.Duration(1+w.rng.IntN(8)) * time.Millisecond
	f := noFault
	if !w.calm {
		wait, f = w.diskFault(n, wait)
	}
	w.after(wait, func() {
		if n.life != life {
			return
		}
		if n.hung { // the request returned after all; the primary gave it up
			if n.taken != nil {
				n.taken.over = true
			}
			n.disk.drain()
			n.crash(false)
			n.openLater(10 * time.Millisecond)
			return
		}
		if !step(f) && n.life == life {
			n.later(step)
		}
	})
}

// ended takes in the end of a job.
func (n *node) ended(j *core.Job, r core.Result) {
	w := n.w
	n.maybe, n.atOps = nil, false
	switch r {
	case core.OK:
		w.check.durable(w, n, j)
		n.durable = j.After(n.core.State())
		n.noRoom = n.noRoom && j.Txg == nil
		if n.vol != nil && j.Txg != nil {
			n.operated(j.Txg.Pos, j.Txg.Batch.(*chain.Batch))
		}
		w.check.changed()
		if n.isFull && j.Txg != nil {
			n.isFull = false
			w.stats.Emptied++
		}
	case core.Full:
		if n.vol != nil {
			n.full(j)
		}
	case core.Broken:
		n.provoked(j)
		// The header may have reached the cache.
		n.maybe = []core.Position{j.After(n.core.State()).Pos}
	}
	n.unpark()
	n.step(core.Done{Result: r})
	if r == core.Broken && !n.spoiltJob() {
		n.reopen()
	}
}

// reopen closes a failed volume and opens it again.
func (n *node) reopen() {
	n.w.logf("%s failed and is opened again", nodeName(n.id))
	life := n.life
	n.w.after(5*time.Millisecond, func() { // its answer is on the way
		if n.life == life && n.core != nil {
			n.crash(false)
			n.openLater(time.Duration(20+n.w.rng.IntN(200)) * time.Millisecond)
		}
	})
}

// An imagined disk has a cache that a crash of the process leaves alone and a
// power cut may empty.
type imagined struct {
	n              *node
	durable, cache core.Durable
	kept           core.Durable // what a liar does not forget
	job            *core.Job
	before         core.Durable
	written        bool
}

func (d *imagined) open() (core.Durable, error) {
	if !d.n.w.opt.NoOpenFlush {
		d.durable = d.cache
	}
	d.n.durable = d.durable
	return d.cache, nil
}

func (d *imagined) begin(j *core.Job, before core.Durable) {
	d.job, d.before, d.written = j, before, false
}

func (d *imagined) step(f diskFault) (bool, core.Result) {
	switch {
	case f != noFault && !f.silent():
		return true, core.Broken
	case !d.written:
		if d.n.w.chance(0.01) && !d.n.w.calm {
			return true, core.Full
		}
		d.written = true
		d.cache = d.job.After(d.before)
		return false, core.OK
	}
	d.durable = d.cache
	if d.n.lies() && d.n.w.chance(0.1) {
		d.kept = d.cache
	}
	return true, core.OK
}

func (d *imagined) drain() { d.cache = d.job.After(d.before) }

func (d *imagined) close(power bool) {
	if !power {
		return
	}
	if d.n.lies() {
		d.forget()
		return
	}
	if d.n.w.chance(0.5) {
		d.durable = d.cache
	}
	d.cache = d.durable
	d.n.durable = d.durable
}

func nodeName(id ondisk.UUID) string { return fmt.Sprintf("n%d", id[0]-1) }
