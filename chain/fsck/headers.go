package fsck

import (
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

const remedyOther = "the next mount for writing makes it agree with the first volume"

const remedyHeader = "the next change of the volume by anvilfs writes it anew"

// headers judges every header slot, and the volumes against each other.
func (c *checker) headers() {
	h := c.hdr
	for _, err := range c.set.Damage() {
		c.add(Finding{Severity: Error, What: err.Error(), Remedy: "give all devices of the file system"})
	}
	for i := range c.set.Slots {
		c.slot(&c.set.Slots[i])
	}
	c.spare()
	for i := range c.set.Others {
		for k := range c.set.Others[i] {
			c.other(i+1, &c.set.Others[i][k])
		}
	}
	c.rep.Foreign = !h.WrittenByUs()
	if c.rep.Foreign {
		c.add(Finding{Severity: Info, What: "another implementation wrote last", Remedy: "nothing to do; the next read-write mount looks at the freemap once"})
	}
	if h.FreemapTid > h.MirrorTid {
		c.add(Finding{Severity: Error, What: fmt.Sprintf("freemap_tid %#x is above mirror_tid %#x", uint64(h.FreemapTid), uint64(h.MirrorTid)), Remedy: remedyHeader})
	}
	if h.PeerType != ondisk.PeerType {
		c.add(Finding{Severity: Warning, What: fmt.Sprintf("peer_type %d, %d is the only one in use", h.PeerType, ondisk.PeerType)})
	}
	for i := range h.Sroot {
		if t := h.Sroot[i].Type; i > 0 && t != ondisk.TypeEmpty {
			c.add(Finding{Severity: Warning, What: fmt.Sprintf("element %d beside the super-root is %v", i, t)})
		}
	}
	if h.AllocatorFree > h.AllocatorSize {
		c.add(Finding{Severity: Error, What: fmt.Sprintf("%d bytes free of %d", h.AllocatorFree, h.AllocatorSize), Remedy: remedyHeader})
	}
}

// slot judges a header slot of the root volume.
func (c *checker) slot(s *media.Slot) {
	c.describe(s)
	best, h := c.set.Best, s.Header
	where := fmt.Sprintf("header slot %d at %#x", s.Index, s.Off)
	switch {
	case h == nil && s.Raw == nil:
		c.add(Finding{Severity: Error, Off: uint64(s.Off), What: fmt.Sprintf("%s cannot be read: %v", where, s.Err), Remedy: "replace the device"})
	case h == nil && errors.Is(s.Err, ondisk.ErrWiped):
		c.add(Finding{Severity: Error, Off: uint64(s.Off), What: fmt.Sprintf("%s: %v", where, ondisk.ErrWiped),
			Remedy: "it is not opened: copy the 64 KiB of the one to keep to the beginning"})
	case h == nil && s.Empty():
		c.add(Finding{Severity: Warning, Off: uint64(s.Off), What: where + " is empty", Remedy: remedyHeader})
	case h == nil:
		f := Finding{Severity: Error, Off: uint64(s.Off), What: fmt.Sprintf("%s: %v", where, errors.Unwrap(s.Err)), Remedy: remedyHeader}
		if due := (best.Index + 1) % len(c.set.Slots); best.Index >= 0 && s.Index == due && len(c.set.Slots) > 1 {
			// That is what a power cut leaves; the one before it is in use.
			f.Severity, f.What = c.cutOff(s), f.What+"; it was the next to be written"
		}
		if best == c.set.Spare {
			f.Severity, f.What = c.cutOff(s), f.What+"; the spare copy of the header is in use, which other systems do not know: mount it once before they do"
		}
		c.add(f)
	case h.Fsid != c.hdr.Fsid:
		c.add(Finding{Severity: Warning, Off: uint64(s.Off), What: fmt.Sprintf("%s belongs to another file system %v", where, h.Fsid), Remedy: remedyHeader})
	case s != best && h.MirrorTid == c.hdr.MirrorTid && h.Sroot != c.hdr.Sroot:
		c.add(Finding{Severity: Error, Off: uint64(s.Off), What: fmt.Sprintf("%s and slot %d have one mirror_tid and different content", where, best.Index), Remedy: "which one is right cannot be told: resync this node"})
	case h.AllocatorBeg != c.hdr.AllocatorBeg || h.AuxEnd != c.hdr.AuxEnd || h.BootEnd != c.hdr.BootEnd:
		c.add(Finding{Severity: Warning, Off: uint64(s.Off), What: where + " has other areas than the one in use", Remedy: remedyHeader})
	case h.Size() != c.hdr.Size():
		c.add(Finding{Severity: Info, Off: uint64(s.Off), What: fmt.Sprintf("%s is from when the volume had %d bytes", where, h.Size())})
	}
}

func (c *checker) describe(s *media.Slot) {
	r := HeaderReport{Slot: s.Index, Offset: s.Off, InUse: s == c.set.Best}
	if s.Header != nil {
		r.MirrorTid = s.Header.MirrorTid
	} else if s.Err != nil {
		r.Err = s.Err.Error()
	}
	c.rep.Headers = append(c.rep.Headers, r)
}

// spare judges the second header of a volume that has room for one slot only.
// Others neither write nor read it, so it may be old.
func (c *checker) spare() {
	s := c.set.Spare
	if s == nil || s.Empty() {
		return
	}
	c.describe(s)
	switch {
	case s.Header == nil && s.Raw == nil:
		c.add(Finding{Severity: Warning, Off: uint64(s.Off), What: fmt.Sprintf("the spare header in block 63 cannot be read: %v", s.Err), Remedy: "replace the device"})
	case s.Header == nil && !errors.Is(s.Err, ondisk.ErrNotHammer2):
		c.add(Finding{Severity: c.cutOff(s), Off: uint64(s.Off), What: fmt.Sprintf("the spare header in block 63: %v", errors.Unwrap(s.Err)), Remedy: remedyHeader})
	case s.Header != nil && s != c.set.Best && c.hdr.WrittenByUs() && s.Header.WrittenByUs() && s.Header.MirrorTid > c.hdr.MirrorTid:
		c.add(Finding{Severity: Info, Off: uint64(s.Off), What: "the spare header in block 63 is one commit ahead: the last one was cut off", Remedy: remedyHeader})
	}
}

// cutOff is how bad a header is that does not count. If we wrote the one in
// use, it is what we left when the power went: nothing is wrong then, and a boot
// that checks before it mounts must not stop. Others do not tear their headers
// that way, or leave them so.
func (c *checker) cutOff(s *media.Slot) Severity {
	if c.hdr.WrittenByUs() && s.Raw != nil && !errors.Is(s.Err, ondisk.ErrNotHammer2) {
		return Info
	}
	return Warning
}

// other judges a header slot of a volume behind the first.
func (c *checker) other(id int, s *media.Slot) {
	h, want := s.Header, c.hdr
	f := Finding{Severity: Error, Off: uint64(s.Off), Remedy: "resync this node, or make it anew"}
	where := fmt.Sprintf("%s: header slot %d of volume %d", s.Device.Name(), s.Index, id)
	switch {
	case h == nil:
		f.What, f.Remedy = fmt.Sprintf("%s: %v", where, errors.Unwrap(s.Err)), remedyOther
		f.Severity = c.cutOff(s) // any of its slots will do
	case h.AheadOf(want) && int(h.VoluID) == id && !h.Agrees(want, c.set.Size(id)):
		f.What, f.Remedy = where+" is ahead of the first volume: growing was cut off", remedyOther
		f.Severity = Info
	case h.Fsid != want.Fsid || h.NVolumes != want.NVolumes || h.Version != want.Version || h.TotalSize != want.TotalSize || h.VoluLoff != want.VoluLoff:
		f.What = where + " disagrees with the first volume about the file system"
	case int(h.VoluID) != id:
		f.What = fmt.Sprintf("%s says it is volume %d", where, h.VoluID)
	default:
		return
	}
	c.add(f)
}

// checkLag judges what the tree has that the freemap of the header may lack.
func (c *checker) checkLag() {
	h := c.hdr
	switch n := c.lag.Load(); {
	case n > 0 && h.WrittenByUs():
		c.add(Finding{Severity: Error, What: fmt.Sprintf("%d blockrefs are newer than freemap_tid %#x", n, uint64(h.FreemapTid)), Remedy: remedyMark})
	case n > 0:
		c.add(Finding{Severity: Warning, What: fmt.Sprintf("the freemap lags behind: %d blockrefs are newer than freemap_tid %#x", n, uint64(h.FreemapTid)), Remedy: remedyMark})
	case h.FreemapTid < h.MirrorTid:
		c.add(Finding{Severity: Info, What: fmt.Sprintf("freemap_tid %#x is below mirror_tid %#x, without a block in between", uint64(h.FreemapTid), uint64(h.MirrorTid))})
	}
}
