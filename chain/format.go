package chain

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	defaultBoot = 64 << 20
	defaultAux  = 256 << 20
	maxBoot     = 256 << 20
	maxAux      = 1 << 30
	minVolume   = 64 << 20
	maxLabels   = 4 // with LOCAL: they lie in the super-root inode itself
	firstInum   = 16
)

// FormatOptions say what a new file system looks like.
type FormatOptions struct {
	Labels  []PFSSpec // without any: DATA
	NoLocal bool      // do not add the PFS LOCAL, which others expect
	Boot    uint64    // bytes; 0 = by size
	Aux     uint64    // bytes; 0 = by size
	Fsid    ondisk.UUID
	Writer  ondisk.UUID // goes into the last-writer mark
	Now     time.Time   // zero = the clock
}

// A FormatResult says what was made.
type FormatResult struct {
	Fsid         ondisk.UUID
	Size         uint64 // bytes used of all devices
	Boot, Aux    uint64
	Room         uint64 // bytes that blocks can be in, as Space.Total is once it is open
	PFSs         []PFSInfo
	HeaderCopies int
}

// Format makes a new file system over devs, the first of which becomes its
// root volume. Whatever was there is lost. Nobody else may use the devices;
// they stay open. An old file system stops being valid before the new one is.
func Format(ctx context.Context, devs []ondisk.Device, o FormatOptions) (*FormatResult, error) {
	f := &formatter{devs: devs, o: o}
	if err := f.plan(); err != nil {
		return nil, err
	}
	if err := f.clear(ctx); err != nil {
		return nil, err
	}
	if err := f.writeInodes(); err != nil {
		return nil, err
	}
	if err := f.flush(); err != nil {
		return nil, err
	}
	if err := f.writeHeaders(); err != nil {
		return nil, err
	}
	if err := f.flush(); err != nil {
		return nil, err
	}
	return f.result(), nil
}

// Room is what a new file system over devs has for blocks, in bytes. Nothing is
// written.
func Room(devs []ondisk.Device) (uint64, error) {
	f := &formatter{devs: devs}
	err := f.plan()
	return f.room(), err
}

type formatter struct {
	devs  []ondisk.Device
	o     FormatOptions
	sizes []uint64
	total uint64
	roots []ondisk.Blockref
	metas []ondisk.InodeMeta
	hdr   ondisk.VolumeHeader
}

// plan computes the layout and the root volume's header.
func (f *formatter) plan() error {
	if len(f.devs) == 0 || len(f.devs) > ondisk.MaxVolumes {
		return fmt.Errorf("a file system has 1 to %d volumes, not %d", ondisk.MaxVolumes, len(f.devs))
	}
	if f.o.Now.IsZero() {
		f.o.Now = time.Now()
	}
	h := &f.hdr
	for i := range h.VoluLoff {
		h.VoluLoff[i] = ^uint64(0)
	}
	for i, d := range f.devs {
		align := uint64(ondisk.ZoneSize)
		if i == len(f.devs)-1 {
			align = ondisk.VolumeAlign
		}
		size := uint64(d.Size()) / align * align
		if size < minVolume || size == 0 {
			return fmt.Errorf("%s has %s: at least %s are needed", d.Name(), ondisk.Exact(uint64(d.Size())), ondisk.Human(max(minVolume, align)))
		}
		h.VoluLoff[i] = f.total
		f.sizes = append(f.sizes, size)
		f.total += size
	}
	boot, err := areaSize("boot area", f.o.Boot, defaultBoot, maxBoot, f.total)
	if err != nil {
		return err
	}
	aux, err := areaSize("aux area", f.o.Aux, defaultAux, maxAux, f.total)
	if err != nil {
		return err
	}
	h.Version, h.PeerType, h.NVolumes = ondisk.HeaderVersion, ondisk.PeerType, uint8(len(f.devs))
	h.VoluSize, h.TotalSize = f.sizes[0], f.total
	h.BootBeg, h.BootEnd = ondisk.ReservedSize, ondisk.ReservedSize+boot
	h.AuxBeg, h.AuxEnd = h.BootEnd, h.BootEnd+aux
	h.Fsid, h.Fstype = orNew(f.o.Fsid), ondisk.FSType
	zones := (f.total + ondisk.ZoneSize - 1) / ondisk.ZoneSize
	if used := zones*ondisk.ReservedSize + boot + aux; f.total < used+2*ondisk.SegmentSize || f.sizes[0] < h.AuxEnd+2*ondisk.SegmentSize {
		return fmt.Errorf("%s: %s leave no room beside boot and aux area", f.devs[0].Name(), ondisk.Exact(f.sizes[0]))
	} else {
		h.AllocatorSize = f.total - used
	}
	h.AllocatorFree = h.AllocatorSize
	h.MirrorTid, h.FreemapTid = ondisk.FirstTid, ondisk.FirstTid
	h.Mark = ondisk.Mark{MirrorTid: ondisk.FirstTid, Writer: f.o.Writer}
	return f.planRoots()
}

