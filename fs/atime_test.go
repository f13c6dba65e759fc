package fs

import (
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Which reads leave a trace: by the age of the last one, and the option.
func TestWhichReadsCount(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	for _, c := range []struct {
		name    string
		opts    Options
		changed int64 // s before now
		atime   int64 // likewise
		want    bool
	}{
		{"read before the change", Options{}, 3600, 7200, true},
		{"read since", Options{}, 3600, 1800, false},
		{"read a day ago", Options{}, 1e6, 90000, true},
		{"noatime", Options{NoAtime: true}, 3600, 7200, false},
	} {
		c.opts.Now = func() time.Time { return now }
		f, err := New(t.Context(), newMemStore(), false, c.opts)
		must(t, err)
		m := ondisk.NewInodeMeta(ondisk.InumFirst, ondisk.ObjFile)
		m.SetMtime(now.Unix()-c.changed, 0)
		m.SetCtime(now.Unix()-c.changed, 0)
		m.SetAtime(now.Unix()-c.atime, 0)
		n := f.table.pin(ondisk.InumFirst)
		f.atimes.touch(n, &m)
		wantEqual(t, c.name, n.atime.Load() != 0, c.want)
		f.table.unpin(n)
		must(t, f.Close(t.Context()))
	}
}
