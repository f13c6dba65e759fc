package fs

import (
	"context"
	"slices"
)

// record returns the record of a pinned node. No lock is needed to look; who
// wants it to stay holds the node's lock. An inode that does not exist (any
// more) is errStale.
func (f *FS) record(ctx context.Context, n *node) (*Record, error) {
	if r := n.rec.Load(); r != nil {
		return r, nil
	}
	r, ok, err := f.store.Inode(ctx, n.inum)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errStale
	}
	// A writer that came between stored a newer one, which stays.
	n.rec.CompareAndSwap(nil, r)
	return n.rec.Load(), nil
}

// rlock pins and locks an inode shared; runlock undoes both.
func (f *FS) rlock(ctx context.Context, inum uint64) (*node, *Record, error) {
	n := f.table.pin(inum)
	n.mu.RLock()
	r, err := f.record(ctx, n)
	if err != nil {
		f.runlock(n)
		return nil, nil, err
	}
	return n, r, nil
}

func (f *FS) runlock(n *node) {
	n.mu.RUnlock()
	f.table.unpin(n)
}

// lock pins and locks an inode; unlock undoes both.
func (f *FS) lock(ctx context.Context, inum uint64) (*node, *Record, error) {
	n := f.table.pin(inum)
	n.mu.Lock()
	r, err := f.record(ctx, n)
	if err != nil {
		f.unlock(n)
		return nil, nil, err
	}
	return n, r, nil
}

func (f *FS) unlock(n *node) {
	n.mu.Unlock()
	f.table.unpin(n)
}

// A lockset is several inodes locked by one call.
//
// Invariant: a lock is waited for only while all locks held have smaller
// numbers, so no two calls can wait for each other.
type lockset struct {
	f     *FS
	nodes []*node // held, by increasing number
	room  [6]*node
}

func (f *FS) lockset() *lockset {
	s := &lockset{f: f}
	s.nodes = s.room[:0]
	return s
}

// cover locks inums as well; 0 is none. false means that all locks were let
// go on the way, and what was read under them must be read again.
func (s *lockset) cover(inums ...uint64) bool {
	for i, inum := range inums {
		if inum == 0 || s.node(inum) != nil {
			continue
		}
		n := s.f.table.pin(inum)
		if len(s.nodes) == 0 || s.nodes[len(s.nodes)-1].inum < inum {
			n.mu.Lock()
		} else if !n.mu.TryLock() {
			s.f.table.unpin(n)
			s.relock(inums[i:])
			return false
		}
		s.insert(n)
	}
	return true
}

// relock lets everything go and takes it again in order, more included.
func (s *lockset) relock(more []uint64) {
	var all []uint64
	for _, n := range s.nodes {
		all = append(all, n.inum)
	}
	s.unlock()
	for _, inum := range more {
		if inum != 0 {
			all = append(all, inum)
		}
	}
	slices.Sort(all)
	for _, inum := range slices.Compact(all) {
		n := s.f.table.pin(inum)
		n.mu.Lock()
		s.insert(n)
	}
}

func (s *lockset) insert(n *node) {
	i := len(s.nodes)
	for i > 0 && s.nodes[i-1].inum > n.inum {
		i--
	}
	s.nodes = slices.Insert(s.nodes, i, n)
}

// node returns the held node of inum, nil if it is not held.
func (s *lockset) node(inum uint64) *node {
	for _, n := range s.nodes {
		if n.inum == inum {
			return n
		}
	}
	return nil
}

// record returns the record of a held inode.
func (s *lockset) record(ctx context.Context, inum uint64) (*Record, error) {
	return s.f.record(ctx, s.node(inum))
}

// unlock lets all locks go; the set may be used again.
func (s *lockset) unlock() {
	for _, n := range s.nodes {
		s.f.unlock(n)
	}
	s.nodes = s.nodes[:0]
}
