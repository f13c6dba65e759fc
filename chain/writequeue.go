package chain

import (
	"fmt"
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	earlyBytes = 8 << 20 // backlog at which blocks are written before Commit
	maxWriters = 4       // device writes at a time
)

// A writeQueue holds the blocks of one transaction until they are on the
// device. Neighbours are written together, in whole pages, by several
// goroutines. The first error fails the volume and stops all others.
type writeQueue struct {
	v   *Volume
	sem chan struct{} // one token per write in flight
	wg  sync.WaitGroup

	mu      sync.Mutex
	blocks  map[uint64][]byte // not on the device yet, by address
	waiting []uint64          // of these, the ones no write was begun for
	bytes   int64             // of waiting
	writes  int
}

func newWriteQueue(v *Volume) *writeQueue {
	return &writeQueue{v: v, sem: make(chan struct{}, maxWriters), blocks: make(map[uint64][]byte)}
}

// add queues a block, which must not change from now on.
func (q *writeQueue) add(off uint64, block []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.blocks[off] = block
	q.waiting = append(q.waiting, off)
	q.bytes += int64(len(block))
}

// cancel takes a block back; false if a write was begun for it.
func (q *writeQueue) cancel(off uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	// Blocks are mostly dropped soon after they were made.
	for i := len(q.waiting) - 1; i >= 0; i-- {
		if q.waiting[i] == off {
			q.bytes -= int64(len(q.blocks[off]))
			q.waiting = slices.Delete(q.waiting, i, i+1)
			delete(q.blocks, off)
			return true
		}
	}
	return false
}

// find returns a block that is not on the device yet, or nil.
func (q *writeQueue) find(off uint64) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.blocks[off]
}

// backlog is the number of bytes for which no write was begun.
func (q *writeQueue) backlog() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

func (q *writeQueue) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.writes
}

// submit begins to write all that waits. It blocks while enough is in flight.
func (q *writeQueue) submit() {
	q.mu.Lock()
	offs := q.waiting
	q.waiting, q.bytes = nil, 0
	slices.Sort(offs)
	var runs []writeRun
	for len(offs) > 0 {
		n := q.runLocked(offs)
		runs = append(runs, q.makeRunLocked(offs[:n]))
		offs = offs[n:]
	}
	q.mu.Unlock()
	for i := range runs {
		q.sem <- struct{}{}
		if len(runs) == 1 {
			// Nothing to do at the same time: no goroutine for it.
			q.write(&runs[i])
			<-q.sem
			return
		}
		q.wg.Go(func() {
			q.write(&runs[i])
			<-q.sem
		})
	}
}

// wait returns when nothing is in flight.
func (q *writeQueue) wait() { q.wg.Wait() }

// A writeRun is one device write.
type writeRun struct {
	beg, end uint64 // whole pages
	offs     []uint64
	blocks   [][]byte
}

// runLocked is how many of the sorted offs one write covers. It ends where a
// page begins: two writes with a page in common would zero each other's part.
func (q *writeQueue) runLocked(offs []uint64) int {
	grain := q.v.geo.Load().grain
	beg := offs[0] &^ (grain - 1)
	end := offs[0] + uint64(len(q.blocks[offs[0]]))
	cut := 0 // blocks before the last that begins a page; one in a chunk does
	for n := 1; n < len(offs); n++ {
		page, full := offs[n]&^(grain-1), (end+grain-1)&^(grain-1)
		if page > full || offs[n]/ondisk.ZoneSize != beg/ondisk.ZoneSize {
			return n
		}
		if page == full {
			cut = n
		}
		next := offs[n] + uint64(len(q.blocks[offs[n]]))
		if next-beg > maxRun && cut > 0 {
			return cut
		}
		end = next
	}
	return len(offs)
}

func (q *writeQueue) makeRunLocked(offs []uint64) writeRun {
	grain := q.v.geo.Load().grain
	r := writeRun{beg: offs[0] &^ (grain - 1), offs: offs}
	for _, off := range offs {
		r.blocks = append(r.blocks, q.blocks[off])
		r.end = (off + uint64(len(q.blocks[off])) + grain - 1) &^ (grain - 1)
	}
	return r
}

// write puts a run on the device. The rest of its pages is zeroed: positions
// are moved to a page boundary before each submit, so nothing else is there.
func (q *writeQueue) write(r *writeRun) {
	buf := r.blocks[0]
	if len(r.blocks) > 1 || uint64(len(buf)) != r.end-r.beg {
		pool := runPool.Get().(*[]byte)
		defer runPool.Put(pool)
		buf = (*pool)[:r.end-r.beg]
		at := 0
		for i, off := range r.offs {
			clear(buf[at : off-r.beg])
			at = int(off-r.beg) + copy(buf[off-r.beg:], r.blocks[i])
		}
		clear(buf[at:])
	}
	if err := q.v.write(buf, r.beg); err != nil {
		q.v.fail(err)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writes++
	for _, off := range r.offs {
		delete(q.blocks, off)
	}
}

// write puts bytes at a logical address. After a failure it writes nothing.
func (v *Volume) write(p []byte, off uint64) error {
	if err := v.Failed(); err != nil {
		return err
	}
	dev, at, err := v.locate(off, len(p))
	if err != nil {
		return err
	}
	if n, err := dev.WriteAt(p, at); err != nil || n < len(p) {
		return fmt.Errorf("%s: write of %d bytes at %#x: %w", dev.Name(), len(p), at, orShort(err))
	}
	return nil
}
