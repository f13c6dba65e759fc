package chain

import (
	"encoding/binary"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

// tableShards spreads the cache's lock; a power of two.
const tableShards = 8

// cacheKey identifies a metadata block by place and content: with the check
// code in it, an address that was freed and written again never finds the old
// block. Blocks without a code are not cached for that reason.
type cacheKey struct {
	dataOff uint64
	mirror  ondisk.Tid
	code    uint64
}

func keyOf(ref *ondisk.Blockref) (key cacheKey, ok bool) {
	switch ref.CheckMethod() {
	case ondisk.CheckNone, ondisk.CheckDisabled:
		return cacheKey{}, false
	}
	return cacheKey{ref.DataOff, ref.MirrorTid, binary.LittleEndian.Uint64(ref.Check[:])}, true
}

// A tableCache holds decoded blocks - *table, *keySet, *InodeRec, *ondisk.Dirent - up
// to a number of bytes, least recently used ones leaving first. Entries are
// immutable and may be used after they left. Safe for concurrent use.
type tableCache struct {
	shards [tableShards]cacheShard
}

type cacheShard struct {
	mu      sync.Mutex
	entries map[cacheKey]*cacheEntry // guarded by mu, as all below
	list    cacheEntry               // ring of all entries but key sets, most recent at list.next
	keys    cacheEntry               // ring of key sets
	used    int64                    // bytes
	inKeys  int64                    // those of them in key sets
	turned  int64                    // bytes that came in since the beginning
	limit   int64                    // bytes
}

type cacheEntry struct {
	prev, next *cacheEntry
	key        cacheKey
	value      any
	size       int64
	stamp      int64 // of a key set: turned when it was last of use
}

// newTableCache returns a cache for about so many bytes; 0 or less caches nothing.
func newTableCache(bytes int64) *tableCache {
	c := new(tableCache)
	for i := range c.shards {
		s := &c.shards[i]
		s.entries = make(map[cacheKey]*cacheEntry)
		s.list.prev, s.list.next = &s.list, &s.list
		s.keys.prev, s.keys.next = &s.keys, &s.keys
		s.limit = bytes / tableShards
	}
	return c
}

func (c *tableCache) shard(k cacheKey) *cacheShard {
	return &c.shards[(k.dataOff>>10^k.code)%tableShards]
}

// get returns the decoded form of ref's block, nil if it is not there.
func (c *tableCache) get(ref *ondisk.Blockref) any {
	key, ok := keyOf(ref)
	if !ok {
		return nil
	}
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil {
		return nil
	}
	if s.list.next != e {
		e.unlink()
		s.pushFront(e)
	}
	e.stamp = s.turned
	return e.value
}

// put adds the decoded form of ref's block, which takes about size bytes.
func (c *tableCache) put(ref *ondisk.Blockref, value any, size int64) {
	key, ok := keyOf(ref)
	if !ok {
		return
	}
	s := c.shard(key)
	size += 128 // the entry and its place in the map
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil {
		s.remove(e)
	}
	s.add(&cacheEntry{key: key, value: value, size: size})
	s.turned += size
	for s.used > s.limit {
		s.evict()
	}
}

func (s *cacheShard) pushFront(e *cacheEntry) {
	list := &s.list
	if _, ok := e.value.(*keySet); ok {
		list = &s.keys
	}
	e.prev, e.next = list, list.next
	e.prev.next, e.next.prev = e, e
}

func (e *cacheEntry) unlink() { e.prev.next, e.next.prev = e.next, e.prev }

func (s *cacheShard) remove(e *cacheEntry) {
	e.unlink()
	delete(s.entries, e.key)
	s.used -= e.size
	if _, ok := e.value.(*keySet); ok {
		s.inKeys -= e.size
	}
}

// forget empties the cache.
func (c *tableCache) forget() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, e := range s.entries {
			s.remove(e)
		}
		s.mu.Unlock()
	}
}

// bytes is what the cache holds.
func (c *tableCache) bytes() (n int64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += s.used
		s.mu.Unlock()
	}
	return n
}

// A table is a decoded array of blockrefs: sorted, ranges apart, none EMPTY.
type table struct {
	refs []ondisk.Blockref
	kind treeKind // of the tree in which the elements were judged
}

// fits reports whether a cached table may be what ref stands for in o's tree.
// Another reference to the same block may give it another range, or be in
// another kind of tree: then it has to be judged again.
func (t *table) fits(o owner, ref *ondisk.Blockref) bool {
	n := len(t.refs)
	return t.kind == o.kind && (n == 0 || t.refs[0].Key >= ref.Key && t.refs[n-1].LastKey() <= ref.LastKey())
}

func (t *table) size() int64 { return int64(len(t.refs))*ondisk.BlockrefSize + 32 }

// search returns the index of the first element whose range ends at k or
// above; len(refs) if there is none.
func search(refs []ondisk.Blockref, k uint64) int {
	lo, hi := 0, len(refs)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if refs[mid].LastKey() < k {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// counts sums up the elements of an array the way a blockref to it carries it.
func counts(refs []ondisk.Blockref) (data, inodes uint64, leaves uint16) {
	n := 0
	for i := range refs {
		r := &refs[i]
		data += uint64(r.Size())
		switch r.Type {
		case ondisk.TypeInode:
			n++
			data += r.DataCount()
			inodes += r.InodeCount() + 1
		case ondisk.TypeIndirect:
			n += int(r.LeafCount)
			data += r.DataCount()
			inodes += r.InodeCount()
		default:
			n++
		}
	}
	return data, inodes, uint16(min(n, 65535))
}

// setCounts stores the counts of refs, the array behind ref, in ref.
func setCounts(ref *ondisk.Blockref, refs []ondisk.Blockref) {
	data, inodes, leaves := counts(refs)
	ref.SetCounts(data, inodes)
	ref.LeafCount = leaves
}
