package chain

import (
	"maps"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/golden"
)

// Space of a batch is due when each slot has a header that does not reach it,
// and no view is older.
func TestQuarantineDue(t *testing.T) {
	const seq = 10 // of the header that dropped it
	for _, c := range []struct {
		slots     int
		last, pin uint64
		unseen    bool
		due       bool
	}{
		{1, 10, 10, false, true},
		{1, 9, 10, false, false},
		{2, 10, 10, false, false},
		{2, 11, 11, false, true},
		{4, 12, 12, false, false},
		{4, 13, 13, false, true},
		{4, 13, 10, false, true},
		{4, 13, 9, false, false},
		{4, 13, 9, true, true},
		{4, 12, 9, true, false},
	} {
		var q quarantine
		q.add(seq, c.unseen, []region{{1 << 20, 1<<20 + 2*ondisk.ChunkSize}})
		got := q.due(c.last, c.pin, c.slots)
		if (len(got) > 0) != c.due {
			t.Errorf("%+v: %v", c, got)
		}
		if left := uint64(2 * ondisk.ChunkSize); c.due && q.bytes != 0 || !c.due && q.bytes != left {
			t.Errorf("%+v: %d bytes are left", c, q.bytes)
		}
	}
}

// What may be reused is reused at once here, so that too early is seen: while
// a transaction has written its blocks and no header yet, every slot still
// reaches its own, and so does a view.
func TestNothingReachableIsReused(t *testing.T) {
	for _, size := range []int64{256 << 20, 9 << 30} {
		l := newLife(t, 21, size)
		var view *View
		var seen model
		for i := range 40 {
			if i%8 == 2 {
				if view != nil {
					view.Release()
				}
				var err error
				view, err = l.v.View(bg, "DATA")
				l.must(err)
				seen = maps.Clone(l.models["DATA"])
			}
			tx, err := l.v.Begin(bg)
			l.must(err)
			l.v.fm.alloc.at = [8]uint64{}
			l.tid++
			b := l.m.batch(l.tid, 30)
			l.fit(b, l.models["DATA"])
			l.must(tx.Apply(bg, "DATA", b))
			l.v.fm.seal()
			tx.w.submit()
			tx.w.wait()
			if _, err := checkImage(l.dev); err != nil {
				t.Fatalf("%d MiB, commit %d, before its header: %v", size>>20, i, err)
			}
			l.must(tx.Commit(bg))
			l.models["DATA"].apply(b)
			if view != nil {
				l.v.cache = newTableCache(0)
				view.reader.cache = l.v.cache
				if err := sameModel(t, view, seen); err != nil {
					t.Fatalf("%d MiB, commit %d, a view: %v", size>>20, i, err)
				}
			}
		}
		view.Release()
		l.must(l.v.Close())
	}
}

// A block that somebody else wrote may have other owners: it is left to
// Bulkfree, as is one that a snapshot has.
func TestCertainlyOurs(t *testing.T) {
	dev := golden.Device(t, "small")
	v := openImage(t, dev, Options{})
	defer v.Close()
	view, err := v.View(bg, "DATA")
	if err != nil {
		t.Fatal(err)
	}
	var theirs []ondisk.Blockref
	if err := view.Inodes(bg, 0, ondisk.DirBit, func(r *InodeRec) bool { theirs = append(theirs, r.Ref); return true }); err != nil {
		t.Fatal(err)
	}
	tid := ondisk.MakeTid(uint32(view.T().Epoch()+1), 1)
	view.Release()
	const inum = 1 << 40
	b := &Batch{T: tid, Changes: []Change{{Inum: inum, Kind: KindInode, Inode: fileMeta(inum)}}}
	if err := commitBatch(v, "DATA", b); err != nil {
		t.Fatal(err)
	}
	tx, err := v.Begin(bg)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Abort()
	p, err := tx.pfs(bg, "DATA")
	if err != nil {
		t.Fatal(err)
	}
	for i := range theirs {
		v.fm.alloc.traced[theirs[i].Off()&^(ondisk.ChunkSize-1)] = &tracedChunk{live: 1 << 20} // as if we knew what is in it
		if tx.certain(&theirs[i], p) {
			t.Errorf("%v is taken for ours", &theirs[i])
		}
	}
	now, err := tx.View(bg, "DATA")
	if err != nil {
		t.Fatal(err)
	}
	rec, ok, err := now.Inode(bg, inum)
	if err != nil || !ok || len(theirs) < 3 {
		t.Fatal(len(theirs), ok, err)
	}
	if !tx.certain(&rec.Ref, p) {
		t.Error("what we wrote is not ours")
	}
	p.meta.PFSLsnapTid = rec.Ref.MirrorTid
	if tx.certain(&rec.Ref, p) {
		t.Error("what a snapshot has is ours alone")
	}
}

// With one slot, a cut may tear the header or its spare copy, never both.
func TestHeaderAndSpareAreNotTornTogether(t *testing.T) {
	dev := crashdev.New(newImage(t, 256<<20))
	v := openImage(t, dev, Options{})
	m := newMaker(t, 4)
	for i := range 4 {
		if err := commitBatch(v, "DATA", m.batch(ondisk.MakeTid(1, uint32(i+1)), 10)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range dev.Events() + 1 {
		for odd := range 2 {
			img := dev.Image(n, func(_, sector int) bool { return sector%2 == odd })
			again, err := Open(bg, []ondisk.Device{img}, Options{})
			if err != nil {
				t.Fatalf("every other sector lost after event %d: %v", n, err)
			}
			if again.Tainted() != nil {
				t.Errorf("after event %d: %v", n, again.Tainted())
			}
			again.Close()
		}
	}
}
