package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/cluster"
)

// Types that the pool and we hand each other unchanged.
type (
	// A Record is an inode without its data. It is immutable once it was
	// handed over in either direction.
	Record = cluster.Inode
	// A Cost bounds what a call adds.
	Cost = cluster.Cost
	// A StatFS counts space.
	StatFS = cluster.StatFS
)

var _ Txn = (*cluster.Txn)(nil)

// OnPool is the pool as a Store. The only difference is that Begin returns
// an interface.
func OnPool(p *cluster.Pool) Store { return poolStore{p} }

// SnapshotsOf are the pool's snapshots.
func SnapshotsOf(p *cluster.Pool) Snapshots { return poolSnapshots{p} }

type poolSnapshots struct{ *cluster.Pool }

func (s poolSnapshots) Dropped() { s.Pool.Dropped() }

func (s poolSnapshots) OpenSnapshot(ctx context.Context, n cluster.SnapshotName) (SnapshotStore, error) {
	p, err := s.Pool.OpenSnapshot(ctx, n)
	if err != nil {
		return nil, err
	}
	return poolStore{p}, nil
}

type poolStore struct{ *cluster.Pool }

func (s poolStore) Before() Before { return s.Pool.Before() }

func (s poolStore) Begin(ctx context.Context, cost Cost) (Txn, error) {
	t, err := s.Pool.Begin(ctx, cost)
	if err != nil {
		return nil, err // not t: a nil *cluster.Txn is no nil Txn
	}
	return t, nil
}

func (s poolStore) BeginFree(ctx context.Context) (Txn, error) {
	t, err := s.Pool.BeginFree(ctx)
	if err != nil {
		return nil, err
	}
	return t, nil
}
