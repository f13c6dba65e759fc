package chain

import (
	"errors"
	"fmt"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// onLarger is what is on a device after it became larger; junk is what is behind.
func onLarger(t testing.TB, dev *memdev.Device, size int64, junk bool) *memdev.Device {
	t.Helper()
	dev.Reopen()
	d := memdev.New(size)
	buf, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < dev.Size(); off += int64(len(buf)) {
		if _, err := dev.ReadAt(buf, off); err != nil {
			t.Fatal(err)
		}
		if string(buf) == string(zero) {
			continue
		}
		if _, err := d.WriteAt(buf, off); err != nil {
			t.Fatal(err)
		}
	}
	if junk { // headers of a file system that was there before, newer than ours
		old := newImage(t, size)
		for _, off := range ondisk.SlotOffsets(uint64(size))[len(ondisk.SlotOffsets(uint64(dev.Size()))):] {
			b := make([]byte, ondisk.HeaderSize)
			if _, err := old.ReadAt(b, off); err != nil {
				t.Fatal(err)
			}
			h, err := ondisk.DecodeVolumeHeader(b)
			must(t, err)
			h.MirrorTid = ondisk.MakeTid(9, 0)
			h.Encode(b)
			if _, err := d.WriteAt(b, off); err != nil {
				t.Fatal(err)
			}
		}
	}
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var growths = [][2]int64{
	{128 << 20, 136 << 20}, {256 << 20, 1<<30 + 8<<20}, {520 << 20, 3 << 30},
	{1 << 30, 2 << 30}, {2 << 30, 9 << 30}, {3<<30 + 200<<20, 5 << 30}, {8 << 30, 12 << 30},
}

// A volume that was grown has the content it had, the space of its device, and
// is as one formatted so large.
func TestGrow(t *testing.T) {
	for _, g := range growths {
		t.Run(fmt.Sprint(g[0]>>20, " to ", g[1]>>20), func(t *testing.T) {
			small := newImage(t, g[0])
			v := openImage(t, small, Options{})
			m, now := newMaker(t, 3), model{}
			for i := range 3 {
				b := m.batch(ondisk.MakeTid(1, uint32(i+1)), 40)
				must(t, commitBatch(v, "DATA", b))
				now.apply(b)
			}
			used := v.Space().Total - v.Space().Free
			must(t, v.Close())
			dev := onLarger(t, small, g[1]+4096, true)
			v = openImage(t, dev, Options{Grow: true})
			if v.Grown() != uint64(g[1]-g[0]) {
				t.Errorf("grown by %d bytes", v.Grown())
			}
			checkView(t, v, "DATA", now)
			fresh := openImage(t, newImage(t, g[1]), Options{})
			// Boot and aux area, and the formatter's segment, stay as they were.
			h, want := v.Header(), fresh.Header()
			areas := func(h *ondisk.VolumeHeader) uint64 { return h.AuxEnd }
			if h.AllocatorSize+areas(h) != want.AllocatorSize+areas(want) || h.Size() != want.Size() {
				t.Errorf("%d bytes to allocate of %d, want %d of %d", h.AllocatorSize, h.Size(), want.AllocatorSize+areas(want)-areas(h), want.Size())
			}
			if s := v.Space(); s.Total-s.Free > used+1<<20 {
				t.Errorf("%d bytes used of %d, %d before", s.Total-s.Free, s.Total, used)
			}
			b := m.batch(ondisk.MakeTid(1, 4), 40)
			must(t, commitBatch(v, "DATA", b))
			now.apply(b)
			must(t, v.Close())
			dev.Reopen()
			mustCheck(t, dev)
			for i, off := range ondisk.SlotOffsets(uint64(g[1])) {
				if s := readSlot(dev, off); s.hdr == nil || s.hdr.VoluSize != uint64(g[1]) {
					t.Errorf("slot %d: %v", i, s.err)
				}
			}
			v = openImage(t, dev, Options{Grow: true})
			checkView(t, v, "DATA", now)
			if v.Grown() != 0 {
				t.Errorf("grown again by %d bytes", v.Grown())
			}
			// All of it can be used.
			total := v.Space()
			tx, err := v.Begin(bg)
			must(t, err)
			tx.useReserve = true
			n := uint64(0)
			for ; ; n++ {
				if _, err := v.fm.allocate(ondisk.TypeData, ondisk.MaxRadix); err != nil {
					break
				}
			}
			tx.Abort()
			if got := n * ondisk.MaxBlock; got+8<<20 < total.Free {
				t.Errorf("%d bytes were found of %d that are free", got, total.Free)
			}
		})
	}
}

func TestGrowRefused(t *testing.T) {
	a, b := memdev.New(1<<30), memdev.New(256<<20)
	_, err := Format(bg, []ondisk.Device{a, b}, FormatOptions{})
	must(t, err)
	if _, err := Open(bg, []ondisk.Device{a, b}, Options{Grow: true}); !errors.Is(err, ErrCannotGrow) {
		t.Errorf("two volumes: %v", err)
	}
	dev := newImage(t, 256<<20)
	v := openImage(t, dev, Options{})
	must(t, v.commitNothing(bg))
	h := v.Header()
	must(t, v.Close())
	h.MirrorTid++ // the mark stays as it is
	block := make([]byte, ondisk.HeaderSize)
	h.Encode(block)
	dev.Reopen()
	_, err = dev.WriteAt(block, 0)
	must(t, err)
	if _, err := Open(bg, []ondisk.Device{onLarger(t, dev, 1<<30, false)}, Options{Grow: true}); !errors.Is(err, ErrForeign) {
		t.Errorf("changed by another system: %v", err)
	}
}

// A cut while a volume is grown leaves the old size or the new one, and the same
// content; then it can be grown.
func TestGrowCrash(t *testing.T) {
	states := 0
	for _, g := range growths[:5] {
		if g[0] == 1<<30 {
			continue // as the one before, to the commits
		}
		small := newImage(t, g[0])
		v := openImage(t, small, Options{})
		m, now := newMaker(t, 5), model{}
		b := m.batch(ondisk.MakeTid(1, 1), 25)
		must(t, commitBatch(v, "DATA", b))
		now.apply(b)
		must(t, v.Close())
		dev := crashdev.New(onLarger(t, small, g[1], true))
		v = openImage(t, dev, Options{Grow: true})
		acked := dev.Events()
		b = m.batch(ondisk.MakeTid(1, 2), 25)
		must(t, commitBatch(v, "DATA", b))
		after := model{}
		for k, val := range now {
			after[k] = val
		}
		after.apply(b)
		states += dev.Each(crashdev.Options{Exhaustive: 3, Max: 15}, func(s crashdev.State) bool {
			for _, grow := range []bool{false, true} {
				v, err := Open(bg, []ondisk.Device{s.Image}, Options{Grow: grow})
				if err != nil {
					t.Errorf("%v: %s: %v", g, s.Name, err)
					return false
				}
				size := int64(v.Header().Size())
				if size != g[0] && size != g[1] || size != g[1] && (grow || s.N >= acked) {
					t.Errorf("%v: %s: %d bytes", g, s.Name, size)
				}
				if v.Foreign() || v.Tainted() != nil {
					t.Errorf("%v: %s: foreign %v, tainted %v", g, s.Name, v.Foreign(), v.Tainted())
				}
				view, err := v.View(bg, "DATA")
				must(t, err)
				want := now
				if view.T() == ondisk.MakeTid(1, 2) {
					want = after
				}
				if err := sameModel(t, view, want); err != nil {
					t.Errorf("%v: %s: %v", g, s.Name, err)
				}
				view.Release()
				must(t, v.commitNothing(bg))
				must(t, v.Close())
				s.Image.Reopen()
				if _, err := checkImage(s.Image); err != nil {
					t.Errorf("%v: %s: grown %v: %v", g, s.Name, grow, err)
					return false
				}
			}
			return !t.Failed()
		})
		must(t, v.Close())
	}
	t.Logf("%d states", states)
	if states < 300 {
		t.Errorf("only %d states", states)
	}
}
