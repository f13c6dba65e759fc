package resync

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

func (b *bench) snapshot(name string) {
	b.t.Helper()
	if _, err := b.pool.SnapshotCreate(b.ctx(), name, false); err != nil {
		b.t.Fatal(err)
	}
}

// snapshots demands these snapshots, and no others, on all members, with equal
// leaves everywhere and volumes without a fault. The pool is stopped.
func (b *bench) snapshots(want ...string) {
	b.t.Helper()
	for i := range b.devs {
		b.devs[i].Reopen()
		v, err := chain.Open(b.ctx(), []ondisk.Device{b.devs[i]}, chain.Options{ReadOnly: true})
		if err != nil {
			b.t.Fatal(err)
		}
		list, err := v.PFSs(b.ctx())
		if err != nil {
			b.t.Fatal(err)
		}
		var have []string
		for k := range list {
			if l := list[k].Label; l != label && l != "LOCAL" {
				have = append(have, l)
			}
		}
		if err := v.Close(); err != nil {
			b.t.Fatal(err)
		}
		wanted := make(map[string]bool)
		for _, w := range want {
			wanted[w] = true
		}
		for _, h := range have {
			if !wanted[h] {
				b.t.Errorf("member %d has %s, which is not listed", i, h)
			}
			delete(wanted, h)
		}
		for w := range wanted {
			b.t.Errorf("member %d lacks %s", i, w)
		}
		b.devs[i].Reopen()
		rep, err := fsck.Check(b.ctx(), []ondisk.Device{b.devs[i]}, fsck.Options{AllSlots: true})
		if err != nil {
			b.t.Fatal(err)
		}
		if !rep.Clean() {
			b.t.Errorf("member %d: %+v", i, rep.Findings)
		}
	}
	if b.t.Failed() {
		return
	}
	for _, w := range want {
		first := b.contentOf(0, w)
		delete(first, "T") // a copy that was made later says so
		for i := 1; i < len(b.devs); i++ {
			other := b.contentOf(i, w)
			delete(other, "T")
			if !maps.Equal(first, other) {
				b.t.Errorf("%s differs on member %d:\n%v\n%v", w, i, first, other)
			}
		}
	}
	b.equal()
}

// settle waits until all members are there with all snapshots, and stops.
func (b *bench) settle() {
	b.t.Helper()
	for {
		b.rest()
		b.wait("snapshots")
		// One that failed meanwhile was not asked.
		if b.pool.Status().Health == cluster.PoolHealthy {
			break
		}
	}
	b.rest()
	b.stop()
}

// A member that was away for too long to be fed the txgs gets the snapshots
// it missed, shares with them what it can, and loses those deleted meanwhile.
func TestSnapshotsMissed(t *testing.T) {
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	b.file("large", 8<<20, 1)
	gone := b.file("gone", 3<<20, 2)
	b.snapshot("before")
	b.snapshot("deleted")
	b.rest()
	b.stop()
	b.gone[2].Store(true)
	b.mount(0, 1, 2)
	b.file("first", 70000, 3)
	b.snapshot("s1")
	b.remove("gone", gone)
	b.snapshot("s2")
	b.file("second", 70000, 4)
	b.snapshot("s3")
	if err := b.pool.SnapshotDelete(b.ctx(), "deleted"); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.gone[2].Store(false)
	b.mount(0, 1, 2)
	b.wait("healthy")
	b.wait("snapshots")
	for _, n := range b.pool.Status().Nodes {
		if rep, ok := n.Resync.(Report); ok && n.Name == "m2" && rep.Mode == ModeSnapshots && rep.BytesDone > 8<<20 {
			t.Errorf("%d bytes copied: what the snapshots share with what is there was copied, too", rep.BytesDone)
		}
	}
	b.rest()
	b.stop()
	b.snapshots("before", "s1", "s2", "s3")
}

