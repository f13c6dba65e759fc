package chain

import (
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A keySet is what stays of a table of names when it leaves the cache: its
// keys, a sixteenth of it. Whoever makes a file asks first whether there is one of that
// name; in a directory that is larger than the cache each such question would
// read a table, to find nothing.
type keySet struct {
	keys []uint64
	kind treeKind // as in table
}

// keysOf returns the keys of a table of names; nil if it is something else.
func keysOf(value any) *keySet {
	t, ok := value.(*table)
	if !ok || len(t.refs) == 0 || t.kind == treeFile {
		return nil
	}
	s := &keySet{make([]uint64, len(t.refs)), t.kind}
	for i := range t.refs {
		if t.refs[i].Type != ondisk.TypeDirent {
			return nil
		}
		s.keys[i] = t.refs[i].Key
	}
	return s
}

// Key sets take at most this part of a cache, and go when they were of no use
// while so many times as much came in as the cache holds: what they say is of
// tables that commits have replaced, then.
const (
	keysShare = 3.0 / 4
	keysTurns = 16
)

// evict takes an entry out of a cache that is not empty. Of a table of names
// the keys stay.
func (s *cacheShard) evict() {
	oldest, e := s.keys.prev, s.list.prev
	if e == &s.list || oldest != &s.keys &&
		(float64(s.inKeys) > keysShare*float64(s.limit) || s.turned-oldest.stamp > keysTurns*s.limit) {
		s.remove(oldest)
		return
	}
	s.remove(e)
	if keys := keysOf(e.value); keys != nil {
		s.add(&cacheEntry{key: e.key, value: keys, size: keys.size() + 128})
	}
}

// add puts an entry in that is not there.
func (s *cacheShard) add(e *cacheEntry) {
	e.stamp = s.turned
	s.entries[e.key] = e
	s.pushFront(e)
	s.used += e.size
	if _, ok := e.value.(*keySet); ok {
		s.inKeys += e.size
	}
}

func (s *keySet) size() int64 { return int64(len(s.keys))*8 + 32 }

// fits is table.fits for the keys of a table.
func (s *keySet) fits(o owner, ref *ondisk.Blockref) bool {
	return s.kind == o.kind && s.keys[0] >= ref.Key && s.keys[len(s.keys)-1] <= ref.LastKey()
}

// holds reports whether there is a key in [r.lo, r.hi].
func (s *keySet) holds(r span) bool {
	i, _ := slices.BinarySearch(s.keys, r.lo)
	return i < len(s.keys) && s.keys[i] <= r.hi
}

// absent reports whether the cache alone says that there is no leaf with a key
// in r. false: one has to look.
func (r *treeReader) absent(o owner, refs []ondisk.Blockref, keys span) bool {
	for depth := 0; depth < maxDepth; depth++ {
		i := search(refs, keys.lo)
		if i == len(refs) || refs[i].Key > keys.hi {
			return true
		}
		ref := &refs[i]
		if ref.Type != ondisk.TypeIndirect || ref.LastKey() < keys.hi {
			return false
		}
		switch cached := r.cache.get(ref).(type) {
		case *keySet:
			return cached.fits(o, ref) && !cached.holds(keys)
		case *table:
			if !cached.fits(o, ref) {
				return false
			}
			refs = cached.refs
		default:
			return false
		}
	}
	return false
}
