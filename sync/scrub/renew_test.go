package scrub

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// tables are those right below a PFS's root on a member.
func (r *rig) tables(member int, pfs string) (refs []ondisk.Blockref) {
	r.Helper()
	v := r.open(member)
	view, err := v.View(r.ctx, pfs)
	r.must(err)
	root := view.Root()
	view.Release()
	r.must(v.Close())
	block := make([]byte, root.Size())
	r.devs[member].Reopen()
	_, err = r.devs[member].ReadAt(block, int64(root.Off()))
	r.must(err)
	in, err := ondisk.DecodeInode(block)
	r.must(err)
	for i := range in.Blockset {
		if in.Blockset[i].Type == ondisk.TypeIndirect {
			refs = append(refs, in.Blockset[i])
		}
	}
	if len(refs) == 0 {
		r.Fatalf("%s has no table below its root", pfs)
	}
	return refs
}

// inodeRef is where a member has an inode.
func (r *rig) inodeRef(member int, pfs string, inum uint64) ondisk.Blockref {
	r.Helper()
	v := r.open(member)
	view, err := v.View(r.ctx, pfs)
	r.must(err)
	in, ok, err := view.Inode(r.ctx, inum)
	r.must(err)
	view.Release()
	r.must(v.Close())
	if !ok {
		r.Fatalf("no inode %d in %s", inum, pfs)
	}
	return in.Ref
}

// rewrite gives the files other content, so that their inodes and tables are
// no longer those of the snapshots.
func (r *rig) rewrite(inums []uint64, with int) {
	r.Helper()
	for _, inum := range inums {
		tx, err := r.pool.Begin(r.ctx, cluster.Cost{Bytes: 200_000, Leaves: 10})
		r.must(err)
		r.must(tx.WriteData(r.ctx, inum, 0, content(with)))
		tx.End()
	}
	r.must(r.pool.Sync(r.ctx))
}

// has demands that a PFS can be read whole on a member, with file i as content(i+first).
func (r *rig) has(member int, pfs string, inums []uint64, first int) {
	r.Helper()
	v := r.open(member)
	view, err := v.View(r.ctx, pfs)
	r.must(err)
	for i, inum := range inums {
		got := make([]byte, 150_000)
		if err := view.ReadData(r.ctx, inum, 0, got); err != nil || !bytes.Equal(got, content(i+first)) {
			r.Errorf("member %d, %s, file %d: wrong (%v)", member, pfs, i, err)
		}
	}
	view.Release()
	r.must(v.Close())
	r.devs[member].Reopen()
	rep, err := fsck.Check(r.ctx, []ondisk.Device{r.devs[member]}, fsck.Options{})
	r.must(err)
	if !rep.Clean() {
		r.Errorf("member %d: %+v", member, rep.Findings)
	}
	r.devs[member].Reopen()
}

// Tables of snapshots are damaged on members, some shared with a newer snapshot
// and with what is mounted: each copy is whole after one scrub.
func TestScrubCopiesSnapshotsAnew(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(6)
	snapshot := func(name string) {
		_, err := r.pool.SnapshotCreate(r.ctx, name, false)
		r.must(err)
	}
	snapshot("one")
	snapshot("two") // shares all its tables with it
	r.rewrite(inums, 77)
	snapshot("three")
	r.must(r.pool.Wait(r.ctx, cluster.WaitSnapshots))
	r.unmount()
	for _, ref := range r.tables(1, "one") {
		r.flip(1, ref)
	}
	r.flip(2, r.inodeRef(2, "one", inums[3]))
	r.flip(2, r.block(2, "one", inums[2], 0)) // is mended in its place
	r.mount()
	old, err := r.pool.OpenSnapshot(r.ctx, r.named("one"))
	r.must(err)
	paths := make(map[string]bool)
	r.told(func(d cluster.Damage, path string, _ error) { paths[d.Node+" "+path] = true })
	rep := r.scrub()
	for _, p := range []string{"m1 /.anvilfs/snapshots/one", "m2 /.anvilfs/snapshots/one/f3", "m2 /.anvilfs/snapshots/one/f2"} {
		if !paths[p] {
			t.Errorf("not told of %s, but of %v", p, paths)
		}
	}
	if rep.Phase != Done || rep.Bad < 3 || rep.Repaired != rep.Bad || rep.Unrepaired != 0 || r.end != nil {
		t.Errorf("%+v %v", rep, r.end)
	}
	if again := r.scrub(); again.Bad != 0 || again.Differing != 0 || again.Snapshots != 3 {
		t.Errorf("a second scrub: %+v", again)
	}
	got := make([]byte, 150_000)
	if err := old.ReadData(r.ctx, inums[0], 0, got); err != nil || !bytes.Equal(got, content(0)) {
		t.Errorf("who had it open reads something else (%v)", err)
	}
	r.must(old.Close(r.ctx))
	r.unmount()
	for m := range 3 {
		r.has(m, "one", inums, 0)
		r.has(m, "two", inums, 0)
	}
}

