package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
)

// signatureOf names what is on a device or file, "" if nothing known is. It
// asks blkid(8), which knows several hundred formats, where that is installed,
// and looks for a few itself, HAMMER2 first.
func signatureOf(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no %s: check the path, or make an image file first with 'truncate -s SIZE %s'", path, path)
	}
	if err != nil {
		return "", err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close() // only looked at
		return "", fmt.Errorf("%s is a directory: give a block device or an image file", path)
	}
	defer f.Close()
	if found, err := ownProbe(f); found != "" || err != nil {
		return found, err
	}
	return blkidProbe(path)
}

// refuseForeign is an error if a device or file carries anything known.
func refuseForeign(path string) error {
	found, err := signatureOf(path)
	if err != nil {
		return err
	}
	if found != "" {
		return carries(path, found)
	}
	return nil
}

func carries(path, found string) error {
	return fmt.Errorf("%s carries %s: nothing was changed; give -f to overwrite it", path, found)
}

// hammer2 is how the name of what carries a volume header begins.
const hammer2 = "a HAMMER2 volume"

// magics are the formats that we look for without blkid.
var magics = []struct {
	off   int64
	magic string
	name  string
}{
	{0x438, "\x53\xef", "an ext2, ext3 or ext4 filesystem"},
	{0, "XFSB", "an XFS filesystem"},
	{0x10040, "_BHRfS_M", "a btrfs filesystem"},
	{0, "LUKS\xba\xbe", "a LUKS encrypted volume"},
	{0x218, "LVM2 001", "an LVM physical volume"},
	{0x1000, "\xfc\x4e\x2b\xa9", "a member of a RAID array"},
	{4086, "SWAPSPACE2", "swap space"},
	{3, "NTFS    ", "an NTFS filesystem"},
	{0x52, "FAT32   ", "a FAT filesystem"},
	{0x200, "EFI PART", "a partition table"},
	{0x8001, "CD001", "an ISO 9660 filesystem"},
}

func ownProbe(f *os.File) (string, error) {
	header := make([]byte, ondisk.HeaderSize)
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	for _, off := range ondisk.SlotOffsets(uint64(size)) {
		if n, err := f.ReadAt(header, off); n < len(header) {
			return "", fmt.Errorf("%s: reading at %#x: %w", f.Name(), off, err)
		}
		h, err := ondisk.DecodeVolumeHeader(header)
		if err == nil {
			return fmt.Sprintf("%s (file system id %v)", hammer2, h.Fsid), nil
		}
		if !errors.Is(err, ondisk.ErrNotHammer2) {
			return fmt.Sprintf("%s (%v)", hammer2, err), nil
		}
	}
	for _, m := range magics {
		buf := make([]byte, len(m.magic))
		if n, _ := f.ReadAt(buf, m.off); n == len(buf) && string(buf) == m.magic {
			return m.name, nil
		}
	}
	return "", nil
}

// blkidProbe is what blkid(8) says. Not being there is no error: the own probe
// has been made.
func blkidProbe(path string) (string, error) {
	tool, err := exec.LookPath("blkid")
	if err != nil {
		if tool, err = exec.LookPath("/sbin/blkid"); err != nil {
			return "", nil
		}
	}
	out, err := exec.Command(tool, "-p", "-o", "export", path).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		switch exit.ExitCode() {
		case 2: // nothing found
			return "", nil
		case 8: // several found
			return "several signatures at once", nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s -p %s: %w", tool, path, err)
	}
	return describeBlkid(string(out)), nil
}

func describeBlkid(export string) string {
	fields := make(map[string]string)
	for line := range strings.Lines(export) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[key] = value
	}
	switch {
	case fields["TYPE"] != "":
		return fields["TYPE"] + " (" + strings.TrimSuffix(fields["USAGE"]+" signature", " ") + ")"
	case fields["PTTYPE"] != "":
		return "a " + fields["PTTYPE"] + " partition table"
	}
	return ""
}
