package fs

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// countedStore counts records that were read one by one.
type countedStore struct {
	*memStore
	single atomic.Int64
}

func (s *countedStore) Inode(ctx context.Context, inum uint64) (*Record, bool, error) {
	s.single.Add(1)
	return s.memStore.Inode(ctx, inum)
}

// bigDirectory is a filesystem with many files in its root, nothing of it cached.
func bigDirectory(t *testing.T, files int) (*FS, *countedStore) {
	t.Helper()
	ctx := context.Background()
	store := &countedStore{memStore: newMemStore()}
	f, err := New(ctx, store, false, Options{})
	must(t, err)
	for i := range files {
		_, err := f.Create(ctx, ondisk.InumRoot, fmt.Sprintf("file-%06d", i), NewNode{Type: ondisk.ObjFile, Mode: uint32(i % 512)})
		must(t, err)
	}
	must(t, f.Close(ctx))
	store.single.Store(0)
	f, err = New(ctx, store, false, Options{Nodes: 1024})
	must(t, err)
	t.Cleanup(func() { must(t, f.Close(ctx)) })
	return f, store
}

func checkMode(t *testing.T, name string, r *Record) {
	t.Helper()
	var i int
	if _, err := fmt.Sscanf(name, "file-%d", &i); err != nil || r == nil || r.Meta.Mode&0o777 != uint32(i%512) {
		t.Fatalf("%s: %+v, %v", name, r, err)
	}
}

// Who looks entries up as they were listed, or lists them with attributes,
// finds their records read already: all but those that the store leaves out.
func TestReadAheadInDirectory(t *testing.T) {
	const files = 5000
	ctx := context.Background()
	list := func(f *FS) (names []string) {
		must(t, f.ReadDir(ctx, ondisk.InumRoot, posDotDot, files, func(_ uint64, d *ondisk.Dirent) bool {
			names = append(names, d.Name)
			return true
		}))
		wantEqual(t, "names", len(names), files)
		return names
	}
	few := func(store *countedStore, n int) {
		t.Helper()
		if got := store.single.Load(); got > int64(n/5+n/10) {
			t.Errorf("%d of %d records were read alone", got, n)
		}
	}
	t.Run("lookups", func(t *testing.T) {
		f, store := bigDirectory(t, files)
		for _, name := range list(f) {
			r, ok, err := f.Lookup(ctx, ondisk.InumRoot, name)
			if must(t, err); !ok {
				t.Fatal(name)
			}
			checkMode(t, name, r)
		}
		few(store, files)
	})
	t.Run("listing", func(t *testing.T) {
		f, store := bigDirectory(t, files)
		seen, pos := 0, uint64(posDotDot)
		for before := -1; seen > before; {
			before = seen
			must(t, f.readDir(ctx, ondisk.InumRoot, pos, 100, true, func(at uint64, d *ondisk.Dirent) bool {
				seen, pos = seen+1, at
				checkMode(t, d.Name, f.Peek(ctx, d.Inum))
				return true
			}))
		}
		wantEqual(t, "entries", seen, files)
		few(store, files)
	})
	t.Run("not in order", func(t *testing.T) {
		f, store := bigDirectory(t, files)
		for i := range 300 {
			name := fmt.Sprintf("file-%06d", i*7)
			_, _, err := f.Lookup(ctx, ondisk.InumRoot, name)
			must(t, err)
		}
		if got := store.single.Load(); got < 290 {
			t.Errorf("%d of 300 records were read alone: others were read for nothing", got)
		}
	})
}

// What was changed while a record was read ahead stays changed.
func TestReadAheadKeepsChanges(t *testing.T) {
	ctx := context.Background()
	f, store := bigDirectory(t, 200)
	mode := uint32(0o4711)
	var changed uint64
	f.store = &meddlingStore{countedStore: store, meddle: func(inums []uint64) {
		changed = inums[len(inums)/2]
		_, err := f.Setattr(ctx, changed, Change{Mode: &mode})
		must(t, err)
	}}
	must(t, f.readDir(ctx, ondisk.InumRoot, posDotDot, 200, true, func(uint64, *ondisk.Dirent) bool { return true }))
	r, err := f.Stat(ctx, changed)
	must(t, err)
	wantEqual(t, "mode", r.Meta.Mode&0o7777, mode)
}

// A meddlingStore changes something after records were read and before they
// are handed over.
type meddlingStore struct {
	*countedStore
	meddle func(inums []uint64)
}

func (s *meddlingStore) Inodes(ctx context.Context, inums []uint64, fn func(*Record)) error {
	var old []*Record
	for _, inum := range inums {
		r, _, err := s.memStore.Inode(ctx, inum)
		if err != nil {
			return err
		}
		c := *r
		old = append(old, &c)
	}
	s.meddle(inums)
	for _, r := range old {
		fn(r)
	}
	return nil
}

// BenchmarkStatListed looks all entries of one cold directory up, in the order
// in which they are listed.
func BenchmarkStatListed(b *testing.B) {
	p := newTestPool(b, 3, 8<<30)
	ctx := context.Background()
	for i := range b.N {
		_, err := p.srv.FS.Create(ctx, ondisk.InumRoot, benchName(i), NewNode{Type: ondisk.ObjFile, Mode: 0o644})
		if err != nil {
			b.Fatal(err)
		}
	}
	p.remount()
	b.ReportAllocs()
	b.ResetTimer()
	var names []string
	err := p.srv.FS.ReadDir(ctx, ondisk.InumRoot, posDotDot, b.N, func(_ uint64, d *ondisk.Dirent) bool {
		names = append(names, d.Name)
		return true
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range names {
		if _, ok, err := p.srv.FS.Lookup(ctx, ondisk.InumRoot, name); err != nil || !ok {
			b.Fatal(name, ok, err)
		}
	}
}