// areaSize is the size of boot or aux area: a share of the file system, in
// whole VolumeAlign units.
func areaSize(name string, given, size, limit, total uint64) (uint64, error) {
	if given != 0 {
		if given > limit || given%ondisk.VolumeAlign != 0 {
			return 0, fmt.Errorf("%s of %d bytes: multiples of %d up to %d are allowed", name, given, ondisk.VolumeAlign, limit)
		}
		return given, nil
	}
	for size > total/20 && size > ondisk.VolumeAlign {
		size /= 2
	}
	return (size + ondisk.VolumeAlign - 1) / ondisk.VolumeAlign * ondisk.VolumeAlign, nil
}

// planRoots decides on the PFSs, their places and the end of the formatter's part.
func (f *formatter) planRoots() error {
	specs := slices.Clone(f.o.Labels)
	if len(specs) == 0 {
		specs = []PFSSpec{{Label: "DATA"}}
	}
	hasLocal := slices.ContainsFunc(specs, func(s PFSSpec) bool { return s.Label == "LOCAL" })
	if !hasLocal && !f.o.NoLocal {
		specs = append([]PFSSpec{{Label: "LOCAL"}}, specs...)
	}
	if len(specs) > maxLabels {
		return fmt.Errorf("%d PFSs: a new file system has room for %d, LOCAL included; add others later", len(specs), maxLabels)
	}
	used := make(map[uint64]string)
	for i := range specs {
		s := &specs[i]
		if err := validLabel(s.Label); err != nil {
			return err
		}
		key := ondisk.NameHash(s.Label)
		for ; used[key] != ""; key++ {
			if used[key] == s.Label {
				return fmt.Errorf("%q: %w", s.Label, ErrPFSExists)
			}
		}
		used[key] = s.Label
		m := s.rootMeta(key)
		m.Iparent, m.PFSInum = 0, firstInum
		if s.Meta == nil {
			m.SetCtime(f.o.Now.Unix(), uint32(f.o.Now.Nanosecond()))
			m.SetMtime(f.o.Now.Unix(), uint32(f.o.Now.Nanosecond()))
			m.SetBtime(f.o.Now.Unix(), uint32(f.o.Now.Nanosecond()))
		}
		tid := ondisk.FirstTid
		if s.T != 0 {
			tid = s.T
			f.raise(tid)
		}
		ref := rootRef(key, tid, 0)
		ref.SetMethods(ondisk.CheckXXHash64, ondisk.CompNone)
		ref.CopyID, ref.VRadix = 255, ondisk.MinRadix
		ref.DataOff = ondisk.MakeDataOff(f.hdr.AuxEnd+uint64(i+1)*ondisk.InodeSize, ondisk.MinRadix)
		f.roots, f.metas = append(f.roots, ref), append(f.metas, m)
	}
	f.hdr.AllocatorBeg = f.hdr.AuxEnd + uint64(len(specs)+1)*ondisk.InodeSize
	return nil
}

// raise keeps the header's tids at or above a PFS root's.
func (f *formatter) raise(t ondisk.Tid) {
	h := &f.hdr
	h.MirrorTid = max(h.MirrorTid, t)
	h.FreemapTid, h.Mark.MirrorTid = h.MirrorTid, h.MirrorTid
}

// clear zeroes reserved segments, boot and aux area. Header slots of an older
// file system are in the former, so it goes first.
func (f *formatter) clear(ctx context.Context) error {
	for i, d := range f.devs {
		// Others look for headers on all of the device.
		for _, off := range ondisk.SlotOffsets(uint64(d.Size())) {
			if err := zeroRange(ctx, d, uint64(off), uint64(off)+ondisk.HeaderSize); err != nil {
				return err
			}
		}
		for off := uint64(0); off < f.sizes[i]; off += ondisk.ZoneSize {
			if err := zeroRange(ctx, d, off, min(off+ondisk.ReservedSize, f.sizes[i])); err != nil {
				return err
			}
		}
	}
	end := f.hdr.AuxEnd + ondisk.MaxBlock
	if err := zeroRange(ctx, f.devs[0], ondisk.ReservedSize, end); err != nil {
		return err
	}
	return f.flush()
}