// named is a snapshot of the list.
func (r *rig) named(name string) cluster.SnapshotName {
	r.Helper()
	list, err := r.pool.SnapshotNames(r.ctx)
	r.must(err)
	for _, n := range list {
		if n.Name == name {
			return n
		}
	}
	r.Fatalf("no snapshot %s", name)
	return cluster.SnapshotName{}
}

// No other member has the snapshot whole: that is said, and what is there stays.
func TestScrubNamesASnapshotBeyondCopying(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(6)
	_, err := r.pool.SnapshotCreate(r.ctx, "one", false)
	r.must(err)
	r.rewrite(inums, 77)
	r.must(r.pool.Wait(r.ctx, cluster.WaitSnapshots))
	r.unmount()
	for m := range 3 {
		r.flip(m, r.inodeRef(m, "one", inums[m%2])) // of 0 and 2 the same
	}
	r.mount()
	var said []string
	r.told(func(d cluster.Damage, _ string, err error) {
		if err != nil {
			said = append(said, d.Node+": "+err.Error())
		}
	})
	rep := r.scrub()
	if rep.Unrepaired != 3 || r.end == nil {
		t.Errorf("%+v %v", rep, r.end)
	}
	for _, s := range said {
		if !strings.Contains(s, "snapshot one") || !strings.Contains(s, "node replace") {
			t.Errorf("said: %s", s)
		}
	}
	r.unmount()
	for m := range 3 {
		v := r.open(m)
		view, err := v.View(r.ctx, "one")
		r.must(err)
		got := make([]byte, 150_000)
		if err := view.ReadData(r.ctx, inums[4], 0, got); err != nil || !bytes.Equal(got, content(4)) {
			t.Errorf("member %d lost what it could read (%v)", m, err)
		}
		view.Release()
		infos, err := v.PFSs(r.ctx)
		r.must(err)
		for i := range infos {
			if strings.HasPrefix(infos[i].Label, ".anvilfs") {
				t.Errorf("member %d keeps %s", m, infos[i].Label)
			}
		}
		if _, err := v.View(r.ctx, "none"); !errors.Is(err, chain.ErrNoPFS) {
			t.Error(err)
		}
		r.must(v.Close())
	}
}

// A table of what is mounted is damaged on a member, and data of a file beside
// it: the member is copied anew, and with that all is right. The scrub says so.
func TestScrubWaitsForAMemberThatIsCopied(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(6)
	r.unmount()
	r.flip(1, r.inodeRef(1, label, inums[1]))
	for _, k := range []int{2, 4, 5} {
		r.flip(1, r.block(1, label, inums[k], 0))
	}
	r.mount()
	rep := r.scrub()
	if rep.Bad != 4 || rep.Repaired != 4 || rep.Unrepaired != 0 || r.end != nil {
		t.Errorf("%+v %v", rep, r.end)
	}
	r.unmount()
	r.alone(inums)
}
