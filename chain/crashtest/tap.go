package crashtest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

var _ ondisk.Device = (*Tap)(nil)

// errFlying: a flush promises nothing about writes that have not returned, so
// whoever flushes while there are some relies on luck.
var errFlying = errors.New("flush while a write is under way")

// A Tap records for a crashdev, in an order that does not depend on how
// goroutines were scheduled. It can forget one flush, as a mutation of the
// program under test.
type Tap struct {
	rec  *crashdev.Device
	live *memdev.Device // what readers see: the recorder lags behind

	mu      sync.Mutex // guards what follows
	pending []write    // since the last flush
	flying  int        // writes that have not returned
	flushes int        // asked for so far
	drop    int        // number of the flush to forget, from 1; 0 = none
	misuse  error
	onRead  func()         // called once, by the next read
	touched map[int64]bool // 4 KiB pages ever written
	reused  int            // writes of pages with blocks, after the first
}

const tapPage = 4096

// A pageRange is [off, off+n) of a device.
type pageRange struct{ off, n int64 }

type write struct {
	off  int64
	data []byte
}

// NewTap records on top of base, which is not changed. Flush number drop,
// counted from 1, does not reach the device; 0 drops none.
func NewTap(base *memdev.Device, drop int) *Tap {
	return &Tap{rec: crashdev.New(base.Clone()), live: base.Clone(), drop: drop, touched: make(map[int64]bool)}
}

// Events is the number of events recorded, as crashdev counts them.
func (t *Tap) Events() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
	return t.rec.Events()
}

// Flushes is the number of flushes asked for.
func (t *Tap) Flushes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flushes
}

// Reused counts pages that blocks were written to again. Headers and freemap,
// which have their fixed places, do not count.
func (t *Tap) Reused() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reused
}

// Misuse is what the program did that no device allows, nil if nothing.
func (t *Tap) Misuse() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.misuse
}

// Each is crashdev's Each over the recording.
func (t *Tap) Each(o crashdev.Options, fn func(crashdev.State) bool) int {
	t.Events()
	return t.rec.Each(o, fn)
}

// Least is what must be left after n events: nothing that no flush covers.
func (t *Tap) Least(n int) crashdev.State {
	t.Events()
	return crashdev.State{
		Name: fmt.Sprintf("cut after %d, nothing that was not flushed", n), N: n,
		Image: t.rec.Image(n, func(int, int) bool { return false }),
	}
}

// pages lists what was ever written, in order. All else is as it was.
func (t *Tap) pages() []pageRange {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []pageRange
	for _, n := range slices.Sorted(maps.Keys(t.touched)) {
		if last := len(list) - 1; last >= 0 && list[last].off+list[last].n == n*tapPage && list[last].n < 1<<20 {
			list[last].n += tapPage
			continue
		}
		list = append(list, pageRange{n * tapPage, tapPage})
	}
	return list
}

// pass hands the pending writes to the recorder. t.mu is held.
func (t *Tap) pass() {
	slices.SortStableFunc(t.pending, func(a, b write) int { return cmp.Compare(a.off, b.off) })
	for _, w := range t.pending {
		if _, err := t.rec.WriteAt(w.data, w.off); err != nil {
			panic(err) // it fitted the live device
		}
	}
	t.pending = nil
}

// AtRead has fn called by the next read, once: what a program does while
// another part of it reads. nil takes it back.
func (t *Tap) AtRead(fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.onRead = fn
}

// ReadAt implements ondisk.Device.
func (t *Tap) ReadAt(p []byte, off int64) (int, error) {
	t.mu.Lock()
	fn := t.onRead
	t.onRead = nil
	t.mu.Unlock()
	if fn != nil {
		fn()
	}
	return t.live.ReadAt(p, off)
}

// WriteAt implements ondisk.Device.
func (t *Tap) WriteAt(p []byte, off int64) (int, error) {
	t.mu.Lock()
	t.flying++
	t.mu.Unlock()
	n, err := t.live.WriteAt(p, off)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flying--
	if err != nil {
		return n, err
	}
	end := off + int64(len(p))
	for n := off / tapPage; n*tapPage < end; n++ {
		if t.touched[n] && n*tapPage%ondisk.ZoneSize >= ondisk.ReservedSize {
			t.reused++
		}
		t.touched[n] = true
	}
	for _, w := range t.pending {
		// What overlaps keeps its order.
		if off < w.off+int64(len(w.data)) && w.off < end {
			t.pass()
			break
		}
	}
	t.pending = append(t.pending, write{off, slices.Clone(p)})
	return n, nil
}

// Flush implements ondisk.Device.
func (t *Tap) Flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flushes++
	if t.flying > 0 && t.misuse == nil {
		t.misuse = errFlying
	}
	if t.flushes == t.drop {
		return nil
	}
	t.pass()
	return t.rec.Flush()
}

// Discard implements ondisk.Device: junk, as crashdev has it.
func (t *Tap) Discard(off, n int64) error {
	bs := int64(t.live.BlockSize())
	beg, end := (off+bs-1)/bs*bs, min(off+n, t.live.Size())/bs*bs
	if off < 0 || beg >= end || end-beg > ondisk.SegmentSize {
		return nil
	}
	_, err := t.WriteAt(slices.Repeat([]byte{0xDD}, int(end-beg)), beg)
	return err
}

// Size implements ondisk.Device.
func (t *Tap) Size() int64 { return t.live.Size() }

// BlockSize implements ondisk.Device.
func (t *Tap) BlockSize() int { return t.live.BlockSize() }

// Name implements ondisk.Device.
func (t *Tap) Name() string { return t.live.Name() }

// Close implements ondisk.Device. The device can be opened again.
func (t *Tap) Close() error { return nil }
