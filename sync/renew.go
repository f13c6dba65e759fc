package resync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
)

// A Mender is a pool that repairs tables of snapshots, too: those of one node
// only, so that the snapshot is copied anew from another one.
type Mender struct {
	*cluster.Pool
	m *Manager
}

// NewMender returns one for the pool of m.
func NewMender(p *cluster.Pool, m *Manager) *Mender { return &Mender{p, m} }

// Repair is that of the pool; it returns when the copy is in place.
func (r *Mender) Repair(ctx context.Context, d cluster.Damage) error {
	err := r.Pool.Repair(ctx, d)
	switch {
	case err == nil || errors.Is(err, cluster.ErrPoolClosed):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case r.elsewhere(ctx, &d): // wherever its member is
		return fmt.Errorf("%v: %w: %w, %s: mount it by itself and scrub it, or delete it", &d, cluster.ErrNotRepaired, cluster.ErrElsewhere, d.Label)
	case !errors.Is(err, cluster.ErrCopyAnew):
		return err
	}
	err = r.m.Renew(ctx, d.Node, d.Label)
	switch {
	case err == nil:
		r.SnapshotRenewed(d.Node, d.Label)
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, cluster.ErrNotInSync): // nothing is wrong with the snapshot, nor is it to be deleted
		return fmt.Errorf("%v: %w: snapshot %s is copied anew once the member takes that: %w", &d, cluster.ErrNotRepaired, d.Label, err)
	}
	return fmt.Errorf("%v: %w: snapshot %s was not copied anew (%w): delete it, or anvilfs node replace MNT NODE DEVICE", &d, cluster.ErrNotRepaired, d.Label, err)
}

// elsewhere reports whether what is damaged is of another filesystem. While the list
// of snapshots cannot be read, that is not known.
func (r *Mender) elsewhere(ctx context.Context, d *cluster.Damage) bool {
	if d.Label == "" || d.Label == r.Pool.Label() {
		return false
	}
	names, err := r.SnapshotNames(ctx)
	return err == nil && !slices.ContainsFunc(names, func(n cluster.SnapshotName) bool { return n.Name == d.Label })
}

// Renew copies a snapshot of a node in sync from another one and puts the copy
// in place of what is there, in one commit. What readers have open stays.
func (m *Manager) Renew(ctx context.Context, node, name string) error {
	release, err := m.turn(ctx, snapshotsOf(node))
	if err != nil {
		return err
	}
	defer release()
	targets := m.peers.SnapshotTargets(ctx)
	i := slices.IndexFunc(targets, func(t cluster.SnapshotTarget) bool { return t.Name == node })
	if i < 0 {
		return fmt.Errorf("%s: %w", node, cluster.ErrNotInSync)
	}
	s := newSnapshotCopy(m.peers, targets[i], m.o)
	s.renew = true
	defer m.peers.SetResyncReport(node, nil)
	if _, err := s.plan(ctx); err != nil {
		return err
	}
	e, ok := s.state.Snapshot(name)
	if !ok {
		return cluster.ErrNoSnapshot
	}
	err = s.copyRoom(ctx, &e)
	if side := (*chain.DiffError)(nil); errors.As(err, &side) && side.Target {
		// The device does not give what the neighbours share with it, either.
		s.bare = true
		err = s.copyRoom(ctx, &e)
	}
	if err != nil && ctx.Err() == nil {
		return errors.Join(err, s.dropCopy(ctx))
	}
	return err
}

// dropOld makes way for a copy of what is there and cannot be read: what the name
// finds, or, if that is a root that cannot be read, what the key finds.
func (s *snapshotCopy) dropOld(ctx context.Context, txn *chain.Txn, e *cluster.SnapshotEntry) error {
	err := chain.ErrNoPFS
	if s.renew {
		err = txn.DeletePFS(ctx, e.Name)
	}
	if err != nil && s.damaged {
		_, err = txn.DropUnreadable(ctx, e.Name)
	}
	if errors.Is(err, chain.ErrNoPFS) {
		return nil
	}
	return err
}

// list notes which PFSs there are. A root that cannot be read is that of what is
// missing, or of something else.
func (s *snapshotCopy) list(ctx context.Context) (err error) {
	s.infos, err = s.target.Volume.PFSs(ctx)
	if s.damaged = err != nil; s.damaged && len(s.infos) > 0 {
		err = ctx.Err()
	}
	return err
}

// mayDrop says in advance whether dropOld would succeed.
func (s *snapshotCopy) mayDrop(ctx context.Context, e *cluster.SnapshotEntry) error {
	if !s.damaged {
		return nil
	}
	txn, err := s.target.Volume.Begin(ctx)
	if err != nil {
		return err
	}
	defer txn.Abort()
	_, err = txn.DropUnreadable(ctx, e.Name)
	return err
}

// turn waits until nothing else is done under that name.
func (m *Manager) turn(ctx context.Context, name string) (release func(), err error) {
	for {
		m.mu.Lock()
		n := m.node(name)
		if !n.running {
			n.running, n.ended = true, make(chan struct{})
			m.mu.Unlock()
			return func() {
				m.mu.Lock()
				n.end()
				m.mu.Unlock()
			}, nil
		}
		ended := n.ended
		m.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
