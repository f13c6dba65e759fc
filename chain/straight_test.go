package chain

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// countedReads counts the requests that a device gets.
type countedReads struct {
	ondisk.Device
	n atomic.Int64
}

func (c *countedReads) ReadAt(p []byte, off int64) (int, error) {
	c.n.Add(1)
	return c.Device.ReadAt(p, off)
}

// straightFile is a file whose blocks are stored as they are, but for a hole
// and a few that compress, on a device.
func straightFile(t *testing.T) (dev *faultdev.Device, reads *countedReads, view *View, want []byte) {
	t.Helper()
	const inum, n = 5000, 40
	reads = &countedReads{Device: newImage(t, 256<<20)}
	dev = faultdev.New(reads)
	v := openImage(t, dev, Options{CacheBytes: 1 << 20})
	rnd := rand.New(rand.NewPCG(7, 7))
	want = make([]byte, n*ondisk.LogicalBlock)
	meta := fileMeta(inum)
	meta.Size = uint64(len(want) - 100)
	b := &Batch{T: ondisk.MakeTid(1, 1), Changes: []Change{{Inum: inum, Kind: KindInode, Inode: meta}}}
	for i := range n {
		part := want[i*ondisk.LogicalBlock:][:ondisk.LogicalBlock]
		switch {
		case i == 20:
			continue // a hole
		case i > 30 && i%3 == 0:
			copy(part, bytes.Repeat([]byte("words "), 10000))
		default:
			for k := range part {
				part[k] = byte(rnd.Uint32())
			}
		}
		block, _, err := ondisk.EncodeData(part, uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64))
		if err != nil {
			t.Fatal(err)
		}
		b.Changes = append(b.Changes, Change{Inum: inum, Kind: KindData, Key: uint64(i) * ondisk.LogicalBlock, Block: block})
	}
	if err := commitBatch(v, "DATA", b); err != nil {
		t.Fatal(err)
	}
	clear(want[meta.Size:])
	view, err := v.View(bg, "DATA")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		view.Release()
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev, reads, view, want
}

// What is read into the caller's buffer by the device itself is what is read
// through another one, wherever it begins and ends.
func TestReadStraight(t *testing.T) {
	_, reads, view, want := straightFile(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		off := rnd.IntN(len(want))
		if rnd.IntN(2) == 0 {
			off &^= ondisk.LogicalBlock - 1
		}
		dst := ondisk.AlignedBuffer(1 + rnd.IntN(len(want)-off))
		for i := range dst {
			dst[i] = 0xee
		}
		if err := view.ReadData(bg, 5000, uint64(off), dst); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(dst, want[off:off+len(dst)]) {
			t.Fatalf("bytes [%d, %d) differ", off, off+len(dst))
		}
	}
	before := reads.n.Load()
	if err := view.ReadData(bg, 5000, 0, ondisk.AlignedBuffer(16*ondisk.LogicalBlock)); err != nil {
		t.Fatal(err)
	}
	if n := reads.n.Load() - before; n > 2 {
		t.Errorf("%d requests for a MiB that lies in a row", n)
	}
}

// Blocks that lie in a row on media and had others between them once are not
// read over the hole that is there now.
func TestReadStraightAroundAHole(t *testing.T) {
	_, _, view, want := straightFile(t)
	v := view.reader.src.(*Volume)
	b := &Batch{T: ondisk.MakeTid(1, 2)}
	for i := 5; i < 8; i++ {
		b.Changes = append(b.Changes, Change{Inum: 5000, Kind: KindData, Key: uint64(i) * ondisk.LogicalBlock, Delete: true})
	}
	clear(want[5*ondisk.LogicalBlock : 8*ondisk.LogicalBlock])
	if err := commitBatch(v, "DATA", b); err != nil {
		t.Fatal(err)
	}
	after, err := v.View(bg, "DATA")
	if err != nil {
		t.Fatal(err)
	}
	defer after.Release()
	for _, n := range []int{9, 10, 16} {
		dst := ondisk.AlignedBuffer(n * ondisk.LogicalBlock)
		if err := after.ReadData(bg, 5000, 0, dst); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(dst, want[:len(dst)]) {
			t.Errorf("the first %d blocks differ", n)
		}
	}
}

// A block that is damaged is named, also among those read at once.
func TestReadStraightDamage(t *testing.T) {
	dev, _, view, _ := straightFile(t)
	var ref ondisk.Blockref
	err := view.DataRefs(bg, 5000, 7*ondisk.LogicalBlock, 8*ondisk.LogicalBlock, func(r *ondisk.Blockref) bool { ref = *r; return true })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dev.WriteAt([]byte("damage"), int64(ref.Off())+1000); err != nil {
		t.Fatal(err)
	}
	err = view.ReadData(bg, 5000, 0, ondisk.AlignedBuffer(16*ondisk.LogicalBlock))
	var node *NodeError
	if !errors.As(err, &node) || !errors.Is(err, ondisk.ErrCorrupt) || node.Ref.Off() != ref.Off() {
		t.Errorf("got %v, want damage of %v", err, &ref)
	}
}

// Whoever does not wait for a device has the buffer back at once: the device
// must not write to it when it answers after all.
func TestReadStraightLate(t *testing.T) {
	dev, _, view, _ := straightFile(t)
	dev.Add(faultdev.Rule{Do: faultdev.Hang, On: faultdev.Read, Times: faultdev.Always})
	late, back := 0, make(chan bool, 10)
	ctx := Patient(bg, time.Millisecond, func() func() {
		late++
		return func() { back <- true }
	})
	dst := ondisk.AlignedBuffer(4 * ondisk.LogicalBlock)
	if err := view.ReadData(ctx, 5000, 0, dst); !errors.Is(err, ErrLate) {
		t.Fatal(err)
	}
	dev.Clear()
	dev.Release()
	for range late {
		<-back
	}
	for i, c := range dst {
		if c != 0 {
			t.Fatalf("byte %d was written", i)
		}
	}
}