// A new member gets all snapshots there are.
func TestSnapshotsOfReplacement(t *testing.T) {
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	inum := b.file("a", 3<<20, 1)
	b.snapshot("s1")
	b.remove("a", inum)
	b.file("b", 100000, 2)
	b.snapshot("s2")
	if err := b.pool.NodeOffline(b.ctx(), "m1"); err != nil {
		t.Fatal(err)
	}
	fresh := memdev.New(256 << 20).Named("fresh")
	err := b.pool.NodeReplace(b.ctx(), "m1", cluster.MemberSpec{Name: "m1", Open: func(context.Context) ([]ondisk.Device, error) {
		fresh.Reopen()
		return []ondisk.Device{&fragile{fresh, &b.bad[1], &b.fuse[1]}}, nil
	}}, false)
	if err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.devs[1] = fresh
	b.snapshots("s1", "s2")
}

// Writes fail at some point of a copy of snapshots; the member comes back, and
// ends with all of them and nothing half done.
func TestSnapshotCopyCutOff(t *testing.T) {
	for _, after := range []int64{2, 5, 9, 14, 20} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			t.Parallel() // most of it is waiting for the member to be opened again
			b := newBench(t, 256<<20)
			b.mount(0, 1, 2)
			b.file("a", 9<<20, 1)
			b.rest()
			b.stop()
			b.mount(0, 1)
			for i := range 4 {
				inum := b.file(fmt.Sprint("x", i), 3<<20, byte(i))
				b.snapshot(fmt.Sprint("s", i))
				b.remove(fmt.Sprint("x", i), inum)
			}
			b.stop()
			b.mount(0, 1, 2)
			b.wait("healthy")
			b.fuse[2].Store(after)
			// Whether the copy is done by now or not: it must be in the end.
			b.file("later", 100, 7)
			b.sync()
			ctx, cancel := context.WithTimeout(b.ctx(), 20*time.Second)
			defer cancel()
			if err := b.pool.Wait(ctx, "healthy"); err != nil {
				t.Fatal(err)
			}
			b.settle()
			b.snapshots("s0", "s1", "s2", "s3")
		})
	}
}

// Random lives: snapshots come and go while members are away, for a moment or
// over mounts. In the end all have the same.
func TestSnapshotsRandom(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 11))
			b := newBench(t, 256<<20)
			b.mount(0, 1, 2)
			files, snaps := make(map[string]uint64), make(map[string]bool)
			away := -1
			for step := range 60 {
				switch op := rnd.IntN(12); {
				case op < 5:
					name := fmt.Sprint("f", step)
					files[name] = b.file(name, 1+rnd.IntN(200_000), byte(step))
				case op < 7:
					for name, inum := range files {
						b.remove(name, inum)
						delete(files, name)
						break
					}
				case op < 9:
					name := fmt.Sprint("s", rnd.IntN(6))
					if snaps[name] {
						if err := b.pool.SnapshotDelete(b.ctx(), name); err != nil {
							t.Fatal(err)
						}
						delete(snaps, name)
					} else {
						b.snapshot(name)
						snaps[name] = true
					}
				case op == 9 && away < 0:
					away = rnd.IntN(3)
					b.sync()
					b.wait("healthy")
					if err := b.pool.NodeOffline(b.ctx(), fmt.Sprint("m", away)); err != nil {
						t.Fatal(err)
					}
				case op == 10 && away >= 0:
					if rnd.IntN(2) == 0 { // the txgs are forgotten
						b.stop()
						b.mount(0, 1, 2)
					} else if err := b.pool.NodeOnline(b.ctx(), fmt.Sprint("m", away)); err != nil {
						t.Fatal(err)
					}
					away = -1
				case op == 11 && away < 0:
					b.stop()
					b.mount(0, 1, 2)
				}
			}
			if away >= 0 {
				if err := b.pool.NodeOnline(b.ctx(), fmt.Sprint("m", away)); err != nil {
					t.Fatal(err)
				}
			}
			b.settle()
			var want []string
			for name := range snaps {
				want = append(want, name)
			}
			b.snapshots(want...)
		})
	}
}

