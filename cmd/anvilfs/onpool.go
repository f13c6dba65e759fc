package main

import (
	"context"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
)

// onPool is the pool as the filesystem wants to see it: the same calls, with
// the filesystem's own types for records.
func onPool(p *cluster.Pool) fs.Store { return poolStore{p} }

type poolStore struct{ *cluster.Pool }

func (s poolStore) Inode(ctx context.Context, inum uint64) (*fs.Record, bool, error) {
	in, ok, err := s.Pool.Inode(ctx, inum)
	if in == nil {
		return nil, ok, err
	}
	return &fs.Record{Meta: in.Meta, Inline: in.Inline}, ok, err
}

func (s poolStore) Begin(ctx context.Context, c fs.Cost) (fs.Txn, error) {
	t, err := s.Pool.Begin(ctx, cluster.Cost{Leaves: c.Leaves, Bytes: c.Bytes})
	if err != nil {
		return nil, err // not t, which is nil of another type
	}
	return poolTxn{t}, nil
}

func (s poolStore) BeginFree(ctx context.Context) (fs.Txn, error) {
	t, err := s.Pool.BeginFree(ctx)
	if err != nil {
		return nil, err
	}
	return poolTxn{t}, nil
}

func (s poolStore) StatFS() fs.StatFS { return fs.StatFS(s.Pool.StatFS()) }

type poolTxn struct{ *cluster.Txn }

func (t poolTxn) PutInode(r *fs.Record) {
	t.Txn.PutInode(&cluster.Inode{Meta: r.Meta, Inline: r.Inline})
}
