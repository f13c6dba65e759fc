package chain

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
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
	dev := newImage(t, 256<<20)
	v := openImage(t, dev, Options{})
	must(t, v.commitNothing(bg))
	h := v.Header()
	must(t, v.Close())
	h.MirrorTid++ // the mark stays as it is
	block := make([]byte, ondisk.HeaderSize)
	h.Encode(block)
	dev.Reopen()
	_, err := dev.WriteAt(block, 0)
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

// A set of volumes, grown at its end, holds what it held and can be filled.
func TestGrowSet(t *testing.T) {
	const g, m = 1 << 30, 1 << 20
	for _, c := range []struct {
		name        string
		start, room []int64
		size        uint64
	}{
		{"last", []int64{g, 64 * m}, []int64{g, 3*g + 4096}, 4 * g},
		{"one more", []int64{2 * g}, []int64{2 * g, 64*m + 9}, 2*g + 64*m},
		{"one more, its device larger", []int64{g + 64*m}, []int64{3*g + 100*m, 200 * m}, 3*g + 200*m},
		{"one more, with a rest", []int64{3*g - 8*m}, []int64{3*g - 8*m, 2 * g}, 4 * g},
		{"third, with a rest", []int64{g, 5*g - 64*m}, []int64{g, 5*g - 64*m, 8 * g}, 13 * g},
	} {
		t.Run(c.name, func(t *testing.T) {
			var devs []ondisk.Device
			for i, n := range c.room {
				d := memdev.New(n)
				if i < len(c.start) {
					d = memdev.New(c.start[i])
				}
				devs = append(devs, d)
			}
			_, err := Format(bg, devs[:len(c.start)], FormatOptions{})
			must(t, err)
			v, err := Open(bg, devs[:len(c.start)], Options{})
			must(t, err)
			occupy(v, v.fm.zoneCount()-1)
			maker, now := newMaker(t, 3), model{}
			b := maker.batch(ondisk.MakeTid(1, 1), 40)
			must(t, commitBatch(v, "DATA", b))
			now.apply(b)
			before := v.Space()
			must(t, v.Close())
			o := Options{Grow: true}
			for i := range devs {
				devs[i].(*memdev.Device).Reopen()
				if i < len(c.start) && c.start[i] < c.room[i] {
					devs[i] = onLarger(t, devs[i].(*memdev.Device), c.room[i], false)
				}
			}
			if len(c.start) < len(devs) {
				o.Add = devs[len(c.start)]
			}
			v, err = Open(bg, devs[:len(c.start)], o)
			must(t, err)
			if v.Header().Size() != c.size {
				t.Errorf("%d bytes, want %d", v.Header().Size(), c.size)
			}
			checkView(t, v, "DATA", now)
			if s := v.Space(); s.Free-before.Free != s.Total-before.Total || s.Total-before.Total < v.Grown()-v.Grown()/64-16*m {
				t.Errorf("space %+v, was %+v, grown by %d", s, before, v.Grown())
			}
			must(t, v.Close())
			for i, d := range devs {
				d.(*memdev.Device).Reopen()
				for n, off := range ondisk.SlotOffsets(uint64(d.Size())) {
					behind := n >= len(ondisk.SlotOffsets(v.geo.Load().loff[i+1]-v.geo.Load().loff[i]))
					if s := readSlot(d, off); (s.hdr == nil) != behind {
						t.Errorf("volume %d, slot %d: header %v, behind the end %v", i, n, s.err, behind)
					}
				}
			}
			v, err = Open(bg, devs, Options{})
			must(t, err)
			checkView(t, v, "DATA", now)
			tx, err := v.Begin(bg)
			must(t, err)
			tx.useReserve = true
			n := uint64(0)
			for ; ; n++ {
				if _, err := v.fm.allocate(ondisk.TypeData, ondisk.MaxRadix); err != nil {
					break
				}
			}
			if free := v.Space().Free; n*ondisk.MaxBlock+8*m < free {
				t.Errorf("%d bytes were found of %d that are free", n*ondisk.MaxBlock, free)
			}
			tx.Abort()
		})
	}
}

