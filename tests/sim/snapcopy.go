package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	resync "github.com/anvilfs/anvilfs/sync"
)

// A snapCopy makes the snapshots of a node those of the list, which a copy of
// its PFS leaves as they are. The node takes part in the protocol meanwhile: what
// it does for it is done between the commits of the copy, which is parked then.
type snapCopy struct {
	resync.Peers // none of the others is asked for
	p            *prim
	n            *node
	task         *task
	between      bool // it stands between two commits
	rep          resync.Report
	err          error
}

// copySnapshots begins that on nodes which lag.
func (p *prim) copySnapshots() {
	for _, n := range p.w.nodes {
		if !n.lags || !p.reaches(n) || n.taken != nil || n.busy() || n.core.State().Flags != 0 ||
			!p.w.check.ancestor(n.core.State().Pos, p.core.Committed()) {
			continue
		}
		v := n.vol
		c := &snapCopy{p: p, n: n}
		t := cluster.SnapshotTarget{Name: nodeName(n.id), Volume: v.media.Volume(), Label: label, Fsid: n.id}
		o := p.w.copyOptions()
		n.chores = true
		v.run(func() { c.rep, c.err = resync.CopySnapshots(bg, c, t, o) })
		c.task = v.task
		n.later(c.advance)
	}
}

// advance goes on to the next flush, or to between two commits.
func (c *snapCopy) advance(f diskFault) (done bool) {
	n, w := c.n, c.n.w
	v := n.vol
	if !v.advance(f) {
		if j := n.waiting; c.between && j != nil {
			v.task, v.session.task = nil, nil
			v.parked = c
			n.chores, n.waiting = false, nil
			w.stats.Parked++
			n.start(j)
			return true
		}
		return false
	}
	n.chores = false
	w.logf("snapshots of %s: %v %v", nodeName(n.id), c.rep, c.err)
	if v.media.Volume().Failed() != nil {
		n.maybe = append(n.maybe, n.durable.Pos)
		n.crash(false)
		n.openLater(50 * time.Millisecond)
		return true
	}
	if c.err == nil {
		n.lags = false
		if c.rep.Path != "" {
			w.stats.CaughtUp++
		}
		if !n.spoilt && w.chance(0.3) {
			n.beside(w.check.content[n.core.State().Pos])
		}
	}
	if j := n.waiting; j != nil {
		n.waiting = nil
		n.start(j)
	}
	return true
}

// unpark goes on with a copy after the job that it made way for.
func (n *node) unpark() {
	v := n.vol
	if v == nil || v.parked == nil {
		return
	}
	c := v.parked
	v.parked = nil
	v.task, v.session.task = c.task, c.task
	n.chores = true
	n.later(c.advance)
}

// Admitted implements resync.Peers: a txg that finds no space is another row of faults.
func (c *snapCopy) Admitted() uint64 { return 0 }

// SpaceTaken implements resync.Peers.
func (c *snapCopy) SpaceTaken() {}

// SetResyncReport implements resync.Peers: it is called between two commits.
func (c *snapCopy) SetResyncReport(string, any) {
	c.between = true
	c.task.pause()
	c.between = false
}

// SnapshotSource implements resync.Peers.
func (c *snapCopy) SnapshotSource(_ context.Context, e *cluster.SnapshotEntry, not ...string) (*chain.View, string, error) {
	w := c.n.w
	first := w.rng.IntN(len(w.nodes))
	for i := range w.nodes {
		n := w.nodes[(first+i)%len(w.nodes)]
		if slices.Contains(not, nodeName(n.id)) || !c.p.reaches(n) || n.vol.media == nil {
			continue
		}
		vol := n.vol.media.Volume()
		if infos, err := vol.PFSs(bg); err != nil || e.On(infos, n.id) == nil {
			continue
		}
		if v, err := vol.View(bg, e.Name); err == nil {
			return v, nodeName(n.id), nil
		}
	}
	return nil, "", fmt.Errorf("snapshot %q: nobody within reach has it", e.Name)
}
