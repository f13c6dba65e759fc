// Package signature names what is on a device that is about to be overwritten, by the
// marks that formats leave at fixed places. It knows HAMMER2 and what is most often
// found on disks; a format that it does not know is no proof of an empty device.
package signature

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Hammer2 is how the name of what carries a volume header begins.
const Hammer2 = "a HAMMER2 volume"

// marks are looked for in this order: boot sectors of filesystems look like partition
// tables, which come last.
var marks = []struct {
	off  int64
	mark string
	name string
}{
	{0x438, "\x53\xef", "an ext2, ext3 or ext4 filesystem"},
	{0, "XFSB", "an XFS filesystem"},
	{0x10040, "_BHRfS_M", "a btrfs filesystem"},
	{0x400, "\x10\x20\xf5\xf2", "an F2FS filesystem"},
	{0, "LUKS\xba\xbe", "a LUKS encrypted volume"},
	{3, "-FVE-FS-", "a BitLocker encrypted volume"},
	{0x18, "LVM2 001", "an LVM physical volume"},
	{0x218, "LVM2 001", "an LVM physical volume"},
	{0x418, "LVM2 001", "an LVM physical volume"},
	{0x618, "LVM2 001", "an LVM physical volume"},
	{0x1000, raid, "a member of a RAID array"}, // metadata 1.2
	{0, raid, "a member of a RAID array"},      // 1.1
	{4096 - 10, "SWAPSPACE2", "swap space"},
	{65536 - 10, "SWAPSPACE2", "swap space"},
	{4096 - 10, "SWAP-SPACE", "swap space"},
	{3, "NTFS    ", "an NTFS filesystem"},
	{3, "EXFAT   ", "an exFAT filesystem"},
	{0x52, "FAT32   ", "a FAT filesystem"},
	{0x36, "FAT12   ", "a FAT filesystem"},
	{0x36, "FAT16   ", "a FAT filesystem"},
	{0x8001, "CD001", "an ISO 9660 filesystem"},
	{0x200, "EFI PART", "a GPT partition table"},
	{0x1000, "EFI PART", "a GPT partition table"}, // on sectors of 4096 bytes
}

// raid is the mark of Linux software RAID, as little-endian machines write it.
const raid = "\xfc\x4e\x2b\xa9"

// Of names what is on a device or file of size bytes, "" if nothing known is. What
// begins with Hammer2 has a volume header, damaged or not.
func Of(r io.ReaderAt, size int64) (string, error) {
	if found, err := hammer2(r, size); found != "" || err != nil {
		return found, err
	}
	p := peeker{r: r, size: size}
	for _, m := range marks {
		if p.has(m.off, m.mark) {
			return m.name, nil
		}
	}
	for _, off := range raidEnds(size) {
		if p.has(off, raid) {
			return "a member of a RAID array", nil
		}
	}
	switch {
	case p.zfs():
		return "a member of a ZFS pool", nil
	case p.mbr():
		return "an MBR partition table", nil
	}
	return "", nil
}

func hammer2(r io.ReaderAt, size int64) (string, error) {
	header := ondisk.AlignedBuffer(ondisk.HeaderSize)
	for _, off := range ondisk.SlotOffsets(uint64(size)) {
		if n, err := r.ReadAt(header, off); n < len(header) {
			return "", fmt.Errorf("reading at %#x: %w", off, err)
		}
		h, err := ondisk.DecodeVolumeHeader(header)
		switch {
		case err == nil && h.NVolumes > 1:
			return fmt.Sprintf("%s, number %d of %d (file system id %v)", Hammer2, h.VoluID+1, h.NVolumes, h.Fsid), nil
		case err == nil:
			return fmt.Sprintf("%s (file system id %v)", Hammer2, h.Fsid), nil
		case !errors.Is(err, ondisk.ErrNotHammer2):
			return fmt.Sprintf("%s (%v)", Hammer2, err), nil
		}
	}
	return "", nil
}

// raidEnds is where older metadata of software RAID lie: 1.0, then 0.90.
func raidEnds(size int64) []int64 {
	const kib64 = 64 << 10
	return []int64{(size/512 - 16) &^ 7 * 512, size&^(kib64-1) - kib64}
}

// A peeker reads small pieces, aligned as direct I/O wants it.
type peeker struct {
	r    io.ReaderAt
	size int64
}

// at returns n bytes at off; zeros where they cannot be read.
func (p peeker) at(off int64, n int) []byte {
	const page = 4096
	from, to := off&^(page-1), (off+int64(n)+page-1)&^(page-1)
	buf := ondisk.AlignedBuffer(int(to - from))
	if from >= 0 && off+int64(n) <= p.size {
		_, _ = p.r.ReadAt(buf[:min(to, p.size)-from], from) // what cannot be read is not recognised
	}
	return buf[off-from:][:n]
}

func (p peeker) has(off int64, mark string) bool { return string(p.at(off, len(mark))) == mark }

// zfs looks for the mark of an uberblock, of which there are many in a label.
func (p peeker) zfs() bool {
	const first, end, step = 128 << 10, 256 << 10, 1 << 10
	ring := p.at(first, end-first)
	for i := 0; i < len(ring); i += step {
		if s := string(ring[i : i+8]); s == "\x0c\xb1\xba\x00\x00\x00\x00\x00" || s == "\x00\x00\x00\x00\x00\xba\xb1\x0c" {
			return true
		}
	}
	return false
}

// mbr looks for a boot sector with four entries that can be partitions, one at least.
func (p peeker) mbr() bool {
	const table, entry = 0x1be, 16
	sector := p.at(0, 512)
	if !strings.HasSuffix(string(sector), "\x55\xaa") {
		return false
	}
	used := 0
	for e := sector[table : table+4*entry]; len(e) > 0; e = e[entry:] {
		if e[0]&^0x80 != 0 {
			return false
		}
		if e[4] != 0 {
			used++
		}
	}
	return used > 0
}
