package chain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/anvilfs/anvilfs/ondisk"
)

// spareSlot is the last block of the first reserved segment. On a volume with
// one header slot the header is written there first: a torn slot 0 would
// leave nothing otherwise.
const spareSlot = 63 * ondisk.MaxBlock

// mirrorTidAt is where a header has its tid, by which a torn one is judged.
const mirrorTidAt = 0x78

// Where a header says what it is the header of.
const (
	voluIDAt = 0x3B
	fsidAt   = 0x40
)

// headerSlots are the places of the header on the first device, and what is
// in them, so that only pages that differ are written.
type headerSlots struct {
	dev   ondisk.Device
	slots []slot
	spare *slot // with one slot only
	cur   int   // slot of the header in use
}

// A slot is one place and its content; content is nil if it is not known.
type slot struct {
	off     int64
	content []byte               // never changed, hdr has it too
	hdr     *ondisk.VolumeHeader // nil = none that is valid
	err     error                // why
}

func readSlot(dev ondisk.Device, off int64) slot {
	s := slot{off: off, content: ondisk.AlignedBuffer(ondisk.HeaderSize)}
	if n, err := dev.ReadAt(s.content, off); n < len(s.content) {
		s.content, s.err = nil, fmt.Errorf("%s: header at %#x: %w", dev.Name(), off, orShort(err))
		return s
	}
	var err error
	if s.hdr, err = ondisk.AdoptVolumeHeader(s.content); err != nil {
		s.err = fmt.Errorf("%s: header at %#x: %w", dev.Name(), off, err)
	}
	return s
}

