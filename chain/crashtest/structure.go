package crashtest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// spareSlot is where a volume with one header slot has a second copy.
const spareSlot = 63 * ondisk.MaxBlock

// maxDepth bounds the nesting of blocks: super-root, PFS, inode, their tables.
const maxDepth = 64

// A structure is the check of one image, made from its bytes alone. What
// chain thinks of the image plays no part.
type structure struct {
	dev   ondisk.Device
	sizes []int64 // of the devices that follow each other on dev
	hdr   *ondisk.VolumeHeader
	seen  map[uint64]uint64 // blocks found intact: DataOff -> sum of check code and tid
	free  func(chunk uint64) bool
	errs  []error
	buf   []byte // what was read last
}

// CheckStructure walks the trees of all headers of a volume of one device that
// decode, the newest first.
func CheckStructure(dev ondisk.Device) error { return checkStructure(dev, []int64{dev.Size()}) }

// CheckSet does that for a volume over devices of these sizes, which follow each
// other on dev.
func CheckSet(dev ondisk.Device, sizes ...int64) error { return checkStructure(dev, sizes) }

// checkStructure does that for a set: its devices, of these sizes, follow each
// other on dev.
func checkStructure(dev ondisk.Device, sizes []int64) error {
	var bufs []*[]byte
	defer func() {
		for _, b := range bufs {
			scratch.Put(b)
		}
	}()
	hdrs := headersIn(dev, sizes[0], func() []byte {
		b := scratch.Get().(*[]byte)
		*b = slices.Grow((*b)[:0], ondisk.HeaderSize)
		bufs = append(bufs, b)
		return (*b)[:ondisk.HeaderSize]
	})
	if len(hdrs) == 0 {
		return errors.New("no header is valid")
	}
	s := &structure{dev: dev, sizes: sizes, seen: make(map[uint64]uint64)}
	for i, h := range hdrs {
		if s.hdr != nil && s.hdr.VoluLoff != h.VoluLoff {
			clear(s.seen) // what was seen there may be elsewhere by this header
		}
		s.hdr, s.free = h, func(uint64) bool { return false }
		leaves := make(map[uint64]*[ondisk.FreemapRefs]ondisk.FreemapEntry)
		s.freemap(h.Freemap[:], leaves, 0)
		if i == 0 && h.WrittenByUs() {
			// Others leave their freemap behind. Of an older header's chunks,
			// some may be free by now in another tree's name.
			s.free = func(chunk uint64) bool { return !allocated(leaves, chunk) }
			if h.FreemapTid != h.MirrorTid {
				s.bad("freemap_tid %v, mirror_tid %v", h.FreemapTid, h.MirrorTid)
			}
		}
		if !h.WrittenByUs() && i > 0 {
			s.errs = nil // what others reuse is theirs to know
			continue
		}
		s.array(h.Sroot[:], h.MirrorTid, 0)
		if len(s.errs) > 0 {
			return fmt.Errorf("header %v (number %d from the newest, %v): %w", h.MirrorTid, i, hdrs[0].MirrorTid, errors.Join(s.errs...))
		}
	}
	return nil
}

// headers lists the headers that a mount could choose, the newest first.
func headers(dev ondisk.Device, size int64) []*ondisk.VolumeHeader {
	return headersIn(dev, size, func() []byte { return make([]byte, ondisk.HeaderSize) })
}

// headersIn is headers, which keep what alloc gives.
func headersIn(dev ondisk.Device, size int64, alloc func() []byte) []*ondisk.VolumeHeader {
	var list []*ondisk.VolumeHeader
	offs := append(ondisk.SlotOffsets(uint64(size)), spareSlot) // the volume may be smaller than its device
	block := alloc()
	for _, off := range offs {
		if off == spareSlot && len(list) > 0 {
			break // it stands in for slot 0 and may be ahead of it, unfinished
		}
		if _, err := dev.ReadAt(block, off); err != nil {
			continue
		}
		h, err := ondisk.AdoptVolumeHeader(block)
		if err != nil {
			continue
		}
		block = alloc()
		at := 0
		for at < len(list) && list[at].MirrorTid >= h.MirrorTid {
			at++
		}
		list = append(list[:at:at], append([]*ondisk.VolumeHeader{h}, list[at:]...)...)
	}
	return list
}

func allocated(leaves map[uint64]*[ondisk.FreemapRefs]ondisk.FreemapEntry, chunk uint64) bool {
	leaf := leaves[chunk/ondisk.ZoneSize]
	if leaf == nil {
		return false
	}
	e := &leaf[chunk%ondisk.ZoneSize/ondisk.SegmentSize]
	return e.State(int(chunk%ondisk.SegmentSize/ondisk.ChunkSize)) == ondisk.ChunkAllocated
}