// A snapshot that nobody at hand has is said to be missing, by name.
func TestSnapshotWithoutSource(t *testing.T) {
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	b.file("a", 1000, 1)
	b.snapshot("kept")
	b.rest()
	b.stop()
	for i := range 3 {
		b.devs[i].Reopen()
		v, err := chain.Open(b.ctx(), []ondisk.Device{b.devs[i]}, chain.Options{})
		if err != nil {
			t.Fatal(err)
		}
		txn, err := v.Begin(b.ctx())
		if err == nil {
			if err = txn.DeletePFS(b.ctx(), "kept"); err == nil {
				err = txn.Commit(b.ctx())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b.mount(0, 1, 2)
	defer b.stop()
	b.wait("healthy")
	for deadline := b.ctx(); ; {
		var said []string
		for _, n := range b.pool.Status().Nodes {
			if rep, ok := n.Resync.(Report); ok {
				said = append(said, rep.Err)
			}
		}
		if len(said) == 3 && strings.Contains(said[0], `snapshot "kept": no other member at hand has it`) {
			break
		}
		select {
		case <-b.pool.Changed():
		case <-time.After(10 * time.Millisecond):
		case <-deadline.Done():
			t.Fatalf("said: %q", said)
		}
	}
	list, err := b.pool.Snapshots(b.ctx(), true)
	if err != nil || len(list) != 1 || len(list[0].Missing) != 3 || list[0].Tid != "" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := b.pool.SnapshotDelete(b.ctx(), "kept"); err != nil {
		t.Error(err)
	}
	b.wait("snapshots")
}

// Symptom: a snapshot that one member could not read any more came to nobody who
// lacked it, although others had it.
func TestSnapshotFromWhoCanReadIt(t *testing.T) {
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	inum := b.file("a", 100_000, 1)
	b.rest()
	if err := b.pool.NodeOffline(b.ctx(), "m2"); err != nil {
		t.Fatal(err)
	}
	b.snapshot("kept")
	b.remove("a", inum) // it is in the snapshot only
	b.sync()
	b.stop()
	b.devs[0].Reopen()
	v, err := chain.Open(b.ctx(), []ondisk.Device{b.devs[0]}, chain.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	view, err := v.View(b.ctx(), "kept")
	if err != nil {
		t.Fatal(err)
	}
	in, ok, err := view.Inode(b.ctx(), inum)
	if view.Release(); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	b.devs[0].Reopen()
	if _, err := b.devs[0].WriteAt([]byte("rot"), int64(in.Ref.Off())+300); err != nil {
		t.Fatal(err)
	}
	b.mount(0, 1, 2)
	b.wait("snapshots")
	b.stop()
	if got := b.contentOf(2, "kept")[fmt.Sprintf("inode %d", inum)]; got == "" || got != b.contentOf(1, "kept")[fmt.Sprintf("inode %d", inum)] {
		t.Errorf("the copy has %.80q", got)
	}
}

// A member sleeps through a rollback: what it has of the time between goes, and
// what comes back has old numbers, which must not be taken for known.
func TestRollbackMissed(t *testing.T) {
	for _, during := range []int{0, 5} { // txgs after the rollback
		t.Run(fmt.Sprint(during), func(t *testing.T) {
			b := newBench(t, 256<<20)
			b.mount(0, 1, 2)
			old := make(map[string]uint64)
			for i := range 600 { // enough for several tables
				name := fmt.Sprint("old", i)
				old[name] = b.file(name, 100+i, byte(i))
			}
			b.snapshot("s")
			for i := range 300 {
				name := fmt.Sprint("old", i)
				b.remove(name, old[name])
				b.file(fmt.Sprint("between", i), 500, byte(i))
			}
			b.snapshot("late")
			b.rest()
			b.stop()
			b.mount(0, 1)
			if _, err := b.pool.SnapshotRollback(b.ctx(), "s", false); err != nil {
				t.Fatal(err)
			}
			for i := range during {
				b.file(fmt.Sprint("after", i), 70000, byte(i))
				b.sync()
			}
			b.stop()
			b.mount(0, 1, 2)
			b.settle()
			b.snapshots("s", "late")
			if c := b.content(2); c["entry old0"] == "" || c["entry between0"] != "" {
				t.Error("member 2 is not rolled back")
			}
		})
	}
}
