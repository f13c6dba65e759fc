package cluster

import (
	"bytes"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

const restoredSize = 20*ondisk.LogicalBlock + 5000

// snapshotted is a pool of three members with a file that only a snapshot has.
func snapshotted(t *testing.T, o Options) (c *testCluster, p *Pool, s SnapshotName, src uint64, content []byte) {
	t.Helper()
	c = newTestCluster(t, 3)
	p = c.pool(o)
	src, content = makeFile(t, p, 1, "f", ondisk.ObjFile), noise(1, restoredSize)
	write(t, p, src, 0, content)
	snap(t, p, "old")
	gather(t, p)
	call(t, p, func(tx *Txn) error { tx.DeleteInode(src); return tx.RemoveDirent(1, "f") })
	return c, p, snapNamed(t, p, "old"), src, content
}

func snapNamed(t *testing.T, p *Pool, name string) SnapshotName {
	t.Helper()
	list, err := p.SnapshotNames(bg)
	check(t, err)
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no snapshot %q among %v", name, list)
	return SnapshotName{}
}

// restore makes a file of what the snapshot has.
func restore(t *testing.T, p *Pool, s SnapshotName, src uint64, name string) (dst uint64) {
	t.Helper()
	dst = makeFile(t, p, 1, name, ondisk.ObjFile)
	call(t, p, func(tx *Txn) error {
		tx.PutInode(fileMeta(dst, restoredSize))
		done, err := tx.ShareSnapshot(bg, s, src, 0, dst, 0, restoredSize)
		for err == nil && done < restoredSize {
			var n uint64
			n, err = tx.ShareSnapshot(bg, s, src, done, dst, done, restoredSize-done)
			done += n
		}
		return err
	})
	return dst
}

func wantFile(t *testing.T, p *Pool, when string, inum uint64, content []byte) {
	t.Helper()
	got := make([]byte, len(content))
	check(t, p.ReadData(bg, inum, 0, got))
	if !bytes.Equal(got, content) {
		t.Errorf("%s: inode %d has another content", when, inum)
	}
}

// sharedWith counts the blocks of a file that another PFS has at the same place.
func sharedWith(t *testing.T, p *Pool, label string, src, dst uint64) (n int) {
	t.Helper()
	v, err := p.engine.volumes()[0].Vol.View(bg, label)
	check(t, err)
	defer v.Release()
	var there []uint64
	check(t, v.DataRefs(bg, src, 0, maxData, func(r *ondisk.Blockref) bool {
		there = append(there, r.Off())
		return true
	}))
	return same(there, addresses(t, p, dst))
}

// Symptom: a file that was copied out of a snapshot took its space once more.
func TestShareSnapshot(t *testing.T) {
	c, p, s, src, content := snapshotted(t, Options{Commit: time.Hour})
	dst := restore(t, p, s, src, "g")
	wantFile(t, p, "before the commit", dst, content)
	// Of what is not committed the same can be had again, and changed.
	twice := makeFile(t, p, 1, "twice", ondisk.ObjFile)
	shareAll(t, p, dst, twice, restoredSize)
	write(t, p, twice, 100, []byte("changed"))
	changed := append([]byte(nil), content...)
	copy(changed[100:], "changed")
	wantFile(t, p, "before the commit", twice, changed)
	mustSync(t, p)
	for _, when := range []string{"after the commit", "mounted again"} {
		wantFile(t, p, when, dst, content)
		wantFile(t, p, when, twice, changed)
		if n := sharedWith(t, p, "old", src, dst); n != 21 {
			t.Errorf("%s: %d of 21 blocks shared", when, n)
		}
		if n := sharedWith(t, p, "old", src, twice); n != 20 {
			t.Errorf("%s: %d of 20 blocks shared by the one that was changed", when, n)
		}
		settle(t, p)
		p = c.pool(Options{})
	}
	check(t, p.SnapshotDelete(bg, "old"))
	wantFile(t, p, "without the snapshot", dst, content)
	settle(t, p)
	c.content("HOME", 0, 1, 2)
}

// A snapshot that goes with the group that takes its blocks, or after it.
func TestShareSnapshotThatGoes(t *testing.T) {
	c, p, s, src, content := snapshotted(t, Options{Commit: time.Hour})
	dst := restore(t, p, s, src, "g")
	check(t, p.SnapshotDelete(bg, "old"))
	wantFile(t, p, "deleted in the same group", dst, content)
	// Nobody has it by name any more, and who has it open still reads it.
	if n := p.snapUse.taken[s.Clid]; n != 0 {
		t.Errorf("group %d takes blocks of a snapshot that is gone", n)
	}
	if p.snapUse.take(s.Clid, p.state.Load().open.number) {
		t.Error("blocks can be taken of a snapshot that is gone")
	}
	settle(t, p)
	c.content("HOME", 0, 1, 2)
}

// A group does not delete what a later one takes blocks of.
func TestSnapshotUse(t *testing.T) {
	a, b := ondisk.UUID{1}, ondisk.UUID{2}
	deletion := func(ids ...ondisk.UUID) (ops []chain.PFSOp) {
		for _, id := range ids {
			ops = append(ops, chain.PFSOp{Kind: chain.OpDelete, Name: "x", Clid: id})
		}
		return ops
	}
	var u snapUse
	want := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	want("taken", u.take(a, 7), true)
	want("taken earlier, too", u.take(a, 6), true)
	want("deleted before", u.doom(deletion(a), 6), false)
	want("deleted before, with another", u.doom(deletion(b, a), 6), false)
	want("the other is there still", u.take(b, 9), true)
	want("a snapshot of that identity is made", u.doom([]chain.PFSOp{{Kind: chain.OpSnapshot, Clid: a}}, 1), true)
	want("deleted in the same group", u.doom(deletion(a), 7), true)
	want("taken in the group that deletes", u.take(a, 7), true)
	want("taken before", u.take(a, 5), true)
	want("taken after", u.take(a, 8), false)
}

// A member without the snapshot is still to get it: then blocks are copied.
func TestShareSnapshotThatOneLacks(t *testing.T) {
	c, p, s, src, content := snapshotted(t, Options{})
	settle(t, p)
	c.disks[1].Reopen()
	vol, err := chain.Open(c.ctx, []ondisk.Device{c.disks[1]}, chain.Options{})
	check(t, err)
	txn, err := vol.Begin(c.ctx)
	check(t, err)
	check(t, txn.DeletePFS(c.ctx, "old"))
	check(t, txn.Commit(c.ctx))
	check(t, vol.Close())
	c.disks[1].Reopen()
	p = c.pool(Options{})
	gather(t, p)
	dst := restore(t, p, s, src, "g")
	mustSync(t, p)
	wantFile(t, p, "copied", dst, content)
	if n := sharedWith(t, p, "old", src, dst); n != 0 {
		t.Errorf("%d blocks shared, which one member does not have", n)
	}
	settle(t, p)
	c.content("HOME", 0, 1, 2)
}
