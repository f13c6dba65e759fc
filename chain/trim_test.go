package chain

import (
	"errors"
	"maps"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// After every change the free space is thrown away: what any header slot
// reaches, and what an old view reads, must still be there.
func TestTrimSparesWhatCanBeRead(t *testing.T) {
	for _, size := range []int64{256 << 20, 9 << 30} {
		l := newLife(t, 23, size)
		var view *View
		var seen model
		total := uint64(0)
		for i := range 40 {
			if i%8 == 2 {
				if view != nil {
					view.Release()
				}
				var err error
				view, err = l.v.View(bg, "DATA")
				l.must(err)
				seen = maps.Clone(l.models["DATA"])
			}
			l.tid++
			b := l.m.batch(l.tid, 30)
			l.fit(b, l.models["DATA"])
			l.must(commitBatch(l.v, "DATA", b))
			l.models["DATA"].apply(b)
			n, err := l.v.Trim(bg, TrimOptions{})
			l.must(err)
			if free := l.v.Space().Free; n == 0 || n > free {
				t.Fatalf("%d MiB, commit %d: %d bytes trimmed, %d are free", size>>20, i, n, free)
			}
			total += n
			if _, err := checkImage(l.dev); err != nil {
				t.Fatalf("%d MiB, commit %d, after a trim: %v", size>>20, i, err)
			}
			if view != nil {
				l.v.cache = newTableCache(0)
				view.reader.cache = l.v.cache
				l.must(sameModel(t, view, seen))
			}
		}
		if view != nil {
			view.Release()
		}
		checkView(t, l.v, "DATA", l.models["DATA"])
		l.must(l.v.Close())
	}
}

// A range, and a least size, are kept to.
func TestTrimRange(t *testing.T) {
	dev := newImage(t, 256<<20)
	v := openImage(t, dev, Options{})
	all, err := v.Trim(bg, TrimOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const beg, end = 64 << 20, 64<<20 + 3*ondisk.ChunkSize + 100
	if n, err := v.Trim(bg, TrimOptions{Beg: beg, End: end}); err != nil || n != 3*ondisk.ChunkSize {
		t.Errorf("3 chunks and a bit: %d bytes, %v", n, err)
	}
	if n, err := v.Trim(bg, TrimOptions{Beg: beg, End: end, Least: 4 * ondisk.ChunkSize}); err != nil || n != 0 {
		t.Errorf("less than the least: %d bytes, %v", n, err)
	}
	if n, err := v.Trim(bg, TrimOptions{End: 1 << 62}); err != nil || n != all {
		t.Errorf("beyond the end: %d bytes, %v, want %d", n, err, all)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Trim(bg, TrimOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
