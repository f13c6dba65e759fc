package sim

import (
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A node is a process with a disk. The disk has a cache that a crash of the
// process leaves alone and a power cut may empty.
type node struct {
	w     *world
	index int
	id    ondisk.UUID
	core  *core.Node // nil while down
	life  int        // counts restarts: what belongs to an earlier life is void

	durable, cache core.Durable
	skew           time.Duration // of its clock
	promise        uint32        // highest epoch an answer has promised
}

func (n *node) clock() time.Duration { return n.w.now + n.skew }

// open starts the process: what is in the cache is read, flushed, and only
// then told.
func (n *node) open() {
	n.life++
	n.skew = time.Duration(n.w.rng.IntN(100000)) * time.Millisecond
	state := n.cache
	if !n.w.opt.NoOpenFlush {
		n.durable = n.cache
	}
	n.core = core.NewNode(n.clock(), n.id, state, core.NodeOptions{
		Lease: n.w.lease, Quiet: n.w.lease / 4, Omit: n.w.opt.Omit})
	for _, p := range n.w.prims {
		p.reattach(n)
	}
}

// crash ends the process. A power cut also decides the fate of what was
// written but not flushed.
func (n *node) crash(power bool) {
	n.w.logf("%s crashes, power cut %v, cache %v durable %v", nodeName(n.id), power, n.cache.Pos, n.durable.Pos)
	n.core = nil
	n.life++
	if power {
		if n.w.chance(0.5) {
			n.durable = n.cache
		}
		n.cache = n.durable
		n.w.check.changed()
	}
	for _, p := range n.w.prims {
		p.detach(n)
	}
}

func (n *node) step(ev core.Event) {
	if n.core == nil {
		return
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

// start runs a job: the header is written, then flushed.
func (n *node) start(j *core.Job) {
	w, life := n.w, n.life
	if j.Txg != nil && !j.Whole {
		w.check.record(w, j.Txg)
		if at := n.core.State().Pos; at != j.Txg.Prev {
			w.fail("I3: %s at %v applies %v, which follows %v", nodeName(n.id), at, j.Txg.Pos, j.Txg.Prev)
		}
	}
	alive := func(f func()) func() {
		return func() {
			if n.life == life {
				f()
			}
		}
	}
	write := time.Duration(1+w.rng.IntN(15)) * time.Millisecond
	if !w.calm && w.chance(0.02) {
		write *= 100
	}
	if !w.calm && w.chance(0.01) {
		w.after(write, alive(func() { n.step(core.Done{Result: core.Full}) }))
		return
	}
	w.after(write, alive(func() { n.cache = j.After(n.core.State()) }))
	w.after(write+time.Duration(1+w.rng.IntN(10))*time.Millisecond, alive(func() {
		w.check.durable(w, n, j)
		n.durable = n.cache
		w.check.changed()
		n.step(core.Done{Result: core.OK})
	}))
}
