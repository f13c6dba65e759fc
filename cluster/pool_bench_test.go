package cluster

import (
	"bytes"
	"context"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// nullEngine commits by forgetting: what remains is the cost of the pool.
type nullEngine struct {
	*fakeEngine
	commits int
}

func (e *nullEngine) commit(context.Context, *chain.Batch) (bool, error) {
	e.commits++
	return false, nil
}

func (e *nullEngine) space() chain.Space                       { return chain.Space{Total: 1 << 40, Free: 1 << 40} }
func (e *nullEngine) removable() (all, enough uint64, ok bool) { return 0, 0, false }

func benchPool(b *testing.B) *Pool {
	p, e := openFake(b, Options{}, formatted(b, 256<<20))
	crash(p)
	p, err := newPool(context.Background(), &nullEngine{fakeEngine: e}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closePool(b, p) })
	return p
}

// What one creat, write and close asks of the pool.
func BenchmarkPoolCreate(b *testing.B) {
	p := benchPool(b)
	dir := fileMeta(1, 0)
	dir.Meta.Type = ondisk.ObjDir
	data := bytes.Repeat([]byte("content "), 512)
	name := []byte("file-00000000")
	b.ReportAllocs()
	for i := range b.N {
		for j, n := len(name)-1, i; j > 4; j, n = j-1, n/10 {
			name[j] = byte('0' + n%10)
		}
		s := string(name)
		if _, ok, err := p.Lookup(bg, 1, s); ok || err != nil {
			b.Fatal(ok, err)
		}
		t, err := p.Begin(bg, Cost{Leaves: 3})
		if err != nil {
			b.Fatal(err)
		}
		inum := t.NewInum()
		in := fileMeta(inum, 0)
		t.PutInode(in)
		t.PutInode(dir)
		if err := t.AddDirent(1, s, inum, ondisk.ObjFile); err != nil {
			b.Fatal(err)
		}
		t.End()
		if t, err = p.Begin(bg, Cost{Leaves: 2, Bytes: 4096}); err != nil {
			b.Fatal(err)
		}
		in = fileMeta(inum, 4096)
		t.PutInode(in)
		if err := t.WriteData(bg, inum, 0, data); err != nil {
			b.Fatal(err)
		}
		t.End()
	}
}

func BenchmarkPoolSequentialWrite(b *testing.B) {
	p := benchPool(b)
	f := makeFile(b, p, 1, "f", ondisk.ObjFile)
	data := bytes.Repeat([]byte("some text that compresses; "), 1<<20/27+1)[:1<<20]
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for i := range b.N {
		t, err := p.Begin(bg, Cost{Leaves: 17, Bytes: int64(len(data))})
		if err != nil {
			b.Fatal(err)
		}
		t.PutInode(fileMeta(f, uint64(i+1)<<20))
		if err := t.WriteData(bg, f, uint64(i)<<20, data); err != nil {
			b.Fatal(err)
		}
		t.End()
	}
}

// An append and its fsync, without the media.
func BenchmarkPoolSync(b *testing.B) {
	p := benchPool(b)
	f := makeFile(b, p, 1, "f", ondisk.ObjFile)
	data := bytes.Repeat([]byte{7}, 4096)
	b.ReportAllocs()
	for range b.N {
		t, err := p.Begin(bg, Cost{Leaves: 2, Bytes: 4096})
		if err != nil {
			b.Fatal(err)
		}
		t.PutInode(fileMeta(f, 4096))
		if err := t.WriteData(bg, f, 0, data); err != nil {
			b.Fatal(err)
		}
		t.End()
		mustSync(b, p)
	}
}
