package fs

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// benchFiles makes n files of 4 KiB, 500 to a directory, as the kernel would:
// it looks the name up, makes the file, asks for capabilities, writes.
func benchFiles(b *testing.B, f *FS, n int) (dirs, files []uint64) {
	b.Helper()
	ctx := context.Background()
	data := bytes.Repeat([]byte("some text "), 410)[:4096]
	for i := range n {
		if i%500 == 0 {
			r, err := f.Create(ctx, ondisk.InumRoot, fmt.Sprintf("d%d", i/500), NewNode{Type: ondisk.ObjDir, Mode: 0o755})
			if err != nil {
				b.Fatal(err)
			}
			dirs = append(dirs, r.Meta.Inum)
		}
		dir, name := dirs[i/500], benchName(i)
		if _, _, err := f.Lookup(ctx, dir, name); err != nil {
			b.Fatal(err)
		}
		r, err := f.Create(ctx, dir, name, NewNode{Type: ondisk.ObjFile, Mode: 0o644})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.GetXattr(ctx, r.Meta.Inum, capability); err != errNoAttr {
			b.Fatal(err)
		}
		if _, err := f.Write(ctx, r.Meta.Inum, 0, data, false); err != nil {
			b.Fatal(err)
		}
		files = append(files, r.Meta.Inum)
	}
	return dirs, files
}

func benchName(i int) string { return fmt.Sprintf("file-%06d.txt", i) }

func BenchmarkCreateWrite(b *testing.B) {
	p := newTestPool(b, 3, 8<<30)
	b.ReportAllocs()
	b.ResetTimer()
	benchFiles(b, p.srv.FS, b.N)
}

func BenchmarkUnlink(b *testing.B) {
	p := newTestPool(b, 3, 8<<30)
	f := p.srv.FS
	dirs, files := benchFiles(b, f, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for i, inum := range files {
		if err := f.Unlink(context.Background(), dirs[i/500], benchName(i)); err != nil {
			b.Fatal(err)
		}
		f.Forget(inum, 1)
	}
}

func BenchmarkLookupCold(b *testing.B) {
	p := newTestPool(b, 3, 8<<30)
	dirs, _ := benchFiles(b, p.srv.FS, b.N)
	p.remount()
	b.ReportAllocs()
	b.ResetTimer()
	buf := make([]byte, 4096)
	for i := range b.N {
		r, ok, err := p.srv.FS.Lookup(context.Background(), dirs[i/500], benchName(i))
		if err != nil || !ok {
			b.Fatal(ok, err)
		}
		if _, err := p.srv.FS.Read(context.Background(), r.Meta.Inum, 0, buf); err != nil {
			b.Fatal(err)
		}
	}
}
