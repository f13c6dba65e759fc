package ondisk

import (
	"fmt"
	"slices"
)

// A versionError is an ErrVersion that knows the number.
type versionError uint32

func (e versionError) Error() string {
	return fmt.Sprintf("%v %d: this program knows %d to %d", ErrVersion, uint32(e), minHeaderVersion, HeaderVersion)
}

// Unwrap makes errors.Is(err, ErrVersion) true.
func (e versionError) Unwrap() error { return ErrVersion }

// Validate checks one header by itself; whether the volumes of a file system
// fit each other is for whoever sees them all. Errors are ErrCorrupt.
func (h *VolumeHeader) Validate() error {
	switch {
	case h.Version < minHeaderVersion || h.Version > HeaderVersion:
		return versionError(h.Version)
	case h.Fstype != FSType:
		return corruptf("volume header: fstype %v, want %v", h.Fstype, FSType)
	case h.VoluSize == 0 || h.VoluSize%VolumeAlign != 0 || h.VoluSize>>63 != 0:
		return corruptf("volume header: size %#x is not a multiple of 8 MiB", h.VoluSize)
	case h.BootBeg > h.BootEnd || h.AuxBeg > h.AuxEnd || h.BootEnd > h.VoluSize || h.AuxEnd > h.VoluSize:
		return corruptf("volume header: boot or aux area [%#x, %#x), [%#x, %#x) outside of %#x bytes",
			h.BootBeg, h.BootEnd, h.AuxBeg, h.AuxEnd, h.VoluSize)
	case h.AllocatorBeg > h.Size() || h.AllocatorSize > h.Size():
		return corruptf("volume header: allocator of %#x bytes from %#x in %#x",
			h.AllocatorSize, h.AllocatorBeg, h.Size())
	}
	if err := h.validateSet(); err != nil {
		return err
	}
	if err := h.validateRefs(); err != nil {
		return err
	}
	return h.validateOurs()
}

// validateSet checks what the header says about the set of volumes.
func (h *VolumeHeader) validateSet() error {
	if h.Version == minHeaderVersion {
		if h.VoluID != 0 || h.NVolumes != 0 || h.TotalSize != 0 {
			return corruptf("volume header: version 1 with the fields of several volumes")
		}
		return nil
	}
	switch {
	case h.NVolumes == 0 || h.NVolumes > MaxVolumes || h.VoluID >= h.NVolumes:
		return corruptf("volume header: volume %d of %d", h.VoluID, h.NVolumes)
	case h.TotalSize < h.VoluSize || h.TotalSize%VolumeAlign != 0 || h.TotalSize>>63 != 0:
		return corruptf("volume header: total size %#x with a volume of %#x", h.TotalSize, h.VoluSize)
	case h.VoluLoff[0] != 0:
		return corruptf("volume header: volume 0 starts at %#x", h.VoluLoff[0])
	}
	n := int(h.NVolumes)
	for i := 1; i < n; i++ {
		if h.VoluLoff[i] <= h.VoluLoff[i-1] || h.VoluLoff[i]%ZoneSize != 0 || h.VoluLoff[i] >= h.TotalSize {
			return corruptf("volume header: volume %d starts at %#x", i, h.VoluLoff[i])
		}
	}
	end := h.TotalSize
	if id := int(h.VoluID); id+1 < n {
		end = h.VoluLoff[id+1]
	}
	if h.VoluLoff[h.VoluID]+h.VoluSize != end {
		return corruptf("volume header: volume %d of %#x bytes does not end at %#x", h.VoluID, h.VoluSize, end)
	}
	return nil
}

// Agrees reports whether the header of a volume of size bytes says the same of
// the file system as that of the first volume.
func (h *VolumeHeader) Agrees(first *VolumeHeader, size uint64) bool {
	return h.VoluSize == size && h.NVolumes == first.NVolumes && h.TotalSize == first.TotalSize && h.VoluLoff == first.VoluLoff
}

// AheadOf reports whether a header that does not agree can be what a growth left
// that was cut off: the first volume gets the new layout last. No mark of ours is
// asked for. The code of the first sector lies in it, and so the code of the
// whole does not change with it: one that was torn behind it is valid, with the
// rest as it was.
func (h *VolumeHeader) AheadOf(first *VolumeHeader) bool {
	n := int(first.NVolumes)
	return h.Fsid == first.Fsid && slices.Equal(h.VoluLoff[:n], first.VoluLoff[:n]) && h.TotalSize >= first.TotalSize &&
		(int(h.NVolumes) == n || int(h.NVolumes) == n+1)
}

// validateRefs checks the two blocksets: only their own types, in order.
func (h *VolumeHeader) validateRefs() error {
	for i := range h.Sroot {
		r := &h.Sroot[i]
		if r.Type != TypeEmpty && r.Type != TypeInode && r.Type != TypeInvalid {
			return corruptf("volume header: sroot element %d is %v", i, r.Type)
		}
		if err := r.Validate(); err != nil {
			return corruptf("volume header: sroot element %d: %v", i, err)
		}
	}
	var used []Blockref
	for i := range h.Freemap {
		r := &h.Freemap[i]
		if r.Type == TypeEmpty {
			if err := r.Validate(); err != nil {
				return corruptf("volume header: freemap element %d: %v", i, err)
			}
			continue
		}
		used = append(used, *r)
		err := checkElement(used)
		if err == nil && r.Type != TypeFreemapNode && r.Type != TypeFreemapLeaf {
			err = corruptf("is %v", r.Type)
		}
		if err != nil {
			return corruptf("volume header: freemap element %d: %v", i, err)
		}
	}
	return nil
}
