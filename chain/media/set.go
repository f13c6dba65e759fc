package media

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A Slot is one place of a volume header and what is there.
type Slot struct {
	Device ondisk.Device
	Index  int   // 0..3 in the order of slots; -1 for the spare copy in block 63
	Off    int64 // bytes on Device
	Raw    []byte
	Header *ondisk.VolumeHeader // nil if there is none that is valid
	Err    error                // why
}

// Empty reports whether the slot is readable and all zero, as growing leaves it.
func (s *Slot) Empty() bool {
	return s.Raw != nil && len(bytes.Trim(s.Raw, "\x00")) == 0
}

// A Set is the devices of one file system in their order.
type Set struct {
	Slots  []Slot   // of the root volume, those that its size has room for
	Spare  *Slot    // block 63, if there is only one slot
	Others [][]Slot // of volumes 1, 2, ...; nil where one is missing
	Best   *Slot    // the one in use

	devs []ondisk.Device // by volume id, nil where missing
	loff []uint64        // logical start of each, then the total size
	bad  []error         // what is wrong with the set as such
}

// Open reads the headers of devs, in any order. It fails only if no root
// volume with a usable header is among them. The devices stay the caller's.
func Open(devs []ondisk.Device) (*Set, error) {
	s := new(Set)
	var errs []error
	others := map[int][]Slot{}
	byID := map[int]ondisk.Device{}
	owner := map[int]ondisk.UUID{} // by volume id, the file system it is of
	for _, d := range devs {
		slots, spare := readSlots(d)
		best := choose(slots, spare)
		if best == nil {
			for i := range slots {
				errs = append(errs, slots[i].Err)
			}
			if len(slots) == 0 {
				errs = append(errs, fmt.Errorf("%s: %s are too few for a volume: %w", d.Name(), ondisk.Exact(uint64(d.Size())), ondisk.ErrNotHammer2))
			}
			continue
		}
		id := int(best.Header.VoluID)
		if other := byID[id]; other != nil {
			s.bad = append(s.bad, fmt.Errorf("%s and %s are both volume %d", other.Name(), d.Name(), id))
			continue
		}
		byID[id], owner[id] = d, best.Header.Fsid
		if id == 0 {
			s.Slots, s.Spare, s.Best = slots, spare, best
		} else {
			others[id] = slots
		}
	}
	if s.Best == nil {
		if len(byID) > 0 {
			errs = append(errs, errors.New("the first volume of the file system is not among the devices: give all of them, joined by colons"))
		}
		return nil, errors.Join(errs...)
	}
	s.bad = append(s.bad, errs...)
	for id, d := range byID {
		if owner[id] != owner[0] {
			s.bad = append(s.bad, fmt.Errorf("%s and %s belong to different file systems", s.Best.Device.Name(), d.Name()))
			delete(byID, id)
		}
	}
	s.arrange(byID, others)
	return s, nil
}

// arrange puts the volumes in order by what the header in use says of them.
func (s *Set) arrange(byID map[int]ondisk.Device, others map[int][]Slot) {
	h := s.Best.Header
	n := max(1, int(h.NVolumes))
	s.loff = []uint64{0}
	if h.Version > 1 {
		s.loff = append([]uint64(nil), h.VoluLoff[:n]...)
	}
	s.loff = append(s.loff, h.Size())
	s.devs = make([]ondisk.Device, n)
	s.Others = make([][]Slot, n-1)
	for id, d := range byID {
		if id >= n {
			s.bad = append(s.bad, fmt.Errorf("%s: volume %d of a file system of %d", d.Name(), id, n))
			continue
		}
		s.devs[id] = d
		if id > 0 {
			s.Others[id-1] = others[id]
		}
	}
	for id, d := range s.devs {
		if d == nil {
			s.bad = append(s.bad, fmt.Errorf("volume %d of the file system is missing", id))
		} else if size := s.loff[id+1] - s.loff[id]; uint64(d.Size()) < size {
			s.bad = append(s.bad, fmt.Errorf("%s has %s, but volume %d on it %s", d.Name(), ondisk.Exact(uint64(d.Size())), id, ondisk.Exact(size)))
		}
	}
}

// Header is the header in use.
func (s *Set) Header() *ondisk.VolumeHeader { return s.Best.Header }

// Size is that of one volume, by the header in use.
func (s *Set) Size(id int) uint64 { return s.loff[id+1] - s.loff[id] }

// Damage is what is wrong with the set of devices: one missing, doubled, too
// short, or not a volume.
func (s *Set) Damage() []error { return s.bad }

