package cluster

import (
	"context"

	"github.com/anvilfs/anvilfs/chain"
)

// keep adds the syncing group to what is logged.
func (p *Pool) keep() {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	s := p.state.Load()
	logged := s.logged
	if logged == nil {
		logged = newOverlay()
		logged.firstNew.Store(s.syncing.firstNew.Load())
	}
	logged.absorb(s.syncing.overlay)
	p.install(s.open, nil, logged, s.retained())
}

// make is build once what accounts are settled against is in the trees: from
// when there are accounts on, nothing is logged, but some may have been before.
func (p *Pool) make(ctx context.Context, g *group) (*chain.Batch, error) {
	// Who begins to keep accounts later does so in a later group.
	g.accounts = p.accounting.Load()
	if g.accounts && p.state.Load().logged != nil {
		if _, err := p.engine.commit(ctx, &chain.Batch{T: p.engine.nextT()}); err != nil {
			return nil, err
		}
		p.stateMu.Lock()
		s := p.state.Load()
		p.install(s.open, s.syncing, nil, p.views())
		p.stateMu.Unlock()
	}
	return p.build(ctx, g)
}

// mayLog reports whether a closed group may stay in the intent logs for a
// while: it is small, somebody waits for it, and nobody for the trees.
func (p *Pool) mayLog(g *group) bool {
	// What accounts hold is known to the trees only.
	small := g.load.memory.Load() <= loggedGroup && len(g.ops) == 0 && !g.accounts
	if p.opts.NoLog || !small || !g.hurry.Load() || g.settle.Load() {
		return false
	}
	logged := p.state.Load().logged
	return logged == nil || logged.load.memory.Load() <= p.budget.closeAt/loggedShare
}

const (
	loggedGroup = 1 << 20 // bytes in memory of a group that is logged
	loggedShare = 2       // of what an open group may grow to, all that is logged
)

// wantTree asks that the group, and all that was logged, comes into the trees
// when it is committed, whether there is anything in it or not.
func (g *group) wantTree() {
	g.settle.Store(true)
	g.touched.Store(true)
}

// Settle is Sync, and returns when nothing is in the intent logs only: what
// walks the trees finds all of it.
func (p *Pool) Settle(ctx context.Context) error {
	s := p.state.Load()
	if !s.open.touched.Load() && s.syncing == nil && s.logged == nil {
		return p.dropped()
	}
	// A group may be closed, and go into the log, while it is being asked for.
	for want := s.open.number; p.treed.Load() < want; {
		g := p.state.Load().open
		g.wantTree()
		if err := p.await(ctx, g); err != nil {
			return err
		}
	}
	return nil
}
