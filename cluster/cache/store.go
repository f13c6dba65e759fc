package cache

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Options say how a store works. Zero values are the defaults.
type Options struct {
	Salt     ondisk.UUID   // of the keys
	Entries  int           // bound of the index, and so of its memory; 0 = 100,000
	Patience time.Duration // a read is waited for so long; 0 = 50 ms
	Failed   func(error)   // told once when the device is given up; nil: nobody wants to know
}

const (
	entryBytes    = 96 // of memory, about: entry, slot, ghost
	leastSegments = 8
	queueBlocks   = 512
	queueBytes    = 16 << 20
	idleFlush     = time.Second // what was filled is written after so long
	maxBadReads   = 8           // in a row, until the device is given up
	longestRest   = time.Minute
)

// EntriesFor is how many entries an index may have within so many bytes.
func EntriesFor(bytes int64) int { return int(max(bytes/entryBytes, 1024)) }

// An entry is a block that is kept.
type entry struct {
	seg  int32
	hits uint8
	off  uint32
	n    uint32
}

// A segment is 1 MiB of the device.
type segment struct {
	dev   ondisk.Device
	off   int64
	gen   uint64
	slots []slot
	buf   []byte // of the one that is being filled
	used  int    // bytes of it
	saved int    // of them, on the device; 0 = not even the table
}

// A Store is a cache that is open. Its methods are safe for concurrent use.
type Store struct {
	o     Options
	limit int // segments that the small queue may have

	mu     sync.Mutex
	segs   []segment
	index  map[uint64]entry
	free   []int32
	fifo   [queues][]int32 // closed segments, the oldest first
	open   [queues]int32   // -1: none
	ghosts ghosts
	gen    uint64
	bytes  int64 // of blocks that are kept

	fills   chan fill
	pending atomic.Int64 // bytes in fills
	quit    chan struct{}
	ended   chan struct{}
	failed  atomic.Pointer[error]
	warm    atomic.Bool

	late     atomic.Int32 // reads that are out beyond the patience
	rest     atomic.Int64 // nanoseconds since began until which nothing is asked
	pause    atomic.Int64 // nanoseconds, the next rest
	badReads atomic.Int32
	began    time.Time

	hits, misses, lates, bad atomic.Uint64
	hitBytes, fillBytes      atomic.Uint64
	filled, evicted, refused atomic.Uint64
}

// errTooSmall: no cache worth having fits.
var errTooSmall = fmt.Errorf("a cache needs %d MiB of free space", leastSegments*segmentSize>>20)

// New returns a store in the free ranges of a volume. It reads the tables that
// are there in the background.
func New(ranges []chain.FreeRange, o Options) (*Store, error) {
	if o.Entries <= 0 {
		o.Entries = 100_000
	}
	o.Entries = max(o.Entries, 2*maxSlots) // what is being filled cannot be evicted
	if o.Patience <= 0 {
		o.Patience = 50 * time.Millisecond
	}
	s := &Store{
		o: o, index: make(map[uint64]entry), open: [queues]int32{-1, -1}, began: time.Now(),
		fills: make(chan fill, queueBlocks), quit: make(chan struct{}), ended: make(chan struct{}),
	}
	s.ghosts.limit = o.Entries / 2
	for _, r := range ranges {
		first := (r.Off + segmentSize - 1) &^ (segmentSize - 1)
		for off := first; off+segmentSize <= r.Off+r.Len; off += segmentSize {
			s.segs = append(s.segs, segment{dev: r.Dev, off: off})
		}
	}
	if len(s.segs) < leastSegments {
		return nil, errTooSmall
	}
	s.limit = max(1, len(s.segs)/10)
	go s.fill()
	return s, nil
}

// key is the name of a block here.
func (s *Store) key(id *chain.BlockID) uint64 {
	var b [len(s.o.Salt) + len(id)]byte
	copy(b[:], s.o.Salt[:])
	copy(b[len(s.o.Salt):], id[:])
	sum := sha256.Sum256(b[:])
	return binary.LittleEndian.Uint64(sum[:])
}

// Open implements chain.BlockCache.
func (s *Store) Open() bool { return s.failed.Load() == nil }

