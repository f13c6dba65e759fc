package show

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Volume prints every header slot of the volumes on devs, the one in use in
// full.
func Volume(ctx context.Context, w io.Writer, devs []ondisk.Device) error {
	p, err := open(w, devs)
	if err != nil {
		return err
	}
	for _, err := range p.set.Damage() {
		p.bad(0, err)
	}
	for i := range p.set.Slots {
		p.slot(&p.set.Slots[i])
	}
	if p.set.Spare != nil {
		p.slot(p.set.Spare)
	}
	p.header(p.set.Header())
	for id, slots := range p.set.Others {
		for i := range slots {
			p.line(0, "volume %d:", id+1)
			p.slot(&slots[i])
		}
	}
	p.log(ctx)
	return p.done(ctx)
}

func (p *printer) slot(s *media.Slot) {
	name := fmt.Sprintf("slot %d", s.Index)
	if s.Index < 0 {
		name = "spare"
	}
	used := ""
	if s == p.set.Best {
		used = "  <- in use"
	}
	switch {
	case s.Header != nil:
		h := s.Header
		p.line(0, "%s at %#x: version %d, mirror_tid %s, freemap_tid %s%s", name, s.Off, h.Version, tid(h.MirrorTid), tid(h.FreemapTid), used)
	case s.Empty():
		p.line(0, "%s at %#x: empty", name, s.Off)
	default:
		p.line(0, "%s at %#x:", name, s.Off)
		p.bad(1, s.Err)
	}
}

func (p *printer) header(h *ondisk.VolumeHeader) {
	p.line(0, "header in use, slot %d:", p.set.Best.Index)
	field := func(at int, name, format string, args ...any) {
		p.line(1, "%04x %-16s %s", at, name, fmt.Sprintf(format, args...))
	}
	field(0x08, "boot area", "[%#x, %#x)", h.BootBeg, h.BootEnd)
	field(0x18, "aux area", "[%#x, %#x)", h.AuxBeg, h.AuxEnd)
	field(0x28, "volu_size", "%s", size(h.VoluSize))
	field(0x30, "version", "%d", h.Version)
	field(0x34, "flags", "%#x", h.Flags)
	field(0x38, "copyid", "%d", h.CopyID)
	field(0x39, "freemap_version", "%d", h.FreemapVersion)
	field(0x3A, "peer_type", "%d", h.PeerType)
	field(0x3B, "volume", "%d of %d", h.VoluID, h.NVolumes)
	field(0x40, "fsid", "%v", h.Fsid)
	field(0x50, "fstype", "%v", h.Fstype)
	field(0x60, "allocator_size", "%s", size(h.AllocatorSize))
	field(0x68, "allocator_free", "%s", size(h.AllocatorFree))
	field(0x70, "allocator_beg", "%#x", h.AllocatorBeg)
	field(0x78, "mirror_tid", "%s", tid(h.MirrorTid))
	field(0x90, "freemap_tid", "%s", tid(h.FreemapTid))
	field(0x98, "bulkfree_tid", "%s", tid(h.BulkfreeTid))
	field(0xC0, "total_size", "%s", size(h.TotalSize))
	for i := range h.Sroot {
		if h.Sroot[i].Type != ondisk.TypeEmpty {
			p.line(1, "%04x sroot_blockset[%d]", 0x200+i*ondisk.BlockrefSize, i)
			p.ref(2, &h.Sroot[i])
		}
	}
	for i := range h.Freemap {
		if h.Freemap[i].Type != ondisk.TypeEmpty {
			p.line(1, "%04x freemap_blockset[%d]", 0x800+i*ondisk.BlockrefSize, i)
			p.ref(2, &h.Freemap[i])
		}
	}
	if h.Version > 1 {
		var starts []string
		for _, off := range h.VoluLoff[:h.NVolumes] {
			starts = append(starts, fmt.Sprintf("%#x", off))
		}
		field(0xE00, "volu_loff", "%s", strings.Join(starts, " "))
	}
	p.ours(h)
}

// ours prints the fields that only anvilfs knows.
func (p *printer) ours(h *ondisk.VolumeHeader) {
	switch {
	case h.Mark == (ondisk.Mark{}):
		p.line(1, "9000 last writer      another implementation; never anvilfs")
	case h.WrittenByUs():
		p.line(1, "9000 last writer      anvilfs, node %v; alone since mirror_tid %s", h.Mark.Writer, tid(h.Mark.Since))
		p.line(1, "9028 lost             %s that a bulkfree would find", size(h.Mark.Lost))
	default:
		p.line(1, "9000 last writer      another implementation; anvilfs at mirror_tid %s", tid(h.Mark.MirrorTid))
	}
	for i := range h.States {
		e := &h.States[i]
		p.line(1, "%04x cluster state of PFS %v", 0x9040+i*128, e.Fsid)
		p.line(2, "position %v history %x", e.T, e.H)
		p.line(2, "promised epoch %d candidate %016x config %d flags %#x", e.PromisedEpoch, e.Candidate, e.ConfigVersion, e.Flags)
		p.line(2, "incarnation %v acknowledged %v", e.Incarnation, e.Acked)
		if e.AckedBy != 0 {
			p.line(2, "masters that had the txg before it, by place in the charter: %b", e.AckedBy)
		}
		if e.Time != 0 {
			p.line(2, "since %s", time.Unix(0, e.Time).UTC().Format(time.RFC3339Nano))
		}
		if e.ResyncGoal != 0 {
			p.line(2, "resync towards %v, shadow at key %016x", e.ResyncGoal, e.ShadowKey)
		}
	}
}

// PFSs prints the PFSs of the header in use.
func PFSs(ctx context.Context, w io.Writer, devs []ondisk.Device) error {
	p, err := open(w, devs)
	if err != nil {
		return err
	}
	list, err := p.set.PFSs(ctx, p.set.Header())
	p.bad(0, err)
	for i := range list {
		f := &list[i]
		m := &f.Meta
		p.line(0, "%s", f.Label())
		p.bad(1, f.Err)
		p.ref(1, &f.Ref)
		kind := ""
		switch m.PFSSubtype {
		case ondisk.PFSSubSnapshot:
			kind = ", snapshot"
		case ondisk.PFSSubAutoSnapshot:
			kind = ", automatic snapshot"
		}
		p.line(1, "role %v%s, masters %d", m.PFSType, kind, m.PFSNMasters)
		p.line(1, "clid %v fsid %v", m.PFSClid, m.PFSFsid)
		p.line(1, "highest inode number %d, last snapshot at %s", m.PFSInum, tid(m.PFSLsnapTid))
	}
	return p.done(ctx)
}
