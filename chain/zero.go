package chain

import (
	"bytes"
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// zeroRange zeroes [beg, end), but writes only where there is anything else:
// sparse files stay sparse.
func zeroRange(ctx context.Context, d ondisk.Device, beg, end uint64) error {
	return inRuns(ctx, d, beg, end, func(buf []byte, at uint64) error {
		if allZero(buf) {
			return nil
		}
		clear(buf)
		if _, err := d.WriteAt(buf, int64(at)); err != nil {
			return fmt.Errorf("%s: write at %#x: %w", d.Name(), at, err)
		}
		return nil
	})
}

// inRuns calls fn for what is in [beg, end), maxRun bytes at a time. The buffer
// is fn's to write into, and lent for the call only.
func inRuns(ctx context.Context, d ondisk.Device, beg, end uint64, fn func(buf []byte, at uint64) error) error {
	pool := runPool.Get().(*[]byte)
	defer runPool.Put(pool)
	for n := uint64(0); beg < end; beg += n {
		if err := ctx.Err(); err != nil {
			return err
		}
		n = min(maxRun, end-beg)
		buf := (*pool)[:n]
		if err := readFull(d, buf, int64(beg)); err != nil {
			return err
		}
		if err := fn(buf, beg); err != nil {
			return err
		}
	}
	return nil
}

// allZero reports whether b has zeros alone: a first byte that is, and each
// other like the one before it.
func allZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:])
}