// occupy lets nothing be allocated in the zones before n.
func occupy(v *Volume, n uint64) {
	for i := range n {
		z := v.fm.zone(i)
		for s := z.lo; s < z.hi; s++ {
			for c := range ondisk.ChunksPerSegment {
				if z.entries[s].State(c) == ondisk.ChunkFree {
					v.fm.setChunks(z, s, c, ondisk.ChunkRadix, ondisk.ChunkAllocated)
				}
			}
		}
	}
}

// What cannot be grown is left as it is, and what is needed is said.
func TestGrowSetRefused(t *testing.T) {
	const g, m = 1 << 30, 1 << 20
	for _, c := range []struct {
		dev, add int64
		want     string
	}{
		{192 * m, g, "this one has 192 MiB, and one that another follows at least 1024 MiB"},
		{g + 200*m, 200 * m, "of 200 MiB: at least 264 MiB are needed"},
		{2 * g, 63 * m, "of 63 MiB: at least 64 MiB are needed"},
	} {
		dev := newImage(t, c.dev)
		was := dev.Clone()
		add := memdev.New(c.add)
		_, err := Open(bg, []ondisk.Device{dev}, Options{Add: add})
		if !errors.Is(err, ErrCannotGrow) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d by %d: %v", c.dev, c.add, err)
		}
		if _, err := add.ReadAt(make([]byte, 1), 0); err == nil {
			t.Error("the device is still open")
		}
		dev.Reopen()
		for _, off := range ondisk.SlotOffsets(uint64(c.dev)) {
			if a, b := readSlot(dev, off), readSlot(was, off); !bytes.Equal(a.content, b.content) {
				t.Errorf("header at %#x was written", off)
			}
		}
	}
	var devs []ondisk.Device
	for range ondisk.MaxVolumes {
		devs = append(devs, memdev.New(g))
	}
	_, err := Format(bg, devs, FormatOptions{})
	must(t, err)
	if _, err = Open(bg, devs, Options{Add: memdev.New(g)}); !errors.Is(err, ErrCannotGrow) {
		t.Errorf("65 volumes: %v", err)
	}
}

// Which device is missing, or too many, is said.
func TestVolumesGiven(t *testing.T) {
	const g = 1 << 30
	a, b, c := memdev.New(g).Named("a"), memdev.New(g).Named("b"), memdev.New(g).Named("c")
	_, err := Format(bg, []ondisk.Device{a, b}, FormatOptions{})
	must(t, err)
	v, err := Open(bg, []ondisk.Device{a, b}, Options{Add: c})
	must(t, err)
	must(t, v.Close())
	again := func() {
		for _, d := range []*memdev.Device{a, b, c} {
			d.Reopen()
		}
	}
	again()
	_, err = Open(bg, []ondisk.Device{a, b}, Options{})
	var missing *MissingVolume
	if !errors.As(err, &missing) || missing.ID != 2 || missing.Count != 3 || len(missing.Given) != 2 || missing.Size != g {
		t.Errorf("the new one is not given: %v", err)
	}
	again()
	v, err = Open(bg, []ondisk.Device{c, a, b}, Options{})
	must(t, err)
	must(t, v.Close())
}

// A device whose end a set does not use has no header there: others would take
// the one of an older file system for the newest.
func TestFormatSetOverOther(t *testing.T) {
	const g = 1 << 30
	for _, over := range []bool{true, false} {
		a := newImage(t, 3*g-8<<20)
		v := openImage(t, a, Options{})
		for range 3 {
			must(t, v.commitNothing(bg))
		}
		must(t, v.Close())
		a.Reopen()
		b := memdev.New(2 * g)
		if over {
			_, err := Format(bg, []ondisk.Device{a, b}, FormatOptions{})
			must(t, err)
		} else {
			v, err := Open(bg, []ondisk.Device{a}, Options{Add: b})
			must(t, err)
			must(t, v.Close())
			a.Reopen()
		}
		if s := readSlot(a, 2*g); s.hdr != nil {
			t.Errorf("formatted %v: there is a header at 2 GiB", over)
		}
	}
}

