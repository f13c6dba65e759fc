package fs

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Sizes of the inode table.
const (
	shardCount   = 64
	nodesDefault = 16384 // nodes kept that no call uses, about 1 KiB each
	evictTries   = 4     // nodes looked at for one to drop per node added
)

// A node is an inode in use: its lock and what is known about it. Only
// pinned nodes may be touched.
type node struct {
	inum uint64
	mu   sync.RWMutex

	// Both are nil until read, and never again. Changed under mu; attrs are
	// read from the store under mu, at least shared.
	rec   atomic.Pointer[Record]
	attrs atomic.Pointer[attrSet]

	// atime is the time of a read that is not stored yet, ns since 1970; 0
	// if there is none.
	atime atomic.Int64

	// ahead is what is read ahead of those who go through a directory; nil:
	// nobody did.
	ahead atomic.Pointer[ahead]

	pins int // calls that use the node; guarded by the shard's lock
}

// attrSet is a decoded attribute inode, never changed after it was stored.
type attrSet struct {
	list   []ondisk.Xattr
	exists bool // there is an attribute inode
}

// A shard is a part of the table.
type shard struct {
	mu      sync.Mutex
	nodes   map[uint64]*node
	refs    map[uint64]uint32   // references the kernel holds
	dirs    map[uint64]struct{} // directories with refs
	unnamed map[uint64]struct{} // inodes with refs that have no link left
	reborn  map[uint64]uint64   // see generation; only of inodes with refs
	unsized map[uint64]struct{} // see sizeUnknown; only of inodes with refs
}

// A table finds nodes and counts the kernel's references.
type table struct {
	shards   [shardCount]shard
	maxNodes int // per shard
}

func newTable(maxNodes int) *table {
	if maxNodes <= 0 {
		maxNodes = nodesDefault
	}
	t := &table{maxNodes: max(maxNodes/shardCount, 8)}
	for i := range t.shards {
		s := &t.shards[i]
		s.nodes = make(map[uint64]*node)
		s.refs = make(map[uint64]uint32)
		s.dirs = make(map[uint64]struct{})
		s.unnamed = make(map[uint64]struct{})
		s.reborn = make(map[uint64]uint64)
		s.unsized = make(map[uint64]struct{})
	}
	return t
}

func (t *table) shard(inum uint64) *shard { return &t.shards[inum%shardCount] }

// pin returns the node of inum, which stays until unpin.
func (t *table) pin(inum uint64) *node {
	s := t.shard(inum)
	s.mu.Lock()
	n := s.nodes[inum]
	if n == nil {
		n = &node{inum: inum}
		if len(s.nodes) >= t.maxNodes {
			s.evict()
		}
		s.nodes[inum] = n
	}
	n.pins++
	s.mu.Unlock()
	return n
}

func (t *table) unpin(n *node) {
	s := t.shard(n.inum)
	s.mu.Lock()
	n.pins--
	s.mu.Unlock()
}

// evict drops an unused node; map iteration starts at a random place.
func (s *shard) evict() {
	tries := 0
	for inum, n := range s.nodes {
		if n.pins == 0 {
			delete(s.nodes, inum)
			return
		}
		if tries++; tries == evictTries {
			return
		}
	}
}

// ref counts a reference that the kernel is about to be given.
func (t *table) ref(inum uint64, typ ondisk.ObjType) {
	s := t.shard(inum)
	s.mu.Lock()
	s.refs[inum]++
	if typ == ondisk.ObjDir {
		s.dirs[inum] = struct{}{}
	}
	s.mu.Unlock()
}

// held reports whether the kernel holds a reference to anything.
func (t *table) held() bool {
	held := false
	t.each(func(s *shard) { held = held || len(s.refs) > 0 })
	return held
}

// each calls fn for all shards, one after the other, with its lock held.
func (t *table) each(fn func(s *shard)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		fn(s)
		s.mu.Unlock()
	}
}

// all returns the inodes to which the kernel holds references.
func (t *table) all() (inums []uint64) {
	t.each(func(s *shard) { inums = slices.AppendSeq(inums, maps.Keys(s.refs)) })
	return inums
}

// directories returns those to which the kernel holds references, and the root,
// which it does not count.
func (t *table) directories() []uint64 {
	inums := []uint64{ondisk.InumRoot}
	t.each(func(s *shard) {
		for inum := range s.dirs {
			if inum != ondisk.InumRoot {
				inums = append(inums, inum)
			}
		}
	})
	return inums
}

// unref takes back count references and reports whether the inode has lost
// both its last name and its last reference.
func (t *table) unref(inum, count uint64) (dead bool) {
	s := t.shard(inum)
	s.mu.Lock()
	defer s.mu.Unlock()
	if left := uint64(s.refs[inum]); left > count {
		s.refs[inum] = uint32(left - count)
		return false
	}
	delete(s.refs, inum)
	delete(s.dirs, inum)
	delete(s.reborn, inum)
	delete(s.unsized, inum)
	_, dead = s.unnamed[inum]
	delete(s.unnamed, inum)
	return dead
}

// lost notes that the last link of inum is gone and reports whether nobody
// holds a reference, so that it is dead at once.
func (t *table) lost(inum uint64) (dead bool) {
	s := t.shard(inum)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs[inum] == 0 {
		return true
	}
	s.unnamed[inum] = struct{}{}
	return false
}

// found takes back lost: an unnamed inode was given a name.
func (t *table) found(inum uint64) {
	s := t.shard(inum)
	s.mu.Lock()
	delete(s.unnamed, inum)
	s.mu.Unlock()
}

// unlinked returns the inodes in use that have no link left.
func (t *table) unlinked() (inums []uint64) {
	t.each(func(s *shard) { inums = slices.AppendSeq(inums, maps.Keys(s.unnamed)) })
	return inums
}

// hold takes a reference to an inode without a link, unless it is dead.
func (t *table) hold(inum uint64) bool {
	s := t.shard(inum)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.unnamed[inum]; !ok {
		return false
	}
	s.refs[inum]++
	return true
}

// drain returns the unnamed inodes and forgets all references: the kernel is
// gone.
func (t *table) drain() []uint64 {
	var dead []uint64
	t.each(func(s *shard) {
		dead = slices.AppendSeq(dead, maps.Keys(s.unnamed))
		clear(s.unnamed)
		clear(s.refs)
		clear(s.dirs)
		clear(s.reborn)
		clear(s.unsized)
	})
	return dead
}
