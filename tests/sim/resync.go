package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/core"
	resync "github.com/anvilfs/anvilfs/sync"
)

// A copying is one resync of a node by a primary: the real Run, over the
// volumes of the nodes. Its goroutine and the world's take turns, so that it
// may use the world's state as its own.
type copying struct {
	w      *world
	p      *prim
	n      *node
	life   int // of p
	run    *resync.Run
	task   *task
	over   bool        // the step that is under way is the last one
	wake   func() bool // it waits until this is true; nil = for a flush
	joined bool
	err    error // of catchUp
}

var _ resync.Peers = (*copying)(nil)

// copyTo brings a node back, as soon as it is idle.
func (p *prim) copyTo(b core.Behind) {
	w, n, life, nlife := p.w, p.w.nodes[b.Node[0]-1], p.life, p.w.nodes[b.Node[0]-1].life
	ballot := p.core.Ballot()
	wait := time.Duration(5+w.rng.IntN(100)) * time.Millisecond
	if n.wait[p.index] > 0 {
		wait = n.wait[p.index]
	}
	p.later(wait, func() {
		if p.life != life || n.life != nlife || p.core.Ballot() != ballot || n.core == nil || n.taken != nil || n.hung || p.cut[n.index] {
			return // somebody else has it, or it will be attached anew
		}
		if n.core.State().Pos != b.Answer.Pos {
			p.reattach(n) // it came elsewhere meanwhile: a copy may have been made already
			return
		}
		votes := p.core.Charter().Config.IsMaster(n.id) && b.Answer.Flags == 0
		if p.core.Phase() != core.Serving && !(b.Urgent && votes) {
			p.copyTo(b)
			return
		}
		p.step(core.Detach{Node: n.id})
		p.takeIdle(n, nlife)
	})
}

// takeIdle waits for the job that is out.
func (p *prim) takeIdle(n *node, nlife int) {
	life := p.life
	if n.busy() {
		p.later(5*time.Millisecond, func() {
			if p.life == life && n.life == nlife && n.taken == nil && !n.hung {
				p.takeIdle(n, nlife)
			}
		})
		return
	}
	// A newer primary has it: what this one knows is old.
	if n.core.State().Promised.Epoch > p.core.Ballot().Epoch || p.core.Phase() < core.Barrier || p.core.Phase() > core.Serving {
		p.reattach(n)
		return
	}
	c := &copying{w: p.w, p: p, n: n, life: p.life}
	c.run = resync.NewRun(c, nodeName(n.id), p.w.copyOptions())
	n.taken, n.granted, n.lags = c, core.Position{}, p.w.kind.snaps
	p.w.stats.Resyncs++
	p.w.logf("p%d copies to %s at %v %v", p.index, nodeName(n.id), n.durable.Pos, n.core.State().Flags)
	if p.core.Phase() == core.Barrier {
		n.vol.run(c.catchUp)
	} else {
		n.vol.run(func() { // with the disk's task, flush by flush
			// No context is cancelled: which of two ends of a wait is seen
			// first would be up to the runtime.
			for !c.over && c.run.Step(bg) {
				c.task.pause()
			}
		})
	}
	c.task = n.vol.task
	n.later(c.advance)
}

// catchUp is how a mount copies the adopted state to a node that the barrier
// waits for.
func (c *copying) catchUp() {
	t, _, err := c.AcquireTarget("")
	if err != nil {
		c.err = err
		return
	}
	s, unpin, err := c.PinSource(bg, "")
	if err != nil {
		c.err = err
		return
	}
	defer unpin()
	if _, c.err = cluster.CatchUp(bg, t, s); c.err == nil {
		c.err = c.Join(nil, s.Position)
	}
}

// advance goes on to the next flush or the end.
func (c *copying) advance(f diskFault) (done bool) {
	if c.wake != nil && !c.wake() {
		return false
	}
	c.wake = nil
	c.over = c.over || !c.alive()
	if !c.n.vol.advance(f) {
		return false
	}
	c.end()
	return true
}

// alive reports whether the primary that copies is still one, and the node up.
func (c *copying) alive() bool {
	return c.n.taken == c && c.w.now >= c.p.sleep && c.p.life == c.life && c.p.core != nil && !c.p.cut[c.n.index] && !c.p.deaf[c.n.index]
}

// end gives the node back, whatever the resync made of it.
func (c *copying) end() {
	n, w := c.n, c.w
	c.run.Close()
	rep := c.run.Report()
	w.logf("%s after the copy: %v %v", nodeName(n.id), rep, c.err)
	n.taken = nil
	if n.vol.media.Volume().Failed() != nil {
		n.maybe = append(n.maybe, n.durable.Pos)
		n.crash(false)
		n.openLater(50 * time.Millisecond)
		return
	}
	if rep.State != resync.Done && !c.joined {
		n.noRoom = n.noRoom || strings.Contains(rep.Err, chain.ErrNoSpace.Error()) || errors.Is(c.err, chain.ErrNoSpace)
		n.wait[c.p.index] = min(2*max(n.wait[c.p.index], 50*time.Millisecond), time.Second)
		if c.giveBack() != nil {
			n.crash(false)
			n.openLater(50 * time.Millisecond)
		}
		return
	}
	n.wait[c.p.index] = 0
	n.noRoom = false
	if n.isFull {
		n.isFull = false
		w.stats.Emptied++
	}
	if rep.Mode == "" {
		rep.Mode = "whole" // by catchUp
	}
	w.stats.Copied[string(rep.Mode)]++
	if n.core != nil && !n.spoilt && w.chance(0.5) {
		w.stats.Verified++ // I18, I17: what was copied is what the source should have had
		n.matches(n.core.State().Pos, -1)
	}
}

