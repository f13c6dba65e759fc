package crashtest

import (
	"context"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A Shape is a volume that workloads start from.
type Shape struct {
	Name  string
	Sizes []int64        // of its devices
	Free  int            // chunks left free on each; 0 = all. Few make space go round quickly
	Base  *memdev.Device // somebody's volume to start from; nil = format one
	Start []int64        // sizes of the volumes, if they are to grow over the devices
	Last  bool           // the free chunks are in the last zone only
}

// size is that of all devices together.
func (s Shape) size() (n int64) {
	for _, d := range s.Sizes {
		n += d
	}
	return n
}

// Shapes lists the volumes that are tried: header slots and room matter.
func Shapes() []Shape {
	const four, two, one = 3*ondisk.HeaderZone + ondisk.VolumeAlign, ondisk.HeaderZone, 64 << 20
	return []Shape{
		{Name: "four-slots", Sizes: []int64{four}},
		{Name: "one-slot", Sizes: []int64{one}},
		{Name: "four-slots-tight", Sizes: []int64{four}, Free: 80},
		{Name: "one-slot-tight", Sizes: []int64{one}, Free: 50},
		{Name: "two-volumes", Sizes: []int64{ondisk.ZoneSize, one}, Free: 60},
		// Of these the last volume grows, over its device or one more.
		{Name: "longer", Sizes: []int64{one + 3*ondisk.VolumeAlign}, Start: []int64{one}, Free: 50},
		{Name: "longer-more-slots", Sizes: []int64{ondisk.ZoneSize, two + one}, Start: []int64{ondisk.ZoneSize, one}, Free: 50},
		{Name: "one-more", Sizes: []int64{ondisk.ZoneSize, one}, Start: []int64{ondisk.ZoneSize}, Free: 50},
		{Name: "one-more-with-a-rest", Sizes: []int64{ondisk.ZoneSize + one, 3 * one}, Start: []int64{ondisk.ZoneSize + one}, Free: 60, Last: true},
		{Name: "one-more-one-slot-less", Sizes: []int64{two + one, 2 * one}, Start: []int64{two + one}, Free: 60, Last: true},
		{Name: "third", Sizes: []int64{ondisk.ZoneSize, two + one, 2 * one}, Start: []int64{ondisk.ZoneSize, two + one}, Free: 60, Last: true},
	}
}

// Labels of the PFSs that every volume has from the start.
const (
	first  = "ALPHA"
	second = "BETA"
)

// wordUUID is a UUID that is the same in every run.
func wordUUID(word string) (u ondisk.UUID) {
	for i := range u {
		u[i] = byte(sumOf([]byte(word), []byte{byte(i)}))
	}
	return u
}

// build formats a volume. Its age is given: the clock has no part in a replay.
func (s Shape) build(ctx context.Context) (*memdev.Device, error) {
	dev := memdev.New(s.size())
	err := format(ctx, s.volumes(dev), "volume")
	if err == nil && s.Free > 0 {
		err = s.occupy(dev)
	}
	if err == nil {
		err = s.lateLog(dev)
	}
	if err != nil {
		return nil, fmt.Errorf("building %s: %w", s.Name, err)
	}
	return dev, nil
}

// volumes are the devices as the format is to see them.
func (s Shape) volumes(dev *memdev.Device) (list []ondisk.Device) {
	var parts []int64
	for i, n := range s.Sizes {
		used := n
		if s.Start != nil {
			used = 0
			if i < len(s.Start) {
				used = s.Start[i]
			}
		}
		parts = append(parts, used, n-used)
	}
	for i, d := range crashdev.Split(dev, parts...) {
		if i%2 == 0 && parts[i] > 0 {
			list = append(list, d)
		}
	}
	return list
}

// format makes a volume that is the same whenever it has the same name.
func format(ctx context.Context, devs []ondisk.Device, name string) error {
	var specs []chain.PFSSpec
	for _, label := range []string{first, second} {
		specs = append(specs, chain.PFSSpec{Label: label, Fsid: wordUUID(label), Clid: wordUUID("cluster " + label)})
	}
	_, err := chain.Format(ctx, devs, chain.FormatOptions{
		Labels: specs, NoLocal: true, Boot: ondisk.VolumeAlign, Aux: ondisk.VolumeAlign,
		Fsid: wordUUID(name), Writer: wordUUID("writer"), Now: time.Unix(1e9, 0),
	})
	return err
}

// occupy marks all but s.Free chunks as allocated, as if a scan for lost space
// were long overdue. Filling gigabytes would take longer than all the rest.
func (s Shape) occupy(dev *memdev.Device) error {
	hdrs := headers(dev, s.Sizes[0])
	if len(hdrs) == 0 {
		return fmt.Errorf("%d bytes hold no header", s.Sizes[0])
	}
	h := hdrs[0]
	var leaves []ondisk.Blockref
	free, next := 0, 0 // devices begin with a zone
	for key := uint64(0); key < h.Size(); key += ondisk.ZoneSize {
		left := 0
		if next < int(h.NVolumes) && key == h.VoluLoff[next] && !s.Last || s.Last && key+ondisk.ZoneSize >= h.Size() {
			left = s.Free
			free += left
			next++
		}
		ref, err := s.leaf(dev, h, key, left)
		if err != nil {
			return err
		}
		leaves = append(leaves, ref)
	}
	copy(h.Freemap[:], leaves)
	if len(leaves) > len(h.Freemap) {
		block := make([]byte, ondisk.FreemapBlockSize)
		ondisk.EncodeBlockrefs(block, leaves)
		ref, err := freemapBlock(dev, h, ondisk.TypeFreemapNode, 2, 0, block)
		if err != nil {
			return err
		}
		h.Freemap = [ondisk.InodeRefs]ondisk.Blockref{ref}
	}
	total := uint64(0)
	for _, seg := range usable(h) {
		total += uint64(seg) * ondisk.SegmentSize
	}
	h.AllocatorFree = h.AllocatorSize - total + uint64(free)*ondisk.ChunkSize
	return replaceHeaders(dev, h)
}

// replaceHeaders makes h every header of a volume that was just formatted.
func replaceHeaders(dev *memdev.Device, h *ondisk.VolumeHeader) error {
	block := make([]byte, ondisk.HeaderSize)
	h.Encode(block)
	offs := ondisk.SlotOffsets(h.VoluSize)
	if len(offs) == 1 {
		offs = append(offs, spareSlot)
	}
	for _, off := range offs {
		if _, err := dev.WriteAt(block, off); err != nil {
			return err
		}
	}
	return nil
}

// segments is the range [lo, hi) of a zone's segments that blocks can be in.
func segments(h *ondisk.VolumeHeader, key uint64) (lo, hi uint64) {
	from := max((h.AllocatorBeg+ondisk.SegmentSize-1)&^(ondisk.SegmentSize-1), key+ondisk.ReservedSize)
	to := min(key+ondisk.ZoneSize, h.Size()&^(ondisk.SegmentSize-1))
	if from >= to {
		return 0, 0
	}
	return (from - key) / ondisk.SegmentSize, (to - key) / ondisk.SegmentSize
}

// usable counts these segments, zone by zone.
func usable(h *ondisk.VolumeHeader) (counts []int) {
	for key := uint64(0); key < h.Size(); key += ondisk.ZoneSize {
		lo, hi := segments(h, key)
		counts = append(counts, int(hi-lo))
	}
	return counts
}

// leaf writes the freemap leaf of a zone in which left chunks are free.
func (s Shape) leaf(dev *memdev.Device, h *ondisk.VolumeHeader, key uint64, left int) (ondisk.Blockref, error) {
	var entries [ondisk.FreemapRefs]ondisk.FreemapEntry
	lo, hi := segments(h, key)
	for i := range entries {
		e := &entries[i]
		e.Linear = ondisk.SegmentSize
		for w := range e.Bitmap {
			e.Bitmap[w] = ^uint64(0)
		}
		if uint64(i) < lo || uint64(i) >= hi {
			continue
		}
		// Not in one run: what needs several chunks has to look for them.
		for c := 0; c < ondisk.ChunksPerSegment && left > 0; c++ {
			if c%8 == 7 {
				continue
			}
			e.SetState(c, ondisk.ChunkFree)
			e.Avail += ondisk.ChunkSize
			left--
		}
	}
	block := make([]byte, ondisk.FreemapBlockSize)
	ondisk.EncodeFreemapLeaf(block, &entries)
	return freemapBlock(dev, h, ondisk.TypeFreemapLeaf, 1, key, block)
}

// freemapBlock writes the first copy of a freemap block.
func freemapBlock(dev *memdev.Device, h *ondisk.VolumeHeader, typ ondisk.BlockType, level uint8, key uint64, block []byte) (ondisk.Blockref, error) {
	ref := ondisk.Blockref{Type: typ, Key: key, KeyBits: ondisk.ZoneRadix + 8*(level-1), MirrorTid: h.MirrorTid}
	ref.SetMethods(ondisk.CheckFreemap, ondisk.CompNone)
	ref.DataOff = ondisk.MakeDataOff(key+uint64(level)*ondisk.MaxBlock, ondisk.FreemapBlockRadix)
	ref.SetCheck(block)
	_, err := dev.WriteAt(block, int64(ref.Off()))
	return ref, err
}
