package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// NodeOffline detaches a node until NodeOnline. A soft node is to be taken
// away: it gets first what has been written up to now.
func (p *Pool) NodeOffline(ctx context.Context, name string) error {
	if ok, err := p.cacheVerb(ctx, "offline", name); ok {
		return err
	}
	if err := p.complete(ctx, name); err != nil {
		return err
	}
	return p.engine.offline(ctx, name)
}

// complete waits until a soft node that follows has all there is.
func (p *Pool) complete(ctx context.Context, name string) error {
	follows := func() (n NodeStatus, ok bool) {
		for _, n = range p.nodeStatus() {
			if n.Name == name || n.Fsid == name {
				return n, n.Soft() && (n.State == NodeInSync || n.State == NodeBehind)
			}
		}
		return n, false
	}
	if _, ok := follows(); !ok || p.opts.ReadOnly {
		return nil
	}
	if err := p.Sync(ctx); err != nil {
		return err
	}
	for end := time.Now().Add(p.opts.Deadline); time.Now().Before(end); {
		if n, ok := follows(); !ok || n.Lag == 0 {
			return nil
		}
		select {
		case <-time.After(waitLook / 10):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil // it is too slow, and as up to date as it is
}

// NodeOnline attaches a node again. What it missed is copied in the background.
func (p *Pool) NodeOnline(ctx context.Context, name string) error {
	if ok, err := p.cacheVerb(ctx, "online", name); ok {
		return err
	}
	return p.engine.online(ctx, name)
}

// NodeReplace puts another member in the place of a node. force allows it to
// have content.
func (p *Pool) NodeReplace(ctx context.Context, name string, with MemberSpec, force bool) error {
	if ok, err := p.cacheVerb(ctx, "replace", name); ok {
		return err
	}
	if err := p.front.spares(with.Name); err != nil {
		return err
	}
	return p.engine.replace(ctx, name, with, force)
}

// NodeAdd makes an empty device a member: a slave, or a master as soon as it
// is in sync. force allows it to have content.
func (p *Pool) NodeAdd(ctx context.Context, with MemberSpec, role ondisk.PFSType, force bool) error {
	if role == ondisk.PFSCache {
		return p.addCache(ctx, with, force)
	}
	if err := p.front.spares(with.Name); err != nil {
		return err
	}
	return p.engine.add(ctx, with, role, force)
}

// NodeRemove takes a member out of the cluster for good; its device is closed.
func (p *Pool) NodeRemove(ctx context.Context, name string) error {
	if ok, err := p.cacheVerb(ctx, "remove", name); ok {
		return err
	}
	return p.engine.remove(ctx, name)
}

// NodeSetRole makes a slave that is in sync a master, or a master a slave.
func (p *Pool) NodeSetRole(ctx context.Context, name string, role ondisk.PFSType) error {
	if ok, err := p.cacheVerb(ctx, "role", name); ok {
		return err
	}
	return p.engine.setRole(ctx, name, role)
}

// NodeDiscard gives up what only a foreign or tainted node has: it is resynced
// from the others.
func (p *Pool) NodeDiscard(ctx context.Context, name string) error {
	return p.engine.discard(ctx, name)
}

// What Wait can wait for.
const (
	WaitQuorum  = "quorum"  // changes can be committed
	WaitResync  = "resync"  // no node that can be reached is behind
	WaitHealthy = "healthy" // every node is in sync

	// WaitSnapshots: every node in sync has the snapshots of the list.
	WaitSnapshots = "snapshots"
)

// Wait returns when the pool is in the state that what names.
func (p *Pool) Wait(ctx context.Context, what string) error {
	met, ok := map[string]func(*Status) bool{
		WaitQuorum:  func(s *Status) bool { return s.Quorum.Held },
		WaitHealthy: func(s *Status) bool { return s.Health == PoolHealthy && s.settled() || s.Health == PoolReadOnly },
		WaitResync:  (*Status).resynced,

		WaitSnapshots: func(*Status) bool { return p.snapshotsComplete(ctx) },
	}[what]
	if !ok {
		return fmt.Errorf("wait for %q: want %s, %s, %s or %s", what, WaitQuorum, WaitResync, WaitHealthy, WaitSnapshots)
	}
	for {
		changed := p.engine.changed()
		s := p.Status()
		if met(&s) {
			return nil
		}
		if p.opts.ReadOnly && (what == WaitResync || what == WaitSnapshots) {
			return fmt.Errorf("wait for %s: %w: it brings no node up to date, a mount with rw does", what, ErrReadOnly)
		}
		select {
		case <-changed:
		case <-time.After(waitLook): // snapshots come without a change of nodes
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-p.ctx.Done():
			return ErrPoolClosed
		}
	}
}

const waitLook = 200 * time.Millisecond

// snapshotsComplete reports whether nobody lacks a snapshot, or has one that
// is to go.
func (p *Pool) snapshotsComplete(ctx context.Context) bool {
	table, _, err := p.snapshotTable(ctx)
	if err != nil {
		return false
	}
	for _, n := range p.engine.volumes() {
		infos, err := n.pfss(ctx)
		if err != nil || !n.InSync {
			return false
		}
		for i := range table.Entries {
			if table.Entries[i].On(infos, n.Fsid) == nil {
				return false
			}
		}
		for i := range infos {
			if p := &infos[i]; p.SnapshotOf(n.Fsid) && !table.Has(p.Label, p.Clid) {
				return false
			}
		}
	}
	return true
}

func (s *Status) resynced() bool {
	for _, n := range s.Nodes {
		if n.State == NodeResync || n.State == NodeBehind || n.State == NodeBranch {
			return false
		}
	}
	return s.settled()
}

// settled reports whether no change of members is under way, and nobody is about
// to take the place that it came for.
func (s *Status) settled() bool {
	return !s.Quorum.Changing && !slices.ContainsFunc(s.Nodes, func(n NodeStatus) bool { return n.State == NodeInSync && n.Replaces != "" })
}

// Changed returns a channel that is closed when nodes or quorum changed.
func (p *Pool) Changed() <-chan struct{} { return p.engine.changed() }

// ResyncWanted names the nodes that can be reached and are not in sync.
func (p *Pool) ResyncWanted() []string { return p.engine.resyncWanted() }

// AcquireTarget hands a node that is to be resynced to one user, until release.
func (p *Pool) AcquireTarget(name string) (*ResyncTarget, func(), error) {
	return p.engine.acquireTarget(name)
}

// PinSource pins the committed state of a node in sync other than not.
func (p *Pool) PinSource(ctx context.Context, not string) (Source, func(), error) {
	return p.engine.pinSource(ctx, not)
}

// Hold calls fn while nothing is committed, for at most limit.
func (p *Pool) Hold(ctx context.Context, limit time.Duration, fn func(Position) error) error {
	return p.engine.hold(ctx, limit, fn)
}

// Join lets a node that is at the committed position pos take part again.
func (p *Pool) Join(t *ResyncTarget, pos Position) error { return p.engine.join(t, pos) }

// Retained returns the txgs behind after, if they are still known.
func (p *Pool) Retained(after Position) ([]*chain.Batch, bool) { return p.engine.retained(after) }

// SetResyncReport makes Status show a resync run of a node; nil: it is over.
func (p *Pool) SetResyncReport(name string, report any) {
	e := &p.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if report == nil {
		delete(e.runs, name)
		return
	}
	if e.runs == nil {
		e.runs = make(map[string]any)
	}
	e.runs[name] = report
}