// readSlots reads the header slots that lie on a device, and the spare copy if
// there is but one.
func readSlots(d ondisk.Device) (slots []Slot, spare *Slot) {
	for i, off := range ondisk.SlotOffsets(uint64(d.Size())) {
		slots = append(slots, readSlot(d, i, off))
	}
	// The volume may be smaller than the device.
	if best := choose(slots, nil); best != nil && foreign(d, slots, best) {
		if !ondisk.TornHeaderOf(slots[0].Raw, readSlot(d, -1, ondisk.SpareHeader).Header.Fsid) {
			slots[0].Err = fmt.Errorf("%w: %w", slots[0].Err, ondisk.ErrWiped)
		}
		slots = slots[:1]
	} else if best != nil && slots[0].Header == nil && ondisk.EndsBefore(slots[0].Raw, best.Header, best.Index) {
		slots = slots[:1]
		slots[0].Err = fmt.Errorf("%w: %w", slots[0].Err, ondisk.ErrTwoVolumes)
	}
	count := 1
	if best := choose(slots, nil); best != nil {
		count = max(1, len(ondisk.SlotOffsets(best.Header.VoluSize)))
	}
	if count == 1 {
		s := readSlot(d, -1, ondisk.SpareHeader)
		spare = &s
	}
	if best := choose(slots, spare); best == nil || len(ondisk.SlotOffsets(best.Header.VoluSize)) > count {
		count, spare = len(slots), nil
	}
	count = min(count, len(slots))
	return slots[:count], spare
}

// foreign reports whether best is of somebody who had the device before: the
// first slot is torn, and was that of the file system in the spare copy, or may
// have been.
func foreign(d ondisk.Device, slots []Slot, best *Slot) bool {
	if best.Index < 1 || slots[0].Header != nil {
		return false
	}
	h := readSlot(d, -1, ondisk.SpareHeader).Header
	return ondisk.WipedBefore(slots[0].Raw, best.Header, h) || h != nil && h.WrittenByUs() && h.Fsid != best.Header.Fsid && len(ondisk.SlotOffsets(h.VoluSize)) == 1 &&
		ondisk.TornHeaderOf(slots[0].Raw, h.Fsid)
}

func readSlot(d ondisk.Device, index int, off int64) Slot {
	s := Slot{Device: d, Index: index, Off: off, Raw: ondisk.AlignedBuffer(ondisk.HeaderSize)}
	if n, err := d.ReadAt(s.Raw, off); n < len(s.Raw) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		s.Raw, s.Err = nil, fmt.Errorf("%s: header at %#x: %w", d.Name(), off, err)
		return s
	}
	var err error
	if s.Header, err = ondisk.AdoptVolumeHeader(s.Raw); err != nil {
		s.Err = fmt.Errorf("%s: header at %#x: %w", d.Name(), off, err)
	}
	return s
}

// choose returns the slot in use: the valid one with the highest mirror_tid,
// the lowest of equals; or the spare copy where it is our own and slot 0 torn.
func choose(slots []Slot, spare *Slot) *Slot {
	var best *Slot
	for i := range slots {
		h := slots[i].Header
		if h != nil && i < len(ondisk.SlotOffsets(h.VoluSize)) && (best == nil || h.Fsid == best.Header.Fsid && h.MirrorTid > best.Header.MirrorTid) {
			best = &slots[i]
		}
	}
	if best == nil && spare != nil && spare.Header != nil && spare.Header.WrittenByUs() {
		best = spare
	}
	return best
}

// Locate finds the device of n bytes at a logical address.
func (s *Set) Locate(off uint64, n int) (ondisk.Device, int64, error) {
	for i, d := range s.devs {
		if off >= s.loff[i] && off+uint64(n) <= s.loff[i+1] {
			if d == nil {
				return nil, 0, fmt.Errorf("address %#x is on volume %d, which is missing", off, i)
			}
			return d, int64(off - s.loff[i]), nil
		}
	}
	return nil, 0, fmt.Errorf("address %#x of %d bytes lies outside the volume: %w", off, n, ondisk.ErrCorrupt)
}

// ReadAt fills p from a logical address.
func (s *Set) ReadAt(p []byte, off uint64) error {
	d, at, err := s.Locate(off, len(p))
	if err != nil {
		return err
	}
	if n, err := d.ReadAt(p, at); n < len(p) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%s: read of %d bytes at %#x: %w", d.Name(), len(p), at, err)
	}
	return nil
}

// A sparse device knows where nothing was ever written.
type sparse interface {
	// NextData is the offset from off on that may be other than zero.
	NextData(off int64) (int64, error)
}

// NextData is the logical address from off on that may be other than zero, as its
// device knows without reading: off itself if it does not know.
func (s *Set) NextData(off uint64) uint64 {
	d, at, err := s.Locate(off, 0)
	if err != nil {
		return off
	}
	p, ok := d.(sparse)
	if !ok {
		return off
	}
	next, err := p.NextData(at)
	if err != nil {
		return off
	}
	return off + uint64(max(0, next-at))
}

// Read returns the stored block of ref. If the error is a *ondisk.CheckError,
// the block is returned too.
func (s *Set) Read(ref *ondisk.Blockref) ([]byte, error) {
	buf := ondisk.AlignedBuffer(ref.Size())
	if err := s.ReadAt(buf, ref.Off()); err != nil {
		return nil, err
	}
	return buf, ref.VerifyCheck(buf)
}
