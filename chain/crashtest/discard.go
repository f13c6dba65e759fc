package crashtest

import (
	"bytes"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Discard implements ondisk.Device: of the blocks that lie wholly in the range,
// what has content becomes junk, and that is recorded as writes. What is zero
// was never written, and stays: so a range may be as large as the device.
func (d *tapDevice) Discard(off, n int64) error {
	bs := int64(d.BlockSize())
	beg, end := (off+bs-1)/bs*bs, min(off+n, d.Size())/bs*bs
	if off < 0 {
		return nil
	}
	buf := make([]byte, ondisk.SegmentSize)
	for ; beg < end; beg += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), end-beg)]
		if _, err := d.Device.ReadAt(part, beg); err != nil {
			return err
		}
		if err := d.discard(beg, part); err != nil {
			return err
		}
	}
	return nil
}

// discard overwrites runs of pages of p, which is at off, that are not zero.
func (d *tapDevice) discard(off int64, p []byte) error {
	var zero [tapPage]byte
	for at := 0; at < len(p); {
		run := at
		for run < len(p) && !bytes.Equal(p[run:min(run+tapPage, len(p))], zero[:min(tapPage, len(p)-run)]) {
			run = min(run+tapPage, len(p))
		}
		if run == at {
			at += tapPage
			continue
		}
		if _, err := d.WriteAt(bytes.Repeat([]byte{0xDD}, run-at), off+int64(at)); err != nil {
			return err
		}
		at = run
	}
	return nil
}