// writeInodes writes super-root and PFS roots.
func (f *formatter) writeInodes() error {
	block := ondisk.AlignedBuffer(ondisk.MaxBlock)
	for i := range f.roots {
		at := block[(i+1)*ondisk.InodeSize:][:ondisk.InodeSize]
		(&ondisk.Inode{Meta: f.metas[i]}).Encode(at)
		f.roots[i].SetCheck(at)
	}
	refs := slices.Clone(f.roots)
	slices.SortFunc(refs, func(a, b ondisk.Blockref) int { return cmp.Compare(a.Key, b.Key) })
	m := ondisk.NewInodeMeta(0, ondisk.ObjDir)
	m.Mode, m.Nlinks, m.PFSType = 0o700, 2, ondisk.PFSSuperRoot
	m.CompAlgo, m.CheckAlgo = uint8(ondisk.CompAutoZero), uint8(ondisk.CheckXXHash64)
	m.Filename, m.NameLen, m.NameKey = "SUPROOT", 7, 0
	m.SetCtime(f.o.Now.Unix(), uint32(f.o.Now.Nanosecond()))
	m.SetMtime(f.o.Now.Unix(), uint32(f.o.Now.Nanosecond()))
	m.SetBtime(f.o.Now.Unix(), uint32(f.o.Now.Nanosecond()))
	m.PFSClid, m.PFSFsid = ondisk.NewUUID(), f.hdr.Fsid
	super := block[:ondisk.InodeSize]
	(&ondisk.Inode{Meta: m, Blockset: refs}).Encode(super)
	ref := ondisk.Blockref{Type: ondisk.TypeInode, MirrorTid: f.hdr.MirrorTid, CopyID: 255, VRadix: ondisk.MinRadix}
	ref.SetMethods(ondisk.CheckXXHash64, ondisk.CompAutoZero)
	ref.DataOff = ondisk.MakeDataOff(f.hdr.AuxEnd, ondisk.MinRadix)
	ref.SetCheck(super)
	f.hdr.Sroot[0] = ref
	if _, err := f.devs[0].WriteAt(block, int64(f.hdr.AuxEnd)); err != nil {
		return fmt.Errorf("%s: writing the first inodes: %w", f.devs[0].Name(), err)
	}
	return nil
}

// writeHeaders writes every slot of every volume, and the spare copy where there is one
// slot only.
func (f *formatter) writeHeaders() error {
	for i, d := range f.devs {
		h := &f.hdr
		if i > 0 {
			h = secondary(h, i, f.sizes[i])
			h.Mark = ondisk.Mark{MirrorTid: h.MirrorTid, Writer: f.o.Writer}
		}
		block := ondisk.AlignedBuffer(ondisk.HeaderSize)
		h.Encode(block)
		slots := ondisk.SlotOffsets(f.sizes[i])
		if len(slots) == 1 {
			slots = append(slots, spareSlot)
		}
		for _, off := range slots {
			if _, err := d.WriteAt(block, off); err != nil {
				return fmt.Errorf("%s: header at %#x: %w", d.Name(), off, err)
			}
		}
	}
	return nil
}

func (f *formatter) flush() error {
	for _, d := range f.devs {
		if err := flushDevice(d); err != nil {
			return err
		}
	}
	return nil
}

func (f *formatter) room() uint64 { return roomFrom(f.hdr.AllocatorBeg, f.total) }

func (f *formatter) result() *FormatResult {
	h := &f.hdr
	r := &FormatResult{
		Fsid: h.Fsid, Size: f.total, Boot: h.BootEnd - h.BootBeg, Aux: h.AuxEnd - h.AuxBeg,
		Room: f.room(), HeaderCopies: len(ondisk.SlotOffsets(f.sizes[0])),
	}
	for i := range f.roots {
		r.PFSs = append(r.PFSs, describePFS(&InodeRec{Meta: f.metas[i], Ref: f.roots[i]}))
	}
	return r
}