// Has implements chain.BlockCache.
func (s *Store) Has(id *chain.BlockID) bool {
	key := s.key(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.index[key]
	if !ok {
		s.misses.Add(1)
	}
	return ok
}

// Get implements chain.BlockCache.
func (s *Store) Get(ctx context.Context, id *chain.BlockID, n int, good func([]byte) error) ([]byte, bool) {
	key := s.key(id)
	s.mu.Lock()
	e, ok := s.index[key]
	if !ok || int(e.n) != n {
		s.mu.Unlock()
		s.misses.Add(1)
		return nil, false
	}
	if e.hits < 3 {
		e.hits++
		s.index[key] = e
	}
	seg := &s.segs[e.seg]
	var buf []byte
	if seg.buf != nil {
		buf = append([]byte(nil), seg.buf[e.off:e.off+e.n]...)
	}
	dev, off, gen := seg.dev, seg.off+int64(e.off), seg.gen
	s.mu.Unlock()
	if buf == nil {
		if buf = s.read(ctx, dev, off, n); buf == nil {
			s.misses.Add(1)
			return nil, false
		}
	}
	if good(buf) != nil {
		s.misses.Add(1)
		s.drop(key, e, gen)
		return nil, false
	}
	s.hits.Add(1)
	s.hitBytes.Add(uint64(n))
	return buf, true
}

// read reads from the device if it is quick; nil if it is not, or fails.
func (s *Store) read(ctx context.Context, dev ondisk.Device, off int64, n int) []byte {
	if s.late.Load() > 0 || int64(time.Since(s.began)) < s.rest.Load() {
		s.lates.Add(1)
		return nil
	}
	buf := ondisk.AlignedBuffer(n) // is the device's if it is late
	done := make(chan error, 1)
	go func() {
		got, err := dev.ReadAt(buf, off)
		if got == n {
			err = nil
		}
		done <- err
	}()
	timer := time.NewTimer(s.o.Patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return s.judge(buf, err)
	case <-timer.C:
	case <-ctx.Done():
	}
	// Others pass the device by until it has answered, and then for a while,
	// each time for longer.
	s.lates.Add(1)
	s.late.Add(1)
	go func() {
		<-done
		pause := max(s.pause.Load(), int64(s.o.Patience))
		s.pause.Store(min(2*pause, int64(longestRest)))
		s.rest.Store(int64(time.Since(s.began)) + pause)
		s.late.Add(-1)
	}()
	return nil
}

// judge takes the end of a read that came in time.
func (s *Store) judge(buf []byte, err error) []byte {
	if err == nil {
		s.badReads.Store(0)
		s.pause.Store(0)
		return buf
	}
	if s.badReads.Add(1) >= maxBadReads {
		s.fail(fmt.Errorf("reads fail: %w", err))
	}
	return nil
}

// drop forgets a block that turned out to be another, unless its segment was
// filled anew while it was read.
func (s *Store) drop(key uint64, e entry, gen uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.segs[e.seg].gen != gen {
		return
	}
	s.bad.Add(1)
	if now, ok := s.index[key]; ok && now.seg == e.seg && now.off == e.off {
		s.forget(key, now)
	}
}

// forget takes an entry out of the index. The caller holds mu.
func (s *Store) forget(key uint64, e entry) {
	delete(s.index, key)
	s.bytes -= int64(e.n)
}

// Put implements chain.BlockCache.
func (s *Store) Put(id *chain.BlockID, stored []byte) {
	if !s.Open() || len(stored) == 0 || len(stored) > ondisk.LogicalBlock {
		return
	}
	if s.pending.Add(int64(len(stored))) > queueBytes {
		s.pending.Add(-int64(len(stored)))
		s.refused.Add(1)
		return
	}
	select {
	case s.fills <- fill{s.key(id), append([]byte(nil), stored...)}:
	default:
		s.pending.Add(-int64(len(stored)))
		s.refused.Add(1)
	}
}

var errClosed = errors.New("closed")

// Fail gives the device up: nothing is asked or written any more.
func (s *Store) Fail(err error) { s.fail(err) }

func (s *Store) fail(err error) {
	if !s.failed.CompareAndSwap(nil, &err) {
		return
	}
	close(s.quit)
	s.mu.Lock()
	s.index, s.bytes = make(map[uint64]entry), 0
	s.ghosts = ghosts{}
	s.mu.Unlock()
	if s.o.Failed != nil && !errors.Is(err, errClosed) {
		s.o.Failed(err)
	}
}

// Close writes what is only in memory, and ends the store; the devices stay
// open. If ctx ends first, a request may still be out.
func (s *Store) Close(ctx context.Context) error {
	s.fail(errClosed)
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ended is closed when no request of the filler is out any more.
func (s *Store) Ended() <-chan struct{} { return s.ended }

// A Report is a store at one instant: plain values.
type Report struct {
	Err       error // why it was given up
	Warm      bool  // what an earlier mount left is known
	Size      int64 // bytes, of all segments
	Used      int64 // bytes, of blocks that are kept
	Entries   int
	Hits      uint64 // blocks that were there, verified
	Misses    uint64 // all else that was asked for
	Late      uint64 // of them, because the device was slow
	Bad       uint64 // of them, because what was there was not the block
	HitBytes  uint64
	Filled    uint64 // blocks written
	FillBytes uint64
	Evicted   uint64
	Refused   uint64 // blocks that came faster than they could be written
}

// Report copies the numbers.
func (s *Store) Report() Report {
	s.mu.Lock()
	r := Report{Used: s.bytes, Entries: len(s.index)}
	s.mu.Unlock()
	if err := s.failed.Load(); err != nil {
		r.Err = *err
	}
	r.Warm, r.Size = s.warm.Load(), int64(len(s.segs))*segmentSize
	r.Hits, r.Misses, r.Late, r.Bad = s.hits.Load(), s.misses.Load(), s.lates.Load(), s.bad.Load()
	r.HitBytes, r.Filled, r.FillBytes = s.hitBytes.Load(), s.filled.Load(), s.fillBytes.Load()
	r.Evicted, r.Refused = s.evicted.Load(), s.refused.Load()
	return r
}
