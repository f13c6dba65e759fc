package ondisk

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Offsets in a volume header on media.
const (
	volMagic     = 0x0000
	volBootBeg   = 0x0008
	volBootEnd   = 0x0010
	volAuxBeg    = 0x0018
	volAuxEnd    = 0x0020
	volSize      = 0x0028
	volVersion   = 0x0030
	volFlags     = 0x0034
	volCopyID    = 0x0038
	volFreemapV  = 0x0039
	volPeerType  = 0x003A
	volID        = 0x003B
	volCount     = 0x003C
	volFsid      = 0x0040
	volFstype    = 0x0050
	volAllocSize = 0x0060
	volAllocFree = 0x0068
	volAllocBeg  = 0x0070
	volMirror    = 0x0078
	volFreemapT  = 0x0090
	volBulkfreeT = 0x0098
	volTotal     = 0x00C0
	volSect6     = 0x01F8
	volSect7     = 0x01FC
	volSroot     = 0x0200
	volSrootEnd  = 0x0400
	volFreemap   = 0x0800
	volLoff      = 0x0E00
	volWhole     = 0xFFFC
)

const (
	headerMagic   = 0x48414D3205172011
	headerSwapped = 0x11201705324D4148

	// HeaderVersion is what a new volume gets; the oldest one read is 1.
	HeaderVersion    = 2
	minHeaderVersion = 1

	// PeerType is the only value in use of VolumeHeader.PeerType.
	PeerType = 3
	// FirstTid is mirror_tid and freemap_tid of a freshly made volume.
	FirstTid Tid = 16
)

// A VolumeHeader is the 64 KiB block that a volume is read from. A decoded one
// remembers the bytes that have no field, and Encode writes them back.
type VolumeHeader struct {
	BootBeg, BootEnd uint64 // [beg, end)
	AuxBeg, AuxEnd   uint64 // [beg, end)
	VoluSize         uint64 // of this volume
	Version          uint32
	Flags            uint32
	CopyID           uint8
	FreemapVersion   uint8
	PeerType         uint8
	VoluID           uint8 // 0 = root volume
	NVolumes         uint8 // 0 in version 1
	Fsid             UUID
	Fstype           UUID
	AllocatorSize    uint64 // bytes that the freemap manages
	AllocatorFree    uint64
	AllocatorBeg     uint64
	MirrorTid        Tid
	FreemapTid       Tid
	BulkfreeTid      Tid
	TotalSize        uint64 // of all volumes; 0 in version 1
	Sroot            [InodeRefs]Blockref
	Freemap          [InodeRefs]Blockref
	VoluLoff         [MaxVolumes]uint64 // all ones = unused; all zero in version 1

	Mark   Mark         // zero if anvilfs never wrote here
	States []StateEntry // non-zero ones, at most MaxStates

	raw *[HeaderSize]byte // as decoded; nil means zeros; never changed
}

// SlotOffsets returns the byte offsets of the header slots that exist on a
// volume, lowest first: none if it is too small for one.
func SlotOffsets(volumeSize uint64) []int64 {
	var offs []int64
	for i := range uint64(HeaderSlots) {
		if i*HeaderZone+ReservedSize <= volumeSize {
			offs = append(offs, int64(i*HeaderZone))
		}
	}
	return offs
}

// Clone returns a copy that shares nothing that changes.
func (h *VolumeHeader) Clone() *VolumeHeader {
	c := *h
	c.States = slices.Clone(h.States)
	return &c
}

// WrittenByUs reports whether anvilfs was the last to write this header:
// others keep the mark but change the tid.
func (h *VolumeHeader) WrittenByUs() bool {
	return h.Mark != Mark{} && h.Mark.MirrorTid == h.MirrorTid
}

// Size is the size of the whole file system in bytes, in both versions.
func (h *VolumeHeader) Size() uint64 {
	if h.Version == minHeaderVersion {
		return h.VoluSize
	}
	return h.TotalSize
}

// DecodeVolumeHeader reads the 64 KiB of a slot. Errors: ErrNotHammer2 (also
// for an empty slot), ErrByteOrder, ErrVersion, or ErrCorrupt with the name of
// the code or field that is wrong.
func DecodeVolumeHeader(b []byte) (*VolumeHeader, error) {
	h, err := decodeFields(b)
	if err == nil {
		h.raw = (*[HeaderSize]byte)(slices.Clone(b))
	}
	return h, err
}