// A volume grows while it is written, read and walked: what is on the part that
// moves to another device is found there, and nobody waits for ever.
func TestGrowInUse(t *testing.T) {
	const g, m = 1 << 30, 1 << 20
	for _, c := range []struct {
		name     string
		start, n int64 // of the device, and what it becomes
		add      int64
		size     uint64
	}{
		{"longer", 64 * m, 3 * g, 0, 3 * g},
		{"longer by nothing", 64 * m, 64*m + 4096, 0, 64 * m},
		{"one more", g + 200*m, g + 200*m, 400 * m, g + 400*m},
		{"one slot less", 2*g + 200*m, 2*g + 200*m, 400 * m, 2*g + 400*m},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev := memdev.New(c.start).Named("first")
			_, err := Format(bg, []ondisk.Device{dev}, FormatOptions{})
			must(t, err)
			v := openImage(t, dev, Options{})
			occupy(v, v.fm.zoneCount()-1) // what is written lies where it moves
			maker, now := newMaker(t, 3), model{}
			write := func(i int) {
				b := maker.batch(ondisk.MakeTid(1, uint32(i)), 10)
				must(t, commitBatch(v, "DATA", b))
				now.apply(b)
			}
			for i := range 3 {
				write(i + 1)
			}
			old, err := v.View(bg, "DATA")
			must(t, err)
			was := maps.Clone(now)
			dev.Resize(c.n)
			var add ondisk.Device
			devs := []ondisk.Device{dev}
			if c.add > 0 {
				add = memdev.New(c.add).Named("second")
				devs = append(devs, add)
			}
			done, read := make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := v.Grow(bg, Growth{Add: add})
				done <- err
			}()
			go func() {
				err := sameModel(t, old, was)
				if _, walk := v.Bulkfree(bg, BulkfreeOptions{}); err == nil {
					err = walk
				}
				read <- err
			}()
			for i := range 10 {
				write(i + 4)
			}
			must(t, errors.Join(<-done, <-read))
			must(t, sameModel(t, old, was))
			old.Release()
			for i := range 5 {
				write(i + 14)
			}
			if got := v.Header().Size(); got != c.size {
				t.Errorf("%d bytes, want %d", got, c.size)
			}
			must(t, v.Close())
			for _, d := range devs {
				d.(*memdev.Device).Reopen()
			}
			v, err = Open(bg, devs, Options{})
			must(t, err)
			checkView(t, v, "DATA", now)
			must(t, v.Close())
		})
	}
}

// A volume whose device became smaller is left as it is, and so is one that is
// given a device that is bad.
func TestGrowShrunk(t *testing.T) {
	dev := newImage(t, 256<<20)
	v := openImage(t, dev, Options{})
	dev.Resize(128 << 20)
	if _, err := v.Grow(bg, Growth{}); !errors.Is(err, ErrCannotGrow) || !strings.Contains(err.Error(), "it has become smaller") {
		t.Errorf("%v", err)
	}
	dev.Resize(1100 << 20)
	bad := faultdev.New(memdev.New(256 << 20))
	bad.Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Write})
	if _, err := v.Grow(bg, Growth{Add: bad}); err == nil || v.Failed() != nil || v.Header().Size() != 256<<20 {
		t.Errorf("%v, failed %v", err, v.Failed())
	}
	by, err := v.Grow(bg, Growth{})
	if must(t, err); by != (1096-256)<<20 {
		t.Errorf("grown by %d bytes", by)
	}
	must(t, v.Close())
	dev.Reopen()
	mustCheck(t, dev)
}
