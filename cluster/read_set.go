package cluster

import (
	"context"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
)

// Inodes calls fn for the records of those inodes, whose numbers ascend, that
// are on media and not changed since: what lies together there is read at
// once. Others are left out. After a node failed the next one begins again, so
// fn may see a record twice.
func (p *Pool) Inodes(ctx context.Context, inums []uint64, fn func(*Inode)) error {
	s := p.acquire()
	defer s.release()
	below := slices.DeleteFunc(slices.Clone(inums), func(inum uint64) bool { return !s.inTreeOnly(inum) })
	if len(below) == 0 {
		return nil
	}
	return p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
		return v.InodeSet(ctx, below, func(rec *chain.InodeRec) { fn(inodeOf(rec)) })
	})
}

// inodeOf is a record of the tree as the filesystem sees it.
func inodeOf(rec *chain.InodeRec) *Inode {
	in := &Inode{Meta: rec.Meta, Inline: rec.Inline, space: dataSpace(rec), spaceKnown: true}
	in.Meta.SharedTid = 0 // the node's own
	return in
}

// Space is what Blocks would say, if it is known: of a record that was read
// from media. Who changes an inode's data makes a new record, without it.
func (in *Inode) Space() (bytes uint64, known bool) { return in.space, in.spaceKnown }