// AdoptVolumeHeader is DecodeVolumeHeader without a copy of b, which belongs to
// the header from then on: it must never change again.
func AdoptVolumeHeader(b []byte) (*VolumeHeader, error) {
	h, err := decodeFields(b)
	if err == nil {
		h.raw = (*[HeaderSize]byte)(b)
	}
	return h, err
}

// TornHeaderOf reports whether the 64 KiB of a slot, which need not decode, are
// what is left of a header of the file system fsid.
func TornHeaderOf(b []byte, fsid UUID) bool {
	return len(b) == HeaderSize && UUID(b[volFsid:]) == fsid
}

// ErrTwoVolumes: the header of the file system that has the device is torn, and
// one of another that had it before is not. Neither is to be opened: the first
// cannot be, and the second would be written over it.
var ErrTwoVolumes = errors.New("the file system whose header is at the beginning is torn, and another one, whose header is behind its end, was here before it")

// EndsBefore reports whether the 64 KiB of slot 0, which do not decode, are what
// is left of a header of another file system than found's, and that one ends
// before the slot that found is in. What is torn is a mixture of two headers of
// one file system, so who it is of can be read, though no code vouches for it. An
// id that was damaged alone stands beside a size that has the slot.
func EndsBefore(torn []byte, found *VolumeHeader, slot int) bool {
	le := binary.LittleEndian
	if len(torn) != HeaderSize || le.Uint64(torn[volMagic:]) != headerMagic || TornHeaderOf(torn, found.Fsid) {
		return false
	}
	slots := len(SlotOffsets(le.Uint64(torn[volSize:])))
	return 0 < slots && slots <= slot
}

// ErrWiped: the first header is gone, and behind it are those of two file
// systems. Which of them the device was given to last nothing says.
var ErrWiped = errors.New("its beginning was overwritten, and headers of two file systems are on it")

// WipedBefore reports whether the 64 KiB of slot 0 are no header, or not one of
// anybody who is on the device: neither of spare, whose copy of a header is that of
// a small volume, nor of found, which is another one in a later slot.
func WipedBefore(first []byte, found, spare *VolumeHeader) bool {
	return len(first) == HeaderSize && spare != nil && spare.WrittenByUs() && spare.Fsid != found.Fsid &&
		len(SlotOffsets(spare.VoluSize)) == 1 && !TornHeaderOf(first, spare.Fsid) && !TornHeaderOf(first, found.Fsid)
}

// decodeFields is DecodeVolumeHeader without the bytes that have no field.
func decodeFields(b []byte) (*VolumeHeader, error) {
	if len(b) != HeaderSize {
		return nil, corruptf("volume header of %d bytes, want %d", len(b), HeaderSize)
	}
	le := binary.LittleEndian
	switch le.Uint64(b[volMagic:]) {
	case headerMagic:
	case headerSwapped:
		return nil, ErrByteOrder
	default:
		return nil, ErrNotHammer2
	}
	for _, c := range headerCodes {
		if got, want := CRC32C(b[c.beg:c.end]), le.Uint32(b[c.at:]); got != want {
			return nil, corruptf("volume header: %s is %#08x, want %#08x", c.name, got, want)
		}
	}
	h := new(VolumeHeader)
	h.get(b)
	if h.Version < minHeaderVersion || h.Version > HeaderVersion {
		return nil, versionError(h.Version)
	}
	for i := range InodeRefs {
		h.Sroot[i].get(b[volSroot+i*BlockrefSize:])
		h.Freemap[i].get(b[volFreemap+i*BlockrefSize:])
	}
	h.getOurs(b)
	if err := h.Validate(); err != nil {
		return nil, err
	}
	return h, nil
}

// headerCodes lists the codes of a header in the order of computing them:
// each lies in the range of a later one.
var headerCodes = []struct {
	name         string
	beg, end, at int
}{
	{"code of sector 1", volSroot, volSrootEnd, volSect6},
	{"code of sector 0", 0, volSect7, volSect7},
	{"code of the whole header", 0, volWhole, volWhole},
}

