package crashtest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// errFlying: a flush promises nothing about writes that have not returned, so
// whoever flushes while there are some relies on luck.
var errFlying = errors.New("flush while a write is under way")

// A Tap records for a crashdev, in an order that does not depend on how
// goroutines were scheduled. It can forget one flush, as a mutation of the
// program under test.
//
// Devices on one lane belong to one volume: what happens to them is recorded in
// its order, but for what order means nothing to: writes between two flushes,
// and flushes that follow each other. Lanes are members of a cluster, which
// work side by side; how their events lie to each other may be drawn by lot.
type Tap struct {
	rec   *crashdev.Device
	live  *memdev.Device // what readers see: the recorder lags behind
	devs  []*tapDevice
	lanes []*lane
	lot   *rand.Rand

	mu      sync.Mutex // guards what follows, lanes included
	flushes int        // asked for so far
	drop    int        // number of the flush to forget, from 1; 0 = none
	misuse  error
	deaf    int64          // offset of a header that is not written any more, if not 0
	onRead  func()         // called once, by the next read
	seq     int            // events so far
	touched map[int64]bool // 4 KiB pages ever written
	reused  int            // writes of pages with blocks, after the first
}

const tapPage = 4096

// A lane is what happened since the last time somebody asked.
type lane struct{ log []tapEvent }

type tapEvent struct {
	seq  int    // among all lanes
	part int    // of a flush
	off  int64  // of a write, in the whole
	data []byte // nil for a flush
}

func (e *tapEvent) overlaps(o *tapEvent) bool {
	return e.off < o.off+int64(len(o.data)) && o.off < e.off+int64(len(e.data))
}

// NewTap records on top of base, which is not changed and stands for the
// devices of one volume. Flush number drop, counted from 1, does not reach the
// device; 0 drops none.
func NewTap(base *memdev.Device, drop int, sizes ...int64) *Tap {
	t := newTap(base, sizes)
	t.drop = drop
	t.lanes = []*lane{new(lane)}
	for _, d := range t.devs {
		d.lane = t.lanes[0]
	}
	return t
}

// NewClusterTap is a tap for devices that are a volume each.
func NewClusterTap(base *memdev.Device, seed uint64, sizes ...int64) *Tap {
	t := newTap(base, sizes)
	t.lot = rand.New(rand.NewPCG(seed, 11))
	for _, d := range t.devs {
		d.lane = new(lane)
		t.lanes = append(t.lanes, d.lane)
	}
	return t
}

// Join makes the last device one volume with the one before it.
func (t *Tap) Join() *Tap {
	n := len(t.devs)
	t.devs[n-1].lane = t.devs[n-2].lane
	t.lanes = t.lanes[:n-1]
	return t
}

func newTap(base *memdev.Device, sizes []int64) *Tap {
	t := &Tap{rec: crashdev.NewSet(base.Clone(), sizes...), live: base.Clone(), touched: make(map[int64]bool)}
	at := int64(0)
	for i, d := range crashdev.Split(t.live, sizes...) {
		t.devs = append(t.devs, &tapDevice{Device: d, tap: t, part: i, off: at})
		at += sizes[i]
	}
	return t
}

// Devices are what the program under test gets. They may be opened again and
// again.
func (t *Tap) Devices() []ondisk.Device {
	var list []ondisk.Device
	for _, d := range t.devs {
		list = append(list, d)
	}
	return list
}

// Bare are the devices as readers see them, for who is not to be recorded.
func (t *Tap) Bare() []ondisk.Device {
	var list []ondisk.Device
	for _, d := range t.devs {
		list = append(list, d.Device)
	}
	return list
}

// Events is the number of events recorded, as crashdev counts them.
func (t *Tap) Events() int {
	return t.record(len(t.lanes), func(busy []*lane) (first int) {
		for i, l := range busy {
			if l.log[0].seq < busy[first].log[0].seq {
				first = i
			}
		}
		return first
	})
}

// Agree records what happened since the last call as if each lane had done it
// at any time, and returns after how many events need of the lanes had done all
// of it. It is for what no lane waited for another to do.
func (t *Tap) Agree(need int) int {
	return t.record(need, func(busy []*lane) int {
		if len(busy) == 1 {
			return 0
		}
		return t.lot.IntN(len(busy))
	})
}

