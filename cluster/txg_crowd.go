package cluster

import "time"

const (
	maxGather = time.Millisecond // that a commit is put off for others, at most
	gatherGap = 16               // commits that are not put off after nobody came
)

// A crowd is those who call Sync again and again, side by side. A commit that
// ends lets them all go, and they come back together; but the first of them
// would be alone in the next commit, and the others wait for that to end. So
// the first is held for a moment, until as many are there as were the last
// time. Who is alone waits for nobody.
type crowd struct {
	size int           // who waited for the last commit, or had come by its end
	took time.Duration // that commit
	skip int           // so many commits are not put off
}

// gather waits until as many want g durable as are expected, but not for long,
// and not if there is another reason to close it.
func (c *crowd) gather(p *Pool, g *group) {
	came := int(g.syncers.Load())
	if came == 0 || came >= c.size {
		return
	}
	if c.skip > 0 {
		c.skip--
		return
	}
	timer := time.NewTimer(min(c.took/2, maxGather))
	defer timer.Stop()
	for int(g.syncers.Load()) < c.size && !p.pressed(g) {
		select {
		case <-p.wish:
			continue
		case <-timer.C:
		case <-p.ctx.Done():
		}
		if int(g.syncers.Load()) == came {
			c.skip = gatherGap
		}
		return
	}
}

// pressed reports whether g is to be closed for more than a sync.
func (p *Pool) pressed(g *group) bool {
	return g.settle.Load() || g.load.memory.Load() >= p.budget.closeAt || p.dirty() > p.budget.soft
}

// note learns from the commit of g, whose end nobody was told of yet.
func (c *crowd) note(p *Pool, g *group, took time.Duration) {
	c.size = int(g.syncers.Load() + p.state.Load().open.syncers.Load())
	c.took = took
}