func (h *VolumeHeader) get(b []byte) {
	le := binary.LittleEndian
	h.BootBeg, h.BootEnd = le.Uint64(b[volBootBeg:]), le.Uint64(b[volBootEnd:])
	h.AuxBeg, h.AuxEnd = le.Uint64(b[volAuxBeg:]), le.Uint64(b[volAuxEnd:])
	h.VoluSize = le.Uint64(b[volSize:])
	h.Version, h.Flags = le.Uint32(b[volVersion:]), le.Uint32(b[volFlags:])
	h.CopyID, h.FreemapVersion, h.PeerType = b[volCopyID], b[volFreemapV], b[volPeerType]
	h.VoluID, h.NVolumes = b[volID], b[volCount]
	h.Fsid, h.Fstype = UUID(b[volFsid:]), UUID(b[volFstype:])
	h.AllocatorSize = le.Uint64(b[volAllocSize:])
	h.AllocatorFree = le.Uint64(b[volAllocFree:])
	h.AllocatorBeg = le.Uint64(b[volAllocBeg:])
	h.MirrorTid = Tid(le.Uint64(b[volMirror:]))
	h.FreemapTid = Tid(le.Uint64(b[volFreemapT:]))
	h.BulkfreeTid = Tid(le.Uint64(b[volBulkfreeT:]))
	h.TotalSize = le.Uint64(b[volTotal:])
	for i := range h.VoluLoff {
		h.VoluLoff[i] = le.Uint64(b[volLoff+8*i:])
	}
}

func (h *VolumeHeader) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b[volMagic:], headerMagic)
	le.PutUint64(b[volBootBeg:], h.BootBeg)
	le.PutUint64(b[volBootEnd:], h.BootEnd)
	le.PutUint64(b[volAuxBeg:], h.AuxBeg)
	le.PutUint64(b[volAuxEnd:], h.AuxEnd)
	le.PutUint64(b[volSize:], h.VoluSize)
	le.PutUint32(b[volVersion:], h.Version)
	le.PutUint32(b[volFlags:], h.Flags)
	b[volCopyID], b[volFreemapV], b[volPeerType] = h.CopyID, h.FreemapVersion, h.PeerType
	b[volID], b[volCount] = h.VoluID, h.NVolumes
	copy(b[volFsid:], h.Fsid[:])
	copy(b[volFstype:], h.Fstype[:])
	le.PutUint64(b[volAllocSize:], h.AllocatorSize)
	le.PutUint64(b[volAllocFree:], h.AllocatorFree)
	le.PutUint64(b[volAllocBeg:], h.AllocatorBeg)
	le.PutUint64(b[volMirror:], uint64(h.MirrorTid))
	le.PutUint64(b[volFreemapT:], uint64(h.FreemapTid))
	le.PutUint64(b[volBulkfreeT:], uint64(h.BulkfreeTid))
	le.PutUint64(b[volTotal:], h.TotalSize)
	for i := range InodeRefs {
		h.Sroot[i].put(b[volSroot+i*BlockrefSize:])
		h.Freemap[i].put(b[volFreemap+i*BlockrefSize:])
	}
	for i, off := range h.VoluLoff {
		le.PutUint64(b[volLoff+8*i:], off)
	}
}

// Encode writes the 64 KiB of h to b, codes included, decodes it again and
// compares. It panics on a header that Validate rejects.
func (h *VolumeHeader) Encode(b []byte) {
	mustBeValid("volume header", h.Validate())
	if b = b[:HeaderSize]; h.raw != nil {
		copy(b, h.raw[:])
	} else {
		clear(b)
	}
	h.put(b)
	h.putOurs(b)
	for _, c := range headerCodes {
		binary.LittleEndian.PutUint32(b[c.at:], CRC32C(b[c.beg:c.end]))
	}
	again, err := decodeFields(b)
	mustBeValid("volume header, read back", err)
	if !again.sameFields(h) {
		panic("ondisk: volume header reads back as another one")
	}
}

// sameFields compares everything but the bytes without a field.
func (h *VolumeHeader) sameFields(o *VolumeHeader) bool {
	return h.BootBeg == o.BootBeg && h.BootEnd == o.BootEnd &&
		h.AuxBeg == o.AuxBeg && h.AuxEnd == o.AuxEnd &&
		h.VoluSize == o.VoluSize && h.Version == o.Version && h.Flags == o.Flags &&
		h.CopyID == o.CopyID && h.FreemapVersion == o.FreemapVersion &&
		h.PeerType == o.PeerType && h.VoluID == o.VoluID && h.NVolumes == o.NVolumes &&
		h.Fsid == o.Fsid && h.Fstype == o.Fstype &&
		h.AllocatorSize == o.AllocatorSize && h.AllocatorFree == o.AllocatorFree &&
		h.AllocatorBeg == o.AllocatorBeg && h.MirrorTid == o.MirrorTid &&
		h.FreemapTid == o.FreemapTid && h.BulkfreeTid == o.BulkfreeTid &&
		h.TotalSize == o.TotalSize && h.Sroot == o.Sroot && h.Freemap == o.Freemap &&
		h.VoluLoff == o.VoluLoff && h.Mark == o.Mark && slices.Equal(h.States, o.States)
}
