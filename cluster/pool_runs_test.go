package cluster

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A volume full of small blocks, of which every other one goes, has free space
// and hardly a run of it that a large block fits in. What is admitted there must
// find its place all the same: ENOSPC comes at the call, never at the commit.
func TestPoolFillFragmented(t *testing.T) {
	p, _ := openFake(t, Options{Commit: time.Hour}, formatted(t, 64<<20))
	defer closePool(t, p)
	rng := rand.NewChaCha8([32]byte{7})
	write := func(n int) (inum uint64, ok bool) {
		tx, err := p.Begin(bg, Cost{Leaves: 6, Bytes: int64(n), Small: n <= SmallBlock})
		if errors.Is(err, ErrNoSpace) {
			return 0, false
		}
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, n)
		_, _ = io.ReadFull(rng, data)
		inum = tx.NewInum()
		tx.PutInode(fileMeta(inum, uint64(n)))
		err = errors.Join(tx.AddDirent(1, fmt.Sprint("f", inum), inum, ondisk.ObjFile), tx.WriteData(bg, inum, 0, data))
		tx.End()
		if err != nil {
			t.Fatal(err)
		}
		return inum, true
	}
	fill := func(n int) (files []uint64) {
		for {
			inum, ok := write(n)
			if !ok {
				mustSync(t, p)
				return files
			}
			files = append(files, inum)
		}
	}
	small := fill(16 << 10)
	thin := func(files []uint64) (kept []uint64) {
		for i, inum := range files {
			if i%2 == 0 {
				kept = append(kept, inum)
				continue
			}
			tx, err := p.BeginFree(bg)
			if err != nil {
				t.Fatalf("delete on a full volume: %v", err)
			}
			err = tx.RemoveDirent(1, fmt.Sprint("f", inum))
			tx.DeleteInode(inum)
			tx.End()
			if err != nil {
				t.Fatal(err)
			}
		}
		mustSync(t, p)
		return kept
	}
	kept := thin(small)
	free := p.StatFS().Avail
	large := fill(64 << 10)
	// What fits in single chunks is not refused for it, and deletions work on.
	again := fill(16 << 10)
	t.Logf("%d small files, half deleted: %d KiB free; %d large files and %d small ones", len(small), free>>10, len(large), len(again))
	if len(again) < len(small)*4/10 {
		t.Errorf("%d small files, half deleted, then only %d more", len(small), len(again))
	}
	if s := p.engine.space(); s.Whole < s.Reserved {
		t.Errorf("small files took what deletions may need: %d bytes left in large pieces, %d are reserved", s.Whole, s.Reserved)
	}
	thin(append(kept, again...))
	fill(64 << 10)
}
