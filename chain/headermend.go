package chain

import (
	"bytes"
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A BadHeader is a copy of a volume header that is not as it should be on its
// device.
type BadHeader struct {
	Off uint64 // of the file system, so that no two volumes have the same
	Err error
}

// A headerPlace is where a copy of a header is, and what it should be by what is
// known while one has the turn. It can be compared with the device without it.
type headerPlace struct {
	geo    *geometry
	first  *ondisk.VolumeHeader // the header in use
	volume int
	slot   *slot // of the first volume, for who has the turn; nil of others
	want   slot  // what was in it
	off    int64 // on its device
}

// at is where it is on the file system.
func (p *headerPlace) at() uint64 { return p.geo.loff[p.volume] + uint64(p.off) }

// headerPlaces are those of all volumes. The caller has the turn.
func (v *Volume) headerPlaces() (list []headerPlace) {
	h, g, first := v.slots, v.geo.Load(), v.slots.header()
	for i := range h.slots {
		list = append(list, headerPlace{g, first, 0, &h.slots[i], h.slots[i], h.slots[i].off})
	}
	if h.spare != nil && first.WrittenByUs() { // others know of no spare copy
		list = append(list, headerPlace{g, first, 0, h.spare, *h.spare, h.spare.off})
	}
	for i := 1; i < len(g.devs); i++ {
		offs := ondisk.SlotOffsets(g.loff[i+1] - g.loff[i])
		if len(offs) == 1 {
			offs = append(offs, spareSlot)
		}
		for _, off := range offs {
			list = append(list, headerPlace{geo: g, first: first, volume: i, off: off})
		}
	}
	return list
}

// VerifyHeaders reads all copies of the headers of all volumes from the devices,
// where commits only write them, one after the other: which of them is needed
// is known only after a crash.
//
// A device may be slow, and commits go on meanwhile. What does not look right may be
// what one of them has just written: it is read again while none can.
func (v *Volume) VerifyHeaders(ctx context.Context) (bad []BadHeader, err error) {
	if err := v.takeTurn(ctx); err != nil {
		return nil, err
	}
	places := v.headerPlaces()
	v.passTurn()
	suspect := make(map[uint64]bool)
	for i := range places {
		if places[i].wrong() != nil {
			suspect[places[i].at()] = true
		}
	}
	if len(suspect) == 0 {
		return nil, ctx.Err()
	}
	if err := v.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer v.passTurn()
	for _, p := range v.headerPlaces() { // as they are now
		if !suspect[p.at()] {
			continue
		}
		if err := p.wrong(); err != nil {
			bad = append(bad, BadHeader{p.at(), err})
		}
	}
	return bad, nil
}

// MendHeader writes a copy of a header anew, if it is still bad, and reports
// success only after the device gave it back right.
//
// It is no commit, which may write over the only copy that can still be read. Only
// the bad one is touched, and gets the bytes that it should have: a power cut
// leaves it bad, or, if it was a misread, as it was.
func (v *Volume) MendHeader(ctx context.Context, off uint64) (written bool, err error) {
	if v.opts.ReadOnly {
		return false, fmt.Errorf("%s: %w", v.Name(), ErrReadOnly)
	}
	if err := v.takeTurn(ctx); err != nil {
		return false, err
	}
	defer v.passTurn()
	for _, p := range v.headerPlaces() {
		if p.at() != off || p.wrong() == nil {
			continue
		}
		if err := v.putHeader(&p, v.rightHeader(&p)); err != nil {
			v.fail(err)
			return false, fmt.Errorf("%w: %w", ErrVolumeFailed, err)
		}
		if err := p.wrong(); err != nil {
			return true, fmt.Errorf("written and still bad: %w", err)
		}
		return true, nil
	}
	return false, nil
}

// wrong says what a copy of a header is not, or nil.
func (p *headerPlace) wrong() error {
	d := p.geo.devs[p.volume]
	now, ours, want := readSlot(d, p.off), p.slot != nil, &p.want
	differs := func() error {
		return fmt.Errorf("%s: header at %#x: %w", d.Name(), p.off, damaged("it can be read, and is not what was written"))
	}
	switch {
	case now.content == nil:
		return now.err
	case ours && want.hdr != nil && want.content != nil && bytes.Equal(now.content, want.content):
		return nil
	case now.hdr == nil && now.empty() && (ours && want.hdr == nil || p.off == spareSlot && !ours):
		return nil // nothing was ever written there
	case now.hdr == nil:
		return now.err
	case ours && want.hdr != nil:
		return differs()
	case !ours && !p.fits(&now):
		return differs()
	}
	return nil
}

// fits reports whether what is in a slot is a header of a volume behind the first.
func (p *headerPlace) fits(s *slot) bool {
	return s.hdr != nil && s.hdr.Fsid == p.first.Fsid && int(s.hdr.VoluID) == p.volume &&
		(s.hdr.Agrees(p.first, p.geo.loff[p.volume+1]-p.geo.loff[p.volume]) || s.hdr.AheadOf(p.first))
}

// rightHeader is what belongs in a place: what was written there, if that is
// known; else the header in use. All of a volume behind the first are alike; if
// none is left, one is made from the first volume's.
func (v *Volume) rightHeader(p *headerPlace) []byte {
	h, g := v.slots, v.geo.Load()
	switch {
	case p.slot != nil && p.slot.hdr != nil && p.slot.content != nil:
		return p.slot.content
	case p.slot != nil:
		return h.slots[h.cur].content
	}
	for _, o := range v.headerPlaces() {
		if o.volume == p.volume && o.off != p.off {
			if s := readSlot(g.devs[p.volume], o.off); s.content != nil && p.fits(&s) {
				return s.content
			}
		}
	}
	hdr := secondary(h.header(), p.volume, g.loff[p.volume+1]-g.loff[p.volume])
	hdr.Mark = ondisk.Mark{MirrorTid: hdr.MirrorTid, Writer: v.opts.Writer}
	block := ondisk.AlignedBuffer(ondisk.HeaderSize)
	hdr.Encode(block)
	return block
}

// putHeader writes all of a copy and makes it durable.
func (v *Volume) putHeader(p *headerPlace, block []byte) error {
	h := &headerSlots{dev: v.geo.Load().devs[p.volume]}
	s := p.slot
	if s == nil {
		s = &slot{off: p.off}
	}
	known := s.hdr
	s.content = nil
	if _, err := h.put(s, block); err != nil {
		return err
	}
	if known == nil {
		s.hdr, s.err = v.slots.header(), nil
	}
	p.want = *s
	return flushDevice(h.dev)
}
