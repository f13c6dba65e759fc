package fsck

import (
	"fmt"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// BenchmarkCheck checks a volume of 100,000 small files.
func BenchmarkCheck(b *testing.B) {
	const files = 100_000
	dev := memdev.New(4 << 30)
	if _, err := chain.Format(bg, []ondisk.Device{dev}, chain.FormatOptions{}); err != nil {
		b.Fatal(err)
	}
	v, err := chain.Open(bg, []ondisk.Device{dev}, chain.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for done, seq := uint64(0), uint32(1); done < files; seq++ {
		batch := chain.Batch{T: ondisk.MakeTid(1, seq)}
		for range 20_000 {
			inum, name := 1024+done, fmt.Sprint("f", done)
			meta := ondisk.NewInodeMeta(inum, ondisk.ObjFile)
			meta.Nlinks, meta.OpFlags, meta.Iparent = 1, ondisk.OpDirectData, 1
			key := ondisk.NameHash(name) | done%64 // most hashes of short names are single
			batch.Changes = append(batch.Changes,
				chain.Change{Inum: inum, Kind: chain.KindInode, Inode: &meta},
				chain.Change{Inum: 1, Kind: chain.KindDirent, Key: key, Dirent: ondisk.Dirent{Key: key, Inum: inum, Type: ondisk.ObjFile, Name: name}})
			done++
		}
		batch.Sort()
		txn, err := v.Begin(bg)
		if err == nil {
			err = txn.Apply(bg, "DATA", &batch)
		}
		if err == nil {
			err = txn.Commit(bg)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := v.Close(); err != nil {
		b.Fatal(err)
	}
	dev.Reopen()
	for b.Loop() {
		rep, err := Check(bg, []ondisk.Device{dev}, Options{})
		if err != nil || !rep.Clean() {
			b.Fatal(err, rep)
		}
	}
}