// orShort is err, or says that a request fell short without one.
func orShort(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readSlots reads all slots of a device and chooses the header in use: the
// valid one with the highest mirror_tid, the lowest slot among equals.
func readSlots(dev ondisk.Device) (*headerSlots, error) {
	h := &headerSlots{dev: dev, cur: -1}
	offs := ondisk.SlotOffsets(uint64(dev.Size()))
	if len(offs) == 0 {
		return nil, fmt.Errorf("%s: %s are too few for a volume: %w", dev.Name(), ondisk.Exact(uint64(dev.Size())), ondisk.ErrNotHammer2)
	}
	var errs []error
	for i, off := range offs {
		s := readSlot(dev, off)
		h.slots = append(h.slots, s)
		switch {
		case s.hdr == nil:
			errs = append(errs, s.err)
		case i >= len(ondisk.SlotOffsets(s.hdr.VoluSize)), h.cur >= 0 && s.hdr.Fsid != h.slots[h.cur].hdr.Fsid:
			// Left behind the end of the volume on a larger device, by this file
			// system or by one that was there before.
		case h.cur < 0 || s.hdr.MirrorTid > h.slots[h.cur].hdr.MirrorTid:
			h.cur = i
		}
	}
	count := 1
	if h.cur >= 0 {
		count = len(ondisk.SlotOffsets(h.slots[h.cur].hdr.VoluSize))
	}
	if count == 1 {
		s := readSlot(dev, spareSlot)
		h.spare = &s
	}
	if err := h.disown(); err != nil {
		return nil, err
	}
	if h.cur < 0 && !h.spareUsable() {
		return nil, errors.Join(errs...)
	}
	// The header may say that the volume is larger than the device it is on.
	h.slots = h.slots[:min(len(h.slots), len(ondisk.SlotOffsets(h.header().VoluSize)))]
	return h, nil
}

// disown gives up a header in use that is of somebody who had the device
// before, and whose first slot is ours: torn, with the spare copy beside it. If
// that cannot be used either, nothing is left to open; nor where the first slot
// was wiped, so that nobody knows whose it was.
func (h *headerSlots) disown() error {
	if h.cur < 1 || h.slots[0].hdr != nil {
		return nil
	}
	found, torn := &h.slots[h.cur], h.slots[0].content
	s := readSlot(h.dev, spareSlot)
	if s.hdr != nil && s.hdr.Fsid != found.hdr.Fsid && ondisk.TornHeaderOf(torn, s.hdr.Fsid) {
		if h.spare = &s; h.spareUsable() {
			h.cur = -1
			return nil
		}
		h.spare = nil
	}
	if ondisk.WipedBefore(torn, found.hdr, s.hdr) {
		return fmt.Errorf("%s: %w: %v, a copy at %#x, and %v at %#x: copy the 64 KiB of the one to keep to the beginning, or replace the member",
			h.dev.Name(), ondisk.ErrWiped, s.hdr.Fsid, s.off, found.hdr.Fsid, found.off)
	}
	if ondisk.EndsBefore(torn, found.hdr, h.cur) {
		return fmt.Errorf("%s: %w (%v at %#x): replace the member, or if it is the other one that is wanted, copy its 64 KiB to the beginning",
			h.dev.Name(), ondisk.ErrTwoVolumes, found.hdr.Fsid, found.off)
	}
	return nil
}

// spareUsable reports whether the spare copy has to stand in for slot 0: one
// that we tore ourselves. If somebody else wrote there since, the spare copy is
// of a state whose blocks may be gone.
func (h *headerSlots) spareUsable() bool {
	if h.spare == nil || h.spare.hdr == nil || !h.spare.hdr.WrittenByUs() || len(ondisk.SlotOffsets(h.spare.hdr.VoluSize)) != 1 {
		return false
	}
	torn := &h.slots[0]
	if torn.hdr != nil || torn.content == nil {
		return false
	}
	tid := ondisk.Tid(binary.LittleEndian.Uint64(torn.content[mirrorTidAt:]))
	return !errors.Is(torn.err, ondisk.ErrCorrupt) || tid <= h.spare.hdr.MirrorTid
}

// header is the header in use.
func (h *headerSlots) header() *ondisk.VolumeHeader {
	if h.cur < 0 {
		return h.spare.hdr
	}
	return h.slots[h.cur].hdr
}

// repair writes a torn slot 0 from the spare copy, or the header in use over
// what is torn otherwise: the slot that is due next, or the spare copy.
//
// Without that, pages of the torn header stay where the next one is torn too.
// The page that the first lacked may be the same in both, and then the first
// becomes valid after all, when its blocks have been overwritten.
func (h *headerSlots) repair() error {
	from := h.spare
	if h.cur >= 0 {
		from = &h.slots[h.cur]
	}
	torn := make([]*slot, 0, 2)
	if s := &h.slots[h.next()]; s.hdr == nil && (h.cur < 0 || s.content != nil && !s.empty()) {
		torn = append(torn, s)
	}
	if s := h.spare; s != nil && s.hdr == nil && s.content != nil && !s.empty() && from.hdr.WrittenByUs() {
		torn = append(torn, s)
	}
	if len(torn) == 0 {
		return nil
	}
	for _, s := range torn {
		s.content = nil
		if _, err := h.put(s, from.content); err != nil {
			return err
		}
		s.hdr, s.err = from.hdr, nil
	}
	h.cur = max(h.cur, 0)
	return h.dev.Flush()
}

// empty reports whether nothing was ever written: growing makes such slots.
func (s *slot) empty() bool {
	return s.content != nil && len(bytes.Trim(s.content, "\x00")) == 0
}

// taint says what a crash of ours cannot have done to the slots.
func (h *headerSlots) taint() error {
	var errs []error
	for i := range h.slots {
		s := &h.slots[i]
		due := h.cur >= 0 && i == (h.cur+1)%len(h.slots)
		if s.content == nil || s.hdr == nil && !due && !s.empty() && h.cur >= 0 {
			errs = append(errs, s.err)
		}
	}
	return errors.Join(errs...)
}

// next is the slot that the next header goes to.
func (h *headerSlots) next() int { return (h.cur + 1) % len(h.slots) }

// write makes block the newest header and flushes. It returns the bytes written.
func (h *headerSlots) write(hdr *ondisk.VolumeHeader) (int64, error) {
	block := ondisk.AlignedBuffer(ondisk.HeaderSize)
	hdr.Encode(block)
	var n int64
	if h.spare != nil {
		wrote, err := h.put(h.spare, block)
		if err != nil {
			return n, err
		}
		n += wrote
		if err := h.dev.Flush(); err != nil {
			return n, err
		}
		h.spare.hdr, h.spare.err = hdr, nil
	}
	i := h.next()
	s := &h.slots[i]
	wrote, err := h.put(s, block)
	if err != nil {
		return n, err
	}
	n += wrote
	if err := h.dev.Flush(); err != nil {
		return n, err
	}
	s.hdr, s.err, h.cur = hdr, nil, i
	return n, nil
}

// put writes block over what is in s: from the first page that differs to the
// last in one request, since the pages between cost less than requests of
// their own. The page with the code of the whole is always among them, so a
// mixture is never valid. It returns the bytes written.
func (h *headerSlots) put(s *slot, block []byte) (wrote int64, err error) {
	old := s.content
	s.content = nil // unknown until all is written
	same := func(p int) bool { return old != nil && bytes.Equal(old[p:p+pageLen], block[p:p+pageLen]) }
	beg, end := 0, len(block)
	for beg < end && same(beg) {
		beg += pageLen
	}
	for beg < end && same(end-pageLen) {
		end -= pageLen
	}
	if beg < end {
		if n, err := h.dev.WriteAt(block[beg:end], s.off+int64(beg)); err != nil || n < end-beg {
			return 0, fmt.Errorf("%s: header at %#x: %w", h.dev.Name(), s.off, orShort(err))
		}
	}
	s.content = block
	return int64(end - beg), nil
}