func (s *structure) bad(format string, args ...any) {
	if len(s.errs) < 8 {
		s.errs = append(s.errs, fmt.Errorf(format, args...))
	}
}

// read returns a block whose check code is right, or nil. It is valid until the
// next one is read.
func (s *structure) read(r *ondisk.Blockref) []byte {
	if s.buf == nil {
		s.buf = make([]byte, ondisk.MaxBlock)
	}
	block := s.buf[:r.Size()]
	if n, err := s.dev.ReadAt(block, s.place(r.Off())); n < len(block) {
		s.bad("%v: %w", r, err)
		return nil
	}
	if err := r.VerifyCheck(block); err != nil {
		s.bad("%v: %w", r, err)
		return nil
	}
	return block
}

// place is where a logical address is on the device.
func (s *structure) place(off uint64) int64 {
	n, beg := max(1, int(s.hdr.NVolumes)), int64(0)
	for i := range n - 1 {
		if off < s.hdr.VoluLoff[i+1] {
			return beg + int64(off-s.hdr.VoluLoff[i])
		}
		beg += s.sizes[i]
	}
	return beg + int64(off-s.hdr.VoluLoff[n-1])
}

// array checks the elements of one array whose own blockref has that tid.
func (s *structure) array(refs []ondisk.Blockref, above ondisk.Tid, depth int) {
	if depth > maxDepth {
		s.bad("tables nested too deep")
		return
	}
	for i := range refs {
		r := &refs[i]
		if r.Type == ondisk.TypeEmpty || r.Type == ondisk.TypeInvalid {
			continue
		}
		if r.MirrorTid > above {
			s.bad("%v: mirror_tid %v below one of %v", r, r.MirrorTid, above)
		}
		if r.DataOff != 0 {
			s.block(r, depth)
		}
	}
}

func (s *structure) block(r *ondisk.Blockref, depth int) {
	sum := sumOf(r.Check[:], tidBytes(r.MirrorTid))
	if was, ok := s.seen[r.DataOff]; ok && was == sum {
		return
	}
	for at := r.Off() &^ (ondisk.ChunkSize - 1); at < r.Off()+uint64(r.Size()); at += ondisk.ChunkSize {
		if at >= s.hdr.AllocatorBeg && s.free(at) {
			s.bad("%v: chunk %#x is not allocated", r, at)
		}
	}
	block := s.read(r)
	if block == nil {
		return
	}
	s.seen[r.DataOff] = sum
	switch r.Type {
	case ondisk.TypeInode:
		ino, err := ondisk.DecodeInode(block)
		if err != nil {
			s.bad("%v: %w", r, err)
		}
		s.array(ino.Blockset, r.MirrorTid, depth+1)
	case ondisk.TypeIndirect:
		refs, err := ondisk.DecodeBlockrefs(block)
		if err != nil {
			s.bad("%v: %w", r, err)
		}
		s.array(refs, r.MirrorTid, depth+1)
	}
}

// freemap reads the leaves below refs and checks their sums.
func (s *structure) freemap(refs []ondisk.Blockref, leaves map[uint64]*[ondisk.FreemapRefs]ondisk.FreemapEntry, depth int) {
	for i := range refs {
		r := &refs[i]
		if r.DataOff == 0 || depth > maxDepth {
			continue
		}
		if r.MirrorTid > s.hdr.FreemapTid {
			s.bad("%v: mirror_tid %v, freemap_tid %v", r, r.MirrorTid, s.hdr.FreemapTid)
		}
		block := s.read(r)
		if block == nil {
			continue
		}
		if r.Type == ondisk.TypeFreemapNode {
			kids, err := ondisk.DecodeBlockrefs(block)
			if err != nil {
				s.bad("%v: %w", r, err)
			}
			s.freemap(kids, leaves, depth+1)
			continue
		}
		leaf, err := ondisk.DecodeFreemapLeaf(block)
		if err != nil {
			s.bad("%v: %w", r, err)
			continue
		}
		for n := range leaf {
			if avail := freeBytes(&leaf[n]); avail != leaf[n].Avail {
				s.bad("zone %#x, segment %d: avail %#x, free %#x", r.Key, n, leaf[n].Avail, avail)
			}
		}
		leaves[r.Key/ondisk.ZoneSize] = leaf
	}
}

func freeBytes(e *ondisk.FreemapEntry) uint32 {
	return uint32(e.FreeChunks()) * ondisk.ChunkSize
}
