package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// While no member is there, a pool that waits for them is not full.
func TestPoolIsNotFullWithoutMembers(t *testing.T) {
	p, e := openFake(t, Options{Commit: time.Hour}, formatted(t, 128<<20))
	defer closePool(t, p)
	there := func(is bool) {
		e.mu.Lock()
		e.noViews = !is
		e.mu.Unlock()
		p.refresh()
	}
	defer there(true)
	there(false)
	tx, err := p.Begin(bg, Cost{Leaves: 3, Bytes: 1 << 20})
	if err != nil {
		t.Fatalf("a call while all members are away: %v", err)
	}
	tx.End()
}

func TestPoolFill(t *testing.T) {
	dev := formatted(t, 128<<20)
	p, e := openFake(t, Options{Commit: time.Hour}, dev)
	defer closePool(t, p)
	before := p.StatFS()
	rng := rand.NewChaCha8([32]byte{2})
	data := make([]byte, 256<<10)
	var files []uint64
	written := 0
	fill := func() {
		for {
			tx, err := p.Begin(bg, Cost{Leaves: 6, Bytes: int64(len(data))})
			if err != nil {
				if !errors.Is(err, ErrNoSpace) {
					t.Fatal(err)
				}
				return
			}
			_, _ = io.ReadFull(rng, data)
			inum := tx.NewInum()
			tx.PutInode(fileMeta(inum, uint64(len(data))))
			err = errors.Join(tx.AddDirent(1, fmt.Sprint("f", inum), inum, ondisk.ObjFile), tx.WriteData(bg, inum, 0, data))
			tx.End()
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, inum)
			written += len(data)
		}
	}
	fill()
	mustSync(t, p)
	if left := p.StatFS().Avail; left > before.Avail/10+2<<20 {
		t.Errorf("refused with %d of %d bytes left", left, before.Avail)
	}
	first := len(files)
	// On the full volume files can be deleted, and the space is there again.
	for _, inum := range files[:first/2] {
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
	files = files[first/2:]
	kept := len(files)
	fill()
	mustSync(t, p)
	if again := len(files) - kept; again < first*4/10 {
		t.Errorf("%d files, half deleted, then only %d more", first, again)
	}
	t.Logf("%d MiB on %d MiB, %d commits", written>>20, before.Total>>20, e.commits)
}

func TestPoolDirtyLimit(t *testing.T) {
	p, e := openFake(t, Options{Commit: time.Hour, Memory: 16 << 20}, formatted(t, 1<<30))
	defer closePool(t, p)
	f := makeFile(t, p, 1, "f", ondisk.ObjFile)
	data := bytes.Repeat([]byte("x"), 128<<10)
	e.set(func() { e.slow = 20 * time.Millisecond })
	var most int64
	for i := range 400 {
		call(t, p, func(tx *Txn) error { return tx.WriteData(bg, f, uint64(i)*uint64(len(data)), data) })
		most = max(most, p.dirty())
	}
	if limit := p.budget.hard + 2*int64(len(data)); most > limit {
		t.Errorf("%d bytes dirty, limit %d", most, limit)
	}
}

// Many writers at the end of the space: each call that was admitted is
// committed, and all are refused in the end.
func TestPoolFillTogether(t *testing.T) {
	p, _ := openFake(t, Options{}, formatted(t, 96<<20))
	defer closePool(t, p)
	data := make([]byte, 32<<10)
	_, _ = io.ReadFull(rand.NewChaCha8([32]byte{3}), data)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for i := 0; ; i++ {
				tx, err := p.Begin(bg, Cost{Leaves: 4, Bytes: int64(len(data))})
				if errors.Is(err, ErrNoSpace) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				inum := tx.NewInum()
				tx.PutInode(fileMeta(inum, uint64(len(data))))
				err = tx.WriteData(bg, inum, 0, data)
				tx.End()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	mustSync(t, p)
	if st := p.StatFS(); st.Avail > st.Total/10 {
		t.Errorf("refused with %d of %d bytes left", st.Avail, st.Total)
	}
}
