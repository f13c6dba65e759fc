package chain

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// headerSets are volumes with one header slot, with several, and behind the first,
// and where headers of them are.
var headerSets = []struct {
	sizes  []int64
	places []uint64
}{
	{[]int64{64 << 20}, []uint64{0, spareSlot}},
	{[]int64{7 << 30}, []uint64{0, 2 << 30, 4 << 30, 6 << 30}},
	{[]int64{1 << 30, 3 << 30}, []uint64{0, spareSlot, 1 << 30, 3 << 30}},
	{[]int64{3 << 30, 1 << 30}, []uint64{0, 2 << 30, 3 << 30, 3<<30 + spareSlot}},
}

// headerSet makes a file system on one device that stands for several, all of
// whose header places have been written.
func headerSet(t *testing.T, sizes []int64) (dev *memdev.Device) {
	t.Helper()
	total := int64(0)
	for _, n := range sizes {
		total += n
	}
	dev = memdev.New(total)
	_, err := Format(bg, crashdev.Split(dev, sizes...), FormatOptions{})
	must(t, err)
	v, err := Open(bg, crashdev.Split(dev, sizes...), Options{})
	must(t, err)
	m := newMaker(t, 3)
	for i := range 5 {
		must(t, commitBatch(v, "DATA", m.batch(ondisk.MakeTid(1, uint32(i+1)), 20)))
	}
	must(t, v.Close())
	dev.Reopen()
	return dev
}

// rot damages 512 bytes of a header in the middle, where most of it is zero.
func rot(t *testing.T, dev *memdev.Device, at uint64) {
	t.Helper()
	_, err := dev.WriteAt(bytes.Repeat([]byte{0x5A}, 512), int64(at)+0x8000)
	must(t, err)
}

// Each copy of the header of each volume that rots while the volume is open is
// found and put right, with all the others too, and what is good is not touched.
func TestHeadersAreMended(t *testing.T) {
	for _, set := range headerSets {
		sizes, places := set.sizes, set.places
		dev := headerSet(t, sizes)
		sets := make([][]uint64, 0, len(places)+1)
		for _, at := range places {
			sets = append(sets, []uint64{at})
		}
		for _, bad := range append(sets, places) {
			t.Run(fmt.Sprintf("%d/%x", sizes, bad), func(t *testing.T) {
				now := dev.Clone()
				v, err := Open(bg, crashdev.Split(now, sizes...), Options{})
				must(t, err)
				for _, at := range bad {
					rot(t, now, at)
				}
				tid := v.Header().MirrorTid
				list, err := v.VerifyHeaders(bg)
				must(t, err)
				if len(list) != len(bad) {
					t.Fatalf("found %v", list)
				}
				for i, h := range list {
					if h.Off != bad[i] || h.Err == nil {
						t.Errorf("found %#x: %v, want %#x", h.Off, h.Err, bad[i])
					}
					_, err := v.MendHeader(bg, h.Off)
					must(t, err)
				}
				if list, err := v.VerifyHeaders(bg); err != nil || len(list) > 0 {
					t.Errorf("after it was mended: %v, %v", list, err)
				}
				// As after a crash.
				again, err := Open(bg, crashdev.Split(now.Clone(), sizes...), Options{})
				must(t, err)
				if again.Tainted() != nil || again.Header().MirrorTid < tid {
					t.Errorf("opens with %#x of %#x: %v", uint64(again.Header().MirrorTid), uint64(tid), again.Tainted())
				}
				must(t, again.Close())
				must(t, v.Close())
			})
		}
	}
}

// A power cut while a header is mended leaves a newest header that is no older
// than the newest that could be read before.
func TestHeaderMendCrash(t *testing.T) {
	states := 0
	for _, set := range headerSets {
		base := headerSet(t, set.sizes)
		for _, at := range set.places {
			t.Run(fmt.Sprintf("%d/%x", set.sizes, at), func(t *testing.T) { states += cutMend(t, base.Clone(), set.sizes, at) })
		}
	}
	if states < 100 {
		t.Errorf("only %d states", states)
	}
}

