package chain

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
)

func benchVolume(b *testing.B) *Volume {
	b.Helper()
	dev, err := filedev.Open(filepath.Join(b.TempDir(), "a.img"), filedev.Options{Create: 8 << 30})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := Format(bg, []ondisk.Device{dev}, FormatOptions{}); err != nil {
		b.Fatal(err)
	}
	v, err := Open(bg, []ondisk.Device{dev}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { v.Close() })
	return v
}

// One small file is appended to and made durable, over and over.
func BenchmarkCommitSmall(b *testing.B) {
	v := benchVolume(b)
	block := encode(b, rand.New(rand.NewPCG(1, 1)), 4096)
	var last *Txn
	for i := 0; b.Loop(); i++ {
		t, err := v.Begin(bg)
		if err != nil {
			b.Fatal(err)
		}
		err = t.Apply(bg, "DATA", &Batch{T: ondisk.MakeTid(1, uint32(i)), Changes: []Change{
			{Inum: 5000, Kind: KindInode, Inode: fileMeta(5000)}, {Inum: 5000, Kind: KindData, Block: block},
		}})
		if err == nil {
			err = t.Commit(bg)
		}
		if err != nil {
			b.Fatal(err)
		}
		last = t
	}
	s := last.Stats()
	b.ReportMetric(float64(s.Bytes+s.Freemap+s.Header), "bytes/commit")
	b.ReportMetric(float64(s.Writes), "writes/commit")
}

// A file is written in transactions of 32 MiB.
func BenchmarkCommitStream(b *testing.B) {
	v := benchVolume(b)
	block := encode(b, rand.New(rand.NewPCG(1, 1)), ondisk.LogicalBlock)
	const blocks = 512
	b.SetBytes(blocks * ondisk.LogicalBlock)
	for i := 0; b.Loop(); i++ {
		batch := &Batch{T: ondisk.MakeTid(1, uint32(i)), Changes: []Change{{Inum: 5000, Kind: KindInode, Inode: fileMeta(5000)}}}
		for k := range uint64(blocks) {
			batch.Changes = append(batch.Changes, Change{Inum: 5000, Kind: KindData, Key: (uint64(i%16)*blocks + k) * ondisk.LogicalBlock, Block: block})
		}
		if err := commitBatch(v, "DATA", batch); err != nil {
			b.Fatal(err)
		}
	}
}

// The allocator by itself, on a volume that is nearly full and fragmented.
func BenchmarkAllocate(b *testing.B) {
	v := openImage(b, newImage(b, 8<<30), Options{})
	fm, rnd := v.fm, rand.New(rand.NewPCG(1, 1))
	var held []uint64
	for fm.usable > fm.total/20 {
		off, err := fm.allocate(ondisk.TypeData, 16)
		if err != nil {
			b.Fatal(err)
		}
		held = append(held, off)
	}
	for b.Loop() {
		k := rnd.IntN(len(held))
		fm.give(held[k], 16)
		off, err := fm.allocate(ondisk.TypeData, 16)
		if err != nil {
			b.Fatal(err)
		}
		held[k] = off
	}
}
