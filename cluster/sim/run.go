package sim

import (
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
)

// Run plays one seed. The error says which invariant broke, and when.
func Run(o Options) (Stats, error) {
	w := newWorld(o)
	w.faults()
	w.run(time.Duration(1000+w.rng.IntN(3000)) * time.Millisecond)
	w.heal()
	var late error
	for range 40 {
		w.run(w.now + 500*time.Millisecond)
		if late = w.settled(); late == nil || w.failure != nil {
			break
		}
	}
	if w.failure == nil {
		w.failure = late
	}
	if w.failure != nil {
		return w.stats, fmt.Errorf("seed %d: %w", o.Seed, w.failure)
	}
	return w.stats, nil
}

// heal ends all faults. One process goes on wanting to be primary.
func (w *world) heal() {
	w.calm = true
	w.logf("faults end")
	for _, p := range w.prims {
		clear(p.cut)
		clear(p.deaf)
	}
	for _, n := range w.nodes {
		if n.core == nil {
			n.open()
		}
	}
	for _, p := range w.prims[1:] {
		p.stop()
	}
	if w.prims[0].core == nil {
		w.prims[0].start()
		return
	}
	for _, n := range w.nodes {
		w.prims[0].reattach(n)
	}
}

// settled: L1 and L2, it serves and every node of the configuration is in
// sync.
func (w *world) settled() error {
	p := w.prims[0].core
	if p.Phase() != core.Serving || !p.Quorum() {
		return fmt.Errorf("L1: p0 does not serve, %v", p.Phase())
	}
	if !w.check.ancestor(w.check.top, p.Head()) {
		return fmt.Errorf("I9: %v lacks the committed %v", p.Head(), w.check.top)
	}
	recent := p.Committed()
	for range 40 { // some txgs may be on their way
		if prev := w.check.prev[recent]; !prev.IsZero() {
			recent = prev
		}
	}
	for _, n := range w.nodes {
		if !w.check.ancestor(recent, n.durable.Pos) {
			return fmt.Errorf("L2: %s is at %v, committed is %v", nodeName(n.id), n.durable.Pos, p.Committed())
		}
	}
	return nil
}
