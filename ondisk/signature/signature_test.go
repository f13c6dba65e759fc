package signature

import (
	"bytes"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// image is an empty device of so many bytes with some text in it.
func image(size int, off int64, text string) *bytes.Reader {
	b := make([]byte, size)
	copy(b[off:], text)
	return bytes.NewReader(b)
}

func TestMarks(t *testing.T) {
	const size = 1<<20 + 512 // not of whole pages
	type mark struct {
		off        int64
		text, want string
	}
	list := []mark{
		{size - 512, "x", ""},
		{0x1fe, "\x55\xaa", ""}, // a boot sector without partitions
		{0x1be, "\x80\x01\x01\x00\x83" + string(make([]byte, 59)) + "\x55\xaa", "an MBR partition table"},
		{0x1be, "\x00\x01\x01\x00\x83" + string(make([]byte, 59)) + "\x55\xaa", "an MBR partition table"},
		{0x1be, "\x13\x01\x01\x00\x83" + string(make([]byte, 59)) + "\x55\xaa", ""}, // text of a boot loader
		{128 << 10, "\x0c\xb1\xba\x00\x00\x00\x00\x00", "a member of a ZFS pool"},
		{252 << 10, "\x00\x00\x00\x00\x00\xba\xb1\x0c", "a member of a ZFS pool"},
		{size&^4095 - 8192, raid, "a member of a RAID array"}, // 1.0
		{size&^65535 - 65536, raid, "a member of a RAID array"},
	}
	for _, m := range marks {
		list = append(list, mark{m.off, m.mark, m.name})
	}
	for _, m := range list {
		if got, err := Of(image(size, m.off, m.text), size); err != nil || got != m.want {
			t.Errorf("%q at %#x: %q, %v, want %q", m.text, m.off, got, err, m.want)
		}
	}
	for _, size := range []int64{0, 1, 511, 512, 4096, 5000, 65536} { // too small for most of it
		if got, err := Of(image(int(size), 0, ""), size); err != nil || got != "" {
			t.Errorf("%d bytes: %q, %v", size, got, err)
		}
	}
}

// A header that is damaged is one all the same, and what cannot be read is an error.
func TestHammer2(t *testing.T) {
	b := make([]byte, ondisk.ReservedSize)
	copy(b, "\x11\x20\x17\x05\x32\x4d\x41\x48") // the magic, and nothing behind it
	if got, err := Of(bytes.NewReader(b), int64(len(b))); err != nil || !strings.HasPrefix(got, Hammer2+" (") {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := Of(bytes.NewReader(b[:ondisk.HeaderSize-1]), int64(len(b))); err == nil {
		t.Errorf("nothing could be read: %q", got)
	}
}