func (t *Tap) record(need int, next func([]*lane) int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	var busy []*lane
	for _, l := range t.lanes {
		if l.arrange(); len(l.log) > 0 {
			busy = append(busy, l)
		}
	}
	agreed := t.rec.Events()
	for done := len(t.lanes) - len(busy); len(busy) > 0; {
		i := next(busy)
		t.pass(&busy[i].log[0])
		if busy[i].log = busy[i].log[1:]; len(busy[i].log) == 0 {
			busy = slices.Delete(busy, i, i+1)
			if done++; done <= need {
				agreed = t.rec.Events()
			}
		}
	}
	return agreed
}

// arrange puts what came in any order into one.
func (l *lane) arrange() {
	for rest := l.log; len(rest) > 0; {
		n, writes := 1, rest[0].data != nil
		for n < len(rest) && (rest[n].data != nil) == writes {
			if writes && slices.ContainsFunc(rest[:n], func(e tapEvent) bool { return e.overlaps(&rest[n]) }) {
				break // what overlaps keeps its order
			}
			n++
		}
		seq := rest[0].seq
		slices.SortStableFunc(rest[:n], func(a, b tapEvent) int {
			return cmp.Or(cmp.Compare(a.part, b.part), cmp.Compare(a.off, b.off))
		})
		for i := range rest[:n] {
			rest[i].seq = max(seq, rest[i].seq)
			seq = rest[i].seq
		}
		rest = rest[n:]
	}
}

// pass hands an event to the recorder. t.mu is held.
func (t *Tap) pass(e *tapEvent) {
	if e.data != nil {
		if _, err := t.rec.WriteAt(e.data, e.off); err != nil {
			panic(err) // it fitted the live device
		}
		return
	}
	if err := t.rec.FlushPart(e.part); err != nil {
		panic(err) // memory has no errors
	}
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

// Least is what must be left after n events: nothing that no flush covers. It
// has no Sum.
func (t *Tap) Least(n int) crashdev.State {
	t.Events()
	return crashdev.State{
		Name: fmt.Sprintf("cut after %d, nothing that was not flushed", n), N: n,
		Image: t.rec.Image(n, func(int, int) bool { return false }),
	}
}

// Deafen makes the header at an offset, other than the first, stay what it is
// from now on, unknown to the program.
func (t *Tap) Deafen(off int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deaf = off
}

// Drop makes flush number n, counted from 1, not reach its device; 0 = none.
func (t *Tap) Drop(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop = n
}

// AtRead has fn called by the next read, once: what a program does while
// another part of it reads. nil takes it back.
func (t *Tap) AtRead(fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.onRead = fn
}

// A tapDevice is one device of a Tap.
type tapDevice struct {
	ondisk.Device // of the live image
	tap           *Tap
	part          int
	off           int64 // in the whole
	lane          *lane
	flying        int // writes that have not returned; tap.mu guards it
}

// ReadAt implements ondisk.Device.
func (d *tapDevice) ReadAt(p []byte, off int64) (int, error) {
	t := d.tap
	t.mu.Lock()
	fn := t.onRead
	t.onRead = nil
	t.mu.Unlock()
	if fn != nil {
		fn()
	}
	return d.Device.ReadAt(p, off)
}

// WriteAt implements ondisk.Device.
func (d *tapDevice) WriteAt(p []byte, off int64) (int, error) {
	t := d.tap
	t.mu.Lock()
	d.flying++
	t.mu.Unlock()
	n, err := d.Device.WriteAt(p, off)
	t.mu.Lock()
	defer t.mu.Unlock()
	d.flying--
	if err != nil {
		return n, err
	}
	for n := off / tapPage; n*tapPage < off+int64(len(p)); n++ {
		at := n + d.off/tapPage
		if t.touched[at] && n*tapPage%ondisk.ZoneSize >= ondisk.ReservedSize {
			t.reused++
		}
		t.touched[at] = true
	}
	t.seq++
	if at := d.off + off; t.deaf == 0 || at < t.deaf || at >= t.deaf+ondisk.HeaderSize {
		d.lane.log = append(d.lane.log, tapEvent{t.seq, d.part, at, slices.Clone(p)})
	}
	return n, nil
}

// Flush implements ondisk.Device.
func (d *tapDevice) Flush() error {
	t := d.tap
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.flying > 0 && t.misuse == nil {
		t.misuse = errFlying
	}
	t.seq++
	if t.flushes++; t.flushes != t.drop {
		d.lane.log = append(d.lane.log, tapEvent{seq: t.seq, part: d.part})
	}
	return nil
}
