package sim

import (
	"errors"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// read reads a file from a node in sync, and the whole of it at times. What
// cannot be read there is answered by the next node; the node is mended.
func (p *prim) read() {
	w := p.w
	if !p.core.MayServe(p.clock()) {
		return
	}
	at := p.core.Committed()
	first := w.rng.IntN(len(w.nodes))
	for i := range w.nodes {
		n := w.nodes[(first+i)%len(w.nodes)]
		if !p.reaches(n) || n.taken != nil || n.core.State().Pos != at || n.core.State().Flags != 0 {
			continue
		}
		w.stats.Reads++
		f := w.rng.IntN(files)
		n.mayFail(0.1)
		matches := n.matches(at, f)
		n.calmReads()
		if matches {
			return
		}
	}
}

// matches compares a file, or with f < 0 all of them, with what they must be
// at a position: I9, I17. It is false if the node cannot read it.
func (n *node) matches(at core.Position, f int) bool {
	w, c := n.w, n.w.check.content[at]
	v := n.vol.view()
	if v == nil {
		n.condemn()
		return false
	}
	defer v.Release()
	var err error
	switch {
	case v.T() != at.T:
		w.fail("I12: the tree of %s is at %v instead of %v", nodeName(n.id), v.T(), at)
	case f < 0:
		err = c.check(bg, v)
	default:
		err = c.f[f].check(bg, v, f)
	}
	if err == nil {
		return true
	}
	n.vol.heard() // it may be an error that was injected just now
	if _, wrong := err.(*mismatch); wrong || !n.spoilt {
		w.fail("I9/I17: %s at %v: %v", nodeName(n.id), at, err)
		return false
	}
	w.logf("%s: %v", nodeName(n.id), err)
	n.mend(at, err)
	return false
}

// whole: I20, after a power cut each call is there with all it did or not at
// all. A call lies in one txg, so that a node has what some position has.
func (n *node) whole(d core.Durable) {
	w := n.w
	c := w.check.content[d.Pos]
	if n.spoilt || d.Flags != 0 || c == nil || !w.opt.sound() || !w.chance(0.5) && !n.opsCut {
		return
	}
	v := n.vol.view()
	if v == nil {
		w.fail("I20: %s at %v cannot be read", nodeName(n.id), d.Pos)
		return
	}
	defer v.Release()
	w.stats.Whole++
	if err := c.check(bg, v); err != nil {
		w.fail("I20: %s at %v after a power cut: %v", nodeName(n.id), d.Pos, err)
	}
	n.beside(c)
}

// mend rewrites one leaf from the copy of another node. Damage above the
// leaves loses whole ranges.
func (n *node) mend(at core.Position, err error) {
	w := n.w
	leaf, ok := leafOf(err)
	if !ok || !leaf.Single() {
		n.condemn()
		return
	}
	if n.taken != nil || n.busy() {
		return
	}
	n.granted = core.Position{}
	for _, o := range w.nodes {
		if o == n || o.core == nil || o.hung || o.taken != nil || o.core.State().Pos != at || o.core.State().Flags != 0 {
			continue
		}
		v := o.vol.view()
		if v == nil {
			continue
		}
		change, ok, err := leaf.Fetch(bg, v)
		v.Release()
		if err != nil || !ok {
			continue
		}
		written, err := n.vol.media.Rewrite(bg, leaf, change)
		w.logf("%s: rewritten from %s: %v %v", nodeName(n.id), nodeName(o.id), written, err)
		switch {
		case written:
			w.stats.Mended++
		case err != nil:
			n.condemn()
		}
		return
	}
}

// leafOf finds the place that an error is about.
func leafOf(err error) (cluster.Leaf, bool) {
	var r *rotten
	var e *chain.NodeError
	switch {
	case errors.As(err, &r):
		return r.leaf, true
	case errors.As(err, &e):
		return cluster.LeafOf(e), true
	}
	return cluster.Leaf{}, false
}

// condemn has a node copied anew, if a quorum stands without it.
func (n *node) condemn() {
	w := n.w
	top := w.check.top
	law := w.check.charterAt(top)
	rest := law.Config.HasQuorum(func(id ondisk.UUID) bool {
		o := w.nodes[id[0]-1]
		return o != n && o.core != nil && o.core.State().Flags == 0 && w.check.ancestor(top, o.durable.Pos)
	})
	if n.taken != nil || n.busy() || !rest && law.Config.IsMaster(n.id) {
		return
	}
	w.stats.Condemned++
	w.logf("%s is copied anew", nodeName(n.id))
	d := n.core.State()
	d.Flags |= core.Tainted
	n.step(core.Reset{State: d})
	for _, p := range w.prims {
		p.step(core.Detach{Node: n.id})
		p.reattach(n)
	}
}
