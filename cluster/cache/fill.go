package cache

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A fill is a block on its way to the device.
type fill struct {
	key   uint64
	block []byte
}

// fill is the one goroutine that writes.
func (s *Store) fill() {
	defer close(s.ended)
	s.load()
	s.warm.Store(true)
	idle := time.NewTimer(idleFlush)
	defer idle.Stop()
	for {
		select {
		case f := <-s.fills:
			s.pending.Add(-int64(len(f.block)))
			if err := s.take(f); err != nil {
				s.fail(err)
			}
			idle.Reset(idleFlush)
		case <-idle.C:
			if err := s.saveOpen(); err != nil {
				s.fail(err)
			}
		case <-s.quit:
			if (*s.failed.Load()) == errClosed {
				s.finish()
			}
			return
		}
	}
}

// finish writes what is on its way, on closing; what fails is lost.
func (s *Store) finish() {
	for {
		select {
		case f := <-s.fills:
			if s.take(f) != nil {
				return
			}
		default:
			_ = s.saveOpen() // as said
			return
		}
	}
}

// take keeps a block.
func (s *Store) take(f fill) error {
	s.mu.Lock()
	_, have := s.index[f.key]
	q := small
	if s.ghosts.take(f.key) {
		q = main
	}
	full := len(s.index) >= s.o.Entries
	s.mu.Unlock()
	if have {
		return nil
	}
	if full {
		if err := s.evict(); err != nil {
			return err
		}
	}
	// One segment stays free for blocks that go round.
	for i := s.open[q]; (i < 0 || !s.segs[i].fits(len(f.block))) && len(s.free) < 2; i = s.open[q] {
		if err := s.evict(); err != nil {
			return err
		}
	}
	if err := s.put(q, f.key, f.block, 0); err != nil {
		return err
	}
	s.filled.Add(1)
	s.fillBytes.Add(uint64(len(f.block)))
	return nil
}

// put appends a block to the open segment of a queue.
func (s *Store) put(q queue, key uint64, block []byte, hits uint8) error {
	if i := s.open[q]; i >= 0 && !s.segs[i].fits(len(block)) {
		if err := s.save(i, q); err != nil {
			return err
		}
		s.mu.Lock()
		s.segs[i].buf = nil
		s.fifo[q] = append(s.fifo[q], i)
		s.open[q] = -1
		s.mu.Unlock()
	}
	if s.open[q] < 0 {
		if err := s.begin(q); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.open[q]
	seg := &s.segs[i]
	off := seg.used
	copy(seg.buf[off:], block)
	seg.used = (off + len(block) + placeUnit - 1) &^ (placeUnit - 1)
	seg.slots = append(seg.slots, slot{key, uint32(off), uint32(len(block))})
	if s.failed.Load() != nil {
		return nil // closing: nobody asks any more
	}
	if old, ok := s.index[key]; ok {
		s.forget(key, old)
	}
	s.index[key] = entry{seg: i, hits: hits, off: uint32(off), n: uint32(len(block))}
	s.bytes += int64(len(block))
	return nil
}

func (seg *segment) fits(n int) bool {
	return seg.used+n <= segmentSize && len(seg.slots) < maxSlots
}

// begin opens a free segment for a queue.
func (s *Store) begin(q queue) error {
	if len(s.free) == 0 {
		return fmt.Errorf("no free segment for the %d that are full", len(s.segs))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.free) - 1
	i := s.free[last]
	s.free = s.free[:last]
	s.gen++
	seg := &s.segs[i]
	seg.gen, seg.buf, seg.used, seg.saved, seg.slots = s.gen, ondisk.AlignedBuffer(segmentSize), tableSize, 0, seg.slots[:0]
	s.open[q] = i
	return nil
}

// saveOpen writes what the open segments hold.
func (s *Store) saveOpen() error {
	for q := range queues {
		if i := s.open[q]; i >= 0 {
			if err := s.save(i, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// save writes what an open segment got since the last time: its blocks, then its
// table.
func (s *Store) save(i int32, q queue) error {
	seg := &s.segs[i]
	if seg.saved == seg.used {
		return nil
	}
	from := max(seg.saved, tableSize)
	if _, err := seg.dev.WriteAt(seg.buf[from:seg.used], seg.off+int64(from)); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	t := table{gen: seg.gen, queue: q, slots: seg.slots}
	b := ondisk.AlignedBuffer(tableSize)
	t.encode(b, s.o.Salt)
	if _, err := seg.dev.WriteAt(b, seg.off); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	seg.saved = seg.used
	return nil
}

// load reads the tables of an earlier mount, and says which segments are free.
func (s *Store) load() {
	type found struct {
		i int32
		t table
	}
	var all []found
	b := ondisk.AlignedBuffer(tableSize)
	for i := range s.segs {
		select {
		case <-s.quit:
			return
		default:
		}
		seg := &s.segs[i]
		t, err := table{}, errNoTable
		if n, _ := seg.dev.ReadAt(b, seg.off); n == len(b) {
			t, err = decodeTable(b, s.o.Salt)
		}
		if err != nil {
			s.free = append(s.free, int32(i))
			continue
		}
		all = append(all, found{int32(i), t})
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(b.t.gen, a.t.gen) })
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range all { // the newest first: of two of a key they are right
		loaded := len(s.fifo[small]) + len(s.fifo[main])
		if len(s.index)+len(f.t.slots) > s.o.Entries || loaded >= len(s.segs)-2 {
			s.free = append(s.free, f.i)
			continue
		}
		seg := &s.segs[f.i]
		seg.gen, seg.slots = f.t.gen, f.t.slots
		s.gen = max(s.gen, f.t.gen)
		s.fifo[f.t.queue] = append(s.fifo[f.t.queue], f.i)
		for _, sl := range f.t.slots {
			if _, ok := s.index[sl.key]; !ok && s.failed.Load() == nil {
				s.index[sl.key] = entry{seg: f.i, off: sl.off, n: sl.n}
				s.bytes += int64(sl.n)
			}
		}
	}
	for q := range s.fifo {
		slices.Reverse(s.fifo[q])
	}
}
