package cache

import (
	"errors"

	"github.com/anvilfs/anvilfs/ondisk"
)

// evict frees the segment whose turn it is. What was asked for while it was
// there goes to the main queue; from that queue itself, as far as it is no more
// than half a segment. Of the rest ghosts stay, unless nobody asked for it in the
// main queue. Only the filler calls it, and one segment is free.
func (s *Store) evict() error {
	q := small
	if len(s.fifo[main]) > 0 && len(s.fifo[small]) <= s.limit {
		q = main
	}
	if len(s.fifo[q]) == 0 {
		return errNothing
	}
	i := s.fifo[q][0]
	seg := &s.segs[i]
	var stay []slot
	room, slots := segmentSize, maxSlots
	if q == main {
		room, slots = room/2, slots/2
	}
	s.mu.Lock()
	s.fifo[q] = s.fifo[q][1:]
	for _, sl := range seg.slots {
		e, ok := s.index[sl.key]
		if !ok || e.seg != i || e.off != sl.off {
			continue
		}
		if e.hits > 0 && room >= int(sl.n) && len(stay) < slots {
			room -= int(sl.n)
			stay = append(stay, sl)
			continue
		}
		s.forget(sl.key, e)
		s.evicted.Add(1)
		if q == small || e.hits > 0 {
			s.ghosts.add(sl.key)
		}
	}
	s.mu.Unlock()
	err := s.goRound(seg, q, stay)
	s.release(i)
	return err
}

// errNothing cannot happen: segments are in a queue, free, or one of two that
// are being filled.
var errNothing = errors.New("nothing to evict")

// goRound moves blocks to the main queue. Nobody verifies them on the way: who
// asks for one does.
func (s *Store) goRound(seg *segment, q queue, stay []slot) error {
	if len(stay) == 0 {
		return nil
	}
	buf := ondisk.AlignedBuffer(segmentSize)
	if n, _ := seg.dev.ReadAt(buf, seg.off); n < len(buf) {
		stay = nil // they are lost
	}
	for _, sl := range stay {
		s.mu.Lock()
		e, ok := s.index[sl.key]
		s.mu.Unlock()
		if !ok {
			continue // found bad meanwhile
		}
		hits := uint8(0)
		if q == main {
			hits = e.hits - 1
		}
		if err := s.put(main, sl.key, buf[sl.off:sl.off+sl.n], hits); err != nil {
			return err
		}
	}
	return nil
}

// release makes a segment free. What still points to it does not any more.
func (s *Store) release(i int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg := &s.segs[i]
	for _, sl := range seg.slots {
		if e, ok := s.index[sl.key]; ok && e.seg == i {
			s.forget(sl.key, e)
		}
	}
	seg.slots = seg.slots[:0]
	s.free = append(s.free, i)
}

// ghosts are keys of blocks that left, the oldest leaving first. The store's
// lock guards them.
type ghosts struct {
	limit int
	known map[uint64]struct{}
	ring  []uint64
	next  int
}

func (g *ghosts) add(key uint64) {
	if g.limit == 0 {
		return
	}
	if g.known == nil {
		g.known = make(map[uint64]struct{})
	}
	if len(g.ring) < g.limit {
		g.ring = append(g.ring, key)
	} else {
		delete(g.known, g.ring[g.next])
		g.ring[g.next] = key
		g.next = (g.next + 1) % g.limit
	}
	g.known[key] = struct{}{}
}

// take reports whether a key is known, and forgets it.
func (g *ghosts) take(key uint64) bool {
	_, ok := g.known[key]
	delete(g.known, key)
	return ok
}