func cutMend(t *testing.T, mem *memdev.Device, sizes []int64, at uint64) (states int) {
	t.Helper()
	dev := crashdev.NewSet(mem, sizes...)
	v, err := Open(bg, crashdev.Split(dev, sizes...), Options{})
	must(t, err)
	_, err = dev.WriteAt(bytes.Repeat([]byte{0x5A}, 512), int64(at)+0x8000)
	must(t, err)
	must(t, dev.Flush())
	rotten := dev.Events()
	open := func(img *memdev.Device) ondisk.Tid {
		v, err := Open(bg, crashdev.Split(img, sizes...), Options{ReadOnly: true})
		if err != nil {
			return 0
		}
		defer v.Close()
		return v.Header().MirrorTid
	}
	least := open( // 0: what cannot be opened has nothing to lose
		dev.Image(rotten, func(int, int) bool { return true }))
	written, err := v.MendHeader(bg, at)
	must(t, err)
	mended := dev.Events()
	if again, err := v.MendHeader(bg, at); !written || again || err != nil || dev.Events() != mended {
		t.Fatalf("written %v, and once more %v: %v", written, again, err)
	}
	dev.Each(crashdev.Options{Max: 12}, func(s crashdev.State) bool {
		if s.N < rotten {
			return true
		}
		states++
		want := least
		if s.N >= mended {
			want = v.Header().MirrorTid
		}
		if tid := open(s.Image); tid < want {
			t.Errorf("%s: the newest header is of %#x, want %#x", s.Name, uint64(tid), uint64(want))
		}
		return !t.Failed()
	})
	if tid := open(mem); tid != v.Header().MirrorTid {
		t.Errorf("mended, and it opens with %#x", uint64(tid))
	}
	must(t, v.Close())
	return states
}

// A lateRead is a device of which reads of headers wait for what somebody else does.
type lateRead struct {
	ondisk.Device
	during func(off int64)
}

func (d *lateRead) ReadAt(p []byte, off int64) (int, error) {
	if d.during != nil && len(p) == ondisk.HeaderSize {
		d.during(off)
	}
	return d.Device.ReadAt(p, off)
}

// Symptom: a scrub that read the headers of a slow device held up all commits. While
// they go on, what they have just written is no damage, and what is damage is found.
func TestHeadersAreReadBesideCommits(t *testing.T) {
	for _, set := range headerSets {
		mem := headerSet(t, set.sizes)
		devs := crashdev.Split(mem, set.sizes...)
		late := make([]*lateRead, len(devs))
		for i := range devs {
			late[i] = &lateRead{Device: devs[i]}
			devs[i] = late[i]
		}
		v, err := Open(bg, devs, Options{})
		must(t, err)
		m := newMaker(t, 4)
		commits := uint32(0)
		for _, d := range late {
			d.during = func(off int64) {
				if commits++; int(commits) > len(set.places) {
					return // what is read again holds them up
				}
				ctx, cancel := context.WithTimeout(bg, 10*time.Second)
				defer cancel()
				txn, err := v.Begin(ctx)
				if err != nil {
					t.Errorf("%d: nothing can be committed while the header at %#x is read: %v", set.sizes, off, err)
					return
				}
				txn.Abort()
				must(t, commitBatch(v, "DATA", m.batch(ondisk.MakeTid(2, commits), 20)))
			}
		}
		if bad, err := v.VerifyHeaders(bg); err != nil || len(bad) > 0 || int(commits) < len(set.places) {
			t.Errorf("%d: found %v, %v (%d reads)", set.sizes, bad, err, commits)
		}
		last := set.places[len(set.places)-1]
		rot(t, mem, last)
		commits = uint32(len(set.places)) // no more of them, which would write over it
		if bad, err := v.VerifyHeaders(bg); err != nil || len(bad) != 1 || bad[0].Off != last {
			t.Errorf("%d: found %v, %v, want %#x", set.sizes, bad, err, last)
		}
		must(t, v.Close())
	}
}
