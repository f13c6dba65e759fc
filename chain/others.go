package chain

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A MissingVolume is a volume of the file system that was not given.
type MissingVolume struct {
	Fsid  ondisk.UUID
	ID    int      // from 0
	Count int      // of volumes that the file system has
	Given []string // devices
	Size  uint64   // of the volume that is missing
}

func (m *MissingVolume) Error() string {
	return fmt.Sprintf("the file system has %d volumes, %d given: volume %d, of %s, is missing",
		m.Count, len(m.Given), m.ID, ondisk.Exact(m.Size))
}

// Remedy says how the member is to be named.
func (m *MissingVolume) Remedy() string {
	return "name it with all of its devices, as " + strings.Join(m.Given, ":") + ":DEVICE"
}

// A Misfit says why the devices that were given are not those of one volume.
type Misfit struct{ why string }

func (m *Misfit) Error() string { return m.why }

func misfit(format string, args ...any) error { return &Misfit{fmt.Sprintf(format, args...)} }

// LeftOver reports whether d carries what is left of making it one more volume
// of the file system with that header: it was cut off, and d has nothing of it.
// A header that is torn will do: nobody else has that id.
func LeftOver(h *ondisk.VolumeHeader, d ondisk.Device) bool {
	for _, off := range append(ondisk.SlotOffsets(uint64(d.Size())), spareSlot) {
		s := readSlot(d, off)
		if s.content != nil && ondisk.UUID(s.content[fsidAt:]) == h.Fsid && int(s.content[voluIDAt]) == max(1, int(h.NVolumes)) {
			return true
		}
	}
	return false
}

// Lacks reports whether the file system on devs has more volumes, by the header of
// its first. Of devices that cannot be read it says nothing: opening them does.
func Lacks(devs []ondisk.Device) bool {
	for _, d := range devs {
		if s, err := readSlots(d); err == nil && s.header().VoluID == 0 {
			return int(s.header().NVolumes) > len(devs)
		}
	}
	return false
}

// Header is the header that an open of the device would go by, the spare copy
// included. It reads, and nothing else.
func Header(dev ondisk.Device) (*ondisk.VolumeHeader, error) {
	s, err := readSlots(dev)
	if err != nil {
		return nil, err
	}
	return s.header(), nil
}

// secondary is the header of a new volume behind the first.
func secondary(first *ondisk.VolumeHeader, id int, size uint64) *ondisk.VolumeHeader {
	h := &ondisk.VolumeHeader{
		Version: first.Version, PeerType: first.PeerType, VoluID: uint8(id),
		Fsid: first.Fsid, Fstype: first.Fstype, MirrorTid: ondisk.FirstTid, FreemapTid: ondisk.FirstTid,
	}
	for i := range h.Sroot {
		h.Sroot[i] = ondisk.Blockref{Type: ondisk.TypeInvalid}
	}
	agree(h, first, size)
	return h
}

// agree makes a header say the same of the file system as that of the first
// volume.
func agree(h, first *ondisk.VolumeHeader, size uint64) {
	h.VoluSize, h.NVolumes, h.TotalSize, h.VoluLoff = size, first.NVolumes, first.TotalSize, first.VoluLoff
}

// alignOthers writes the headers of the volumes behind the first anew where one
// is not whole or says something else: a growth was cut off.
func (v *Volume) alignOthers() error {
	loff := v.geo.Load().loff
	for i := 1; i < len(v.others); i++ {
		s, size := v.others[i], loff[i+1]-loff[i]
		off := func(s slot) bool {
			return s.content != nil && (s.hdr == nil || s.hdr.Fsid != v.hdr.Fsid || !s.hdr.Agrees(v.hdr, size))
		}
		if !slices.ContainsFunc(s.slots, off) && (s.spare == nil || s.spare.empty() || !off(*s.spare)) {
			continue
		}
		h := s.header().Clone()
		agree(h, v.hdr, size)
		h.Mark = ondisk.Mark{MirrorTid: h.MirrorTid, Writer: v.opts.Writer}
		if err := writeOther(s.dev, h); err != nil {
			return err
		}
		v.log.Info("header made to agree with the first volume's", "device", s.dev.Name(), "volume", i)
	}
	return nil
}

// writeOther makes all headers of a volume behind the first be hdr. At any time
// one is whole: one that is alone goes to the spare place before, and of several
// the first, which counts, is the last.
func writeOther(d ondisk.Device, hdr *ondisk.VolumeHeader) error {
	block := ondisk.AlignedBuffer(ondisk.HeaderSize)
	hdr.Encode(block)
	offs := ondisk.SlotOffsets(hdr.VoluSize)
	slices.Reverse(offs)
	if len(offs) == 1 {
		offs = []int64{spareSlot, 0}
	}
	for _, off := range offs {
		s := readSlot(d, off)
		if bytes.Equal(s.content, block) {
			continue
		}
		if _, err := (&headerSlots{dev: d}).put(&s, block); err != nil {
			return err
		}
		if err := flushDevice(d); err != nil {
			return err
		}
	}
	return nil
}