// giveBack reads the state that the resync left; the node goes on from there.
func (c *copying) giveBack() error {
	n := c.n
	d, why, err := n.vol.media.Load(bg)
	if err != nil {
		return err
	}
	if why != "" {
		c.w.logf("%s: %s", nodeName(n.id), why)
	}
	n.found(d)
	n.taken = nil
	n.step(core.Reset{State: d})
	for _, p := range c.w.prims {
		p.reattach(n)
	}
	return nil
}

// abandon ends a copy whose node dies. The node's disk unwinds the task.
func (c *copying) abandon() {
	c.over = true
	c.n.taken = nil
	c.wake = nil
}

// Changed, and what follows it, is resync.Peers.
func (c *copying) Changed() <-chan struct{} { return nil }

// ResyncWanted implements resync.Peers.
func (c *copying) ResyncWanted() []string { return []string{nodeName(c.n.id)} }

// AcquireTarget implements resync.Peers. The node was taken before.
func (c *copying) AcquireTarget(string) (*cluster.ResyncTarget, func(), error) {
	if !c.alive() {
		return nil, nil, errGone
	}
	lost := false
	if err := c.n.vol.media.Level(bg); err != nil {
		if lost = c.n.vol.media.GiveUpLog(bg, err); !lost {
			return nil, nil, err
		}
	}
	if !c.alive() { // it took its time
		return nil, nil, errGone
	}
	d := c.n.core.State()
	trusted := !lost && c.p.core.Judge(answerOf(c.n))&core.Tainted == 0
	lead := c.p.core.Leads()
	if c.w.opt.Omit&core.OmitRaise != 0 {
		lead = core.Ballot{}
	}
	return c.n.vol.media.Target(d, c.p.core.Charter(), lead, trusted), func() {}, nil
}

// PinSource implements resync.Peers.
func (c *copying) PinSource(_ context.Context, not string) (cluster.Source, func(), error) {
	if !c.alive() {
		return cluster.Source{}, nil, errGone
	}
	for _, goal := range c.p.core.Goals(c.n.id) {
		if p := c.p.core; p.Phase() == core.Serving && goal != p.Head() && !c.w.check.ancestor(p.Committed(), goal) { // the head may not be sent yet
			c.w.fail("I18: p%d copies %v to %s, committed is %v", c.p.index, goal, nodeName(c.n.id), p.Committed())
		}
		if s, ok := c.sourceAt(goal); ok {
			return s, s.View.Release, nil
		}
	}
	return cluster.Source{}, nil, fmt.Errorf("nobody within reach has one of %v", c.p.core.Goals(c.n.id))
}

func (c *copying) sourceAt(goal core.Position) (cluster.Source, bool) {
	first := c.w.rng.IntN(len(c.w.nodes))
	for i := range c.w.nodes {
		n := c.w.nodes[(first+i)%len(c.w.nodes)]
		if n == c.n || !c.p.reaches(n) || n.taken != nil || n.core.State().Pos != goal || n.core.State().Flags != 0 {
			continue
		}
		v := n.vol.view()
		if v == nil {
			continue
		}
		if v.T() != goal.T {
			v.Release()
			continue
		}
		c.n.maybe = append(c.n.maybe, goal)
		return cluster.Source{Name: nodeName(n.id), View: v, Position: goal, Lineage: n.core.State().Charter.Lineage}, true
	}
	return cluster.Source{}, false
}

// Hold implements resync.Peers.
func (c *copying) Hold(ctx context.Context, _ time.Duration, fn func(cluster.Position) error) error {
	c.p.held++
	defer func() { c.p.held-- }()
	for c.alive() && !c.p.core.Free() {
		c.wake = func() bool { return !c.alive() || c.p.core.Free() }
		c.task.pause()
	}
	if !c.alive() || ctx.Err() != nil || c.n.taken != c {
		return errGone
	}
	c.w.stats.Held++
	return fn(c.p.core.Committed())
}

// Join implements resync.Peers.
func (c *copying) Join(_ *cluster.ResyncTarget, pos cluster.Position) error {
	if c.n.taken != c {
		return errGone
	}
	if err := c.n.vol.media.Mended(pos); err != nil {
		return err
	}
	c.joined = true
	return c.giveBack()
}

// Retained implements resync.Peers.
func (c *copying) Retained(after cluster.Position) ([]*chain.Batch, bool) {
	if !c.alive() {
		return nil, false
	}
	var out []*chain.Batch
	found := after == c.p.core.Committed() || after == c.p.core.Head()
	for _, x := range c.p.core.Window() {
		found = found || x.Prev == after
		if found && x.Pos.T > after.T {
			out = append(out, x.Batch.(*chain.Batch))
		}
	}
	return out, found
}

// SetResyncReport implements resync.Peers.
func (c *copying) SetResyncReport(string, any) {}

// Admitted implements resync.Peers.
func (c *copying) Admitted() uint64 { return 0 }

// SpaceTaken implements resync.Peers.
func (c *copying) SpaceTaken() {}

// SnapshotTargets implements resync.Peers. These runs are about nodes.
func (c *copying) SnapshotTargets(context.Context) []cluster.SnapshotTarget { return nil }

// SnapshotSource implements resync.Peers.
func (c *copying) SnapshotSource(_ context.Context, e *cluster.SnapshotEntry, _ ...string) (*chain.View, string, error) {
	return nil, "", fmt.Errorf("snapshot %q: nobody has it", e.Name)
}
