package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
)

// Run plays one seed. The error says which invariant broke, and when.
func Run(o Options) (Stats, error) {
	w := newWorld(o)
	defer w.end()
	if !w.kind.calm {
		w.faults()
	}
	w.run(w.kind.last)
	w.heal()
	var late error
	for range 40 {
		w.run(w.now + 500*time.Millisecond)
		if late = w.settled(); late == nil && !w.rotted || w.failure != nil {
			break
		}
	}
	if w.failure == nil {
		w.failure = late
	}
	switch {
	case w.failure != nil:
	case w.rotted:
		w.stats.Refused++
	case o.Volumes:
		w.compare()
	}
	w.stats.Seeds++
	if w.kind.calm {
		w.stats.Calm++
	}
	if w.kind.deep {
		w.stats.Deep++
	}
	if w.kind.full {
		w.stats.Crowded++
	}
	if w.kind.slots {
		w.stats.Slotted++
	}
	if w.failure != nil {
		return w.stats, fmt.Errorf("seed %d: %w", o.Seed, w.failure)
	}
	return w.stats, nil
}

// end lets the goroutines of calls that are still out come to theirs.
func (w *world) end() {
	for _, n := range w.nodes {
		n.core = nil
		if c := n.taken; c != nil {
			c.abandon()
		}
		n.disk.close(false)
	}
}

// heal ends all faults. One process goes on wanting to be primary.
func (w *world) heal() {
	w.calm, w.trim = true, true
	w.logf("faults end")
	for _, p := range w.prims {
		clear(p.cut)
		clear(p.deaf)
	}
	for _, n := range w.nodes {
		if n.vol != nil {
			n.vol.platter.honest()
		}
		if n.core == nil {
			n.openLater(0)
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
// sync, or named as one to be replaced.
func (w *world) settled() error {
	p := w.prims[0].core
	w.rotted = false
	if p.Phase() == core.Barrier && w.onlyOnRot(p) || w.undecided() {
		w.rotted = true
		return nil
	}
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
		if !n.unusable() && !w.check.ancestor(recent, n.durable.Pos) {
			return fmt.Errorf("L2: %s is at %v, committed is %v", nodeName(n.id), n.durable.Pos, p.Committed())
		}
	}
	return nil
}

// onlyOnRot: those who are exactly where the epoch begins have disks that damage
// silently, so that the others can get no copy. It may have been acknowledged:
// nothing short of an operator's word may drop it.
func (w *world) onlyOnRot(p *core.Primary) bool {
	return w.kind.damage != none && !slices.ContainsFunc(w.nodes, func(n *node) bool {
		return !n.spoilt && (n.durable.Pos == p.Adopted() || n.durable.Pos == p.Head())
	})
}

// compare reads every node in full, one that has damage after it was copied
// anew, and checks its media. Commits go on meanwhile: each is looked at in a
// moment of its own.
func (w *world) compare() {
	done := make([]bool, len(w.nodes))
	for range 120 { // of what a node copies each commit is waited for
		for i, n := range w.nodes {
			if !done[i] && n.sound() {
				done[i] = true
				n.proven()
			}
		}
		if w.failure != nil || !slices.Contains(done, false) {
			return
		}
		w.run(w.now + 100*time.Millisecond)
	}
	for i, n := range w.nodes {
		switch {
		case done[i] || w.failure != nil:
		case n.core == nil || n.core.State().Flags != 0:
			w.fail("L2: %s does not come back", nodeName(n.id))
		case n.lags && !n.spoilt:
			w.fail("L2: %s does not get the snapshots of the list", nodeName(n.id))
		default:
			w.fail("L2: %s is not whole in the end", nodeName(n.id))
		}
	}
}

// proven looks at what lies beside the content of a node that is sound, and at
// its media.
func (n *node) proven() {
	if n.unusable() {
		n.w.stats.Refused++ // a named refusal
		return
	}
	if n.w.kind.snaps {
		n.beside(n.w.check.content[n.core.State().Pos])
	}
	if !n.spoilt {
		n.vol.fsck()
	}
}

// sound reports whether a node is back, with all that it must have, or has to
// be replaced.
func (n *node) sound() bool {
	if n.unusable() {
		return true
	}
	return n.core != nil && n.taken == nil && !n.busy() && n.core.State().Flags == 0 && n.matches(n.core.State().Pos, -1) && (!n.lags || n.spoilt)
}
