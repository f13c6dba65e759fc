package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// lendPatience bounds the wait for what one member knows of its snapshots. Who
// does not answer in time lends no blocks: they are copied.
const lendPatience = 10 * time.Second

// A snapSource is a snapshot as calls of one group take blocks from it. It shows
// the snapshot as long as the group's overlay is read, deleted or not.
type snapSource struct {
	*snapshotEngine
	p *Pool
	// lends says that blocks may be shared: all members at hand have the snapshot,
	// or are in sync and will have made it when the group comes to them.
	lends bool
}

// snapSources are those of one overlay.
type snapSources struct {
	mu   sync.Mutex
	list []*snapSource
}

// snapUse orders groups that take blocks from snapshots and groups that delete
// them: a snapshot is deleted by the last group that takes from it, or later.
type snapUse struct {
	mu     sync.Mutex
	taken  map[ondisk.UUID]uint64 // by identity: the last group that takes blocks
	doomed map[ondisk.UUID]uint64 // the group that deletes it
	open   map[*snapSource]bool
}

// ShareSnapshot is ShareData with a source in a snapshot, which is in the list,
// or was when the call began. What cannot be shared is copied.
func (t *Txn) ShareSnapshot(ctx context.Context, s SnapshotName, src, srcOff, dst, dstOff, length uint64) (done uint64, err error) {
	if (srcOff|dstOff)%ondisk.LogicalBlock != 0 || max(srcOff, dstOff)+length > maxData {
		return 0, fmt.Errorf("inode %d: %d bytes at %#x of snapshot %q shared with %#x: not whole blocks", dst, length, srcOff, s.Name, dstOff)
	}
	return t.share(ctx, &sharer{src: src, snap: t.p.snapSource(ctx, t.g, s)}, srcOff, dst, dstOff, length)
}

// snapSource returns the snapshot for calls of a group.
func (p *Pool) snapSource(ctx context.Context, g *group, s SnapshotName) *snapSource {
	src := &snapSource{snapshotEngine: p.showSnapshot(s), p: p}
	src.lends = p.lenders(ctx, &src.entry) && p.snapUse.take(s.Clid, g.number)
	g.taken.mu.Lock()
	defer g.taken.mu.Unlock()
	for _, have := range g.taken.list {
		if have.entry.Clid == s.Clid && have.lends == src.lends {
			return have
		}
	}
	g.taken.list = append(g.taken.list, src)
	p.snapUse.opened(src)
	return src
}

// lenders reports whether all members at hand have the snapshot, so that a batch
// that takes blocks from it can be applied by each. Only for them: who comes
// later is brought in sync by a copy.
func (p *Pool) lenders(ctx context.Context, e *SnapshotEntry) bool {
	for _, n := range p.engine.volumes() {
		n.Limit = min(n.Limit, lendPatience)
		own, infos, err := n.look(ctx)
		if err != nil {
			return false
		}
		if e.On(infos, n.Fsid) == nil && (!n.InSync || own.Has(e.Name, e.Clid)) {
			return false // nor will a group that comes to it before make it
		}
	}
	return true
}

// take notes that a group takes blocks; false: a group before it deletes the
// snapshot.
func (u *snapUse) take(clid ondisk.UUID, group uint64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at, ok := u.doomed[clid]; ok && at < group {
		return false
	}
	if u.taken == nil {
		u.taken = make(map[ondisk.UUID]uint64)
	}
	u.taken[clid] = max(u.taken[clid], group)
	return true
}

// doom notes that a group deletes the snapshots of ops; false: a later one takes
// blocks from one of them.
func (u *snapUse) doom(ops []chain.PFSOp, group uint64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range ops {
		if ops[i].Kind == chain.OpDelete && u.taken[ops[i].Clid] > group {
			return false
		}
	}
	for i := range ops {
		if ops[i].Kind == chain.OpDelete {
			if u.doomed == nil {
				u.doomed = make(map[ondisk.UUID]uint64)
			}
			u.doomed[ops[i].Clid] = group
			delete(u.taken, ops[i].Clid) // none takes more
		}
	}
	return true
}

// beginDeletion is begin of a call that adds ops to its group.
func (p *Pool) beginDeletion(ctx context.Context, cost Cost, ops []chain.PFSOp) (*Txn, error) {
	for {
		t, err := p.begin(ctx, cost, true)
		if err != nil || p.snapUse.doom(ops, t.g.number) {
			return t, err
		}
		t.End() // the group that takes blocks is open, or was
	}
}

func (u *snapUse) opened(s *snapSource) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open == nil {
		u.open = make(map[*snapSource]bool)
	}
	u.open[s] = true
}

// close lets go of all snapshots: nobody reads any more.
func (u *snapUse) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for s := range u.open {
		s.drop()
	}
	u.open = nil
}

// close lets go of the snapshots of an overlay that nobody reads any more.
func (l *snapSources) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.list {
		u := &s.p.snapUse
		u.mu.Lock()
		delete(u.open, s)
		u.mu.Unlock()
		s.drop()
	}
	l.list = nil
}

func (s *snapSource) drop() { _ = s.close(context.Background()) } // it only lets go of views

// onView calls fn with the snapshot on one member after the other until it is
// read.
func (s *snapSource) onView(ctx context.Context, fn func(context.Context, *chain.View) error) error {
	views := s.views()
	defer func() {
		for _, v := range views {
			v.View.Release()
		}
	}()
	err := error(ErrNoQuorum)
	for i := range views {
		if err = fn(chain.Patient(ctx, s.p.opts.Deadline, nil), views[i].View); err == nil || ctx.Err() != nil {
			return err
		}
		var where *chain.NodeError
		errors.As(err, &where)
		s.reportRead(views[i].Node, 0, err, where)
	}
	return err
}

// readData is Pool.ReadData of the snapshot.
func (s *snapSource) readData(ctx context.Context, inum, off uint64, dst []byte) error {
	return s.onView(ctx, func(ctx context.Context, v *chain.View) error { return v.ReadData(ctx, inum, off, dst) })
}

// read fills block with what the source has.
func (s *snapSource) read(ctx context.Context, src *chain.Share, block []byte) error {
	return s.onView(ctx, func(ctx context.Context, v *chain.View) error {
		ref, ok, err := dataRef(ctx, v, src.Inum, src.Key)
		if err == nil && !(ok && src.Source(&ref)) {
			err = fmt.Errorf("snapshot %q: inode %d has another block at %#x: %w", src.Snap, src.Inum, src.Key, ondisk.ErrCorrupt)
		}
		if err != nil {
			return err
		}
		clear(block)
		return readWhole(ctx, v, src.Inum, &ref, block)
	})
}

// WantsSnapshot reports whether a batch takes blocks from a snapshot: a node
// without it cannot apply the batch.
func WantsSnapshot(b *chain.Batch) bool {
	for i := range b.Changes {
		if s := b.Changes[i].Share; s != nil && s.Snap != "" {
			return true
		}
	}
	return false
}
