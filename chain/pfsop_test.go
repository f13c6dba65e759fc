package chain

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A snapshot that is part of a batch shows the state after its changes; done
// twice it is the same, and the one that is there under another identity goes.
func TestSnapshotInBatch(t *testing.T) {
	l := newLife(t, 7, 256<<20)
	batch := func(ops ...PFSOp) {
		l.Helper()
		l.tid++
		b := l.m.batch(l.tid, 20)
		l.fit(b, l.models["DATA"])
		b.Ops = ops
		l.models["DATA"].apply(b)
		l.must(commitBatch(l.v, "DATA", b))
	}
	clid := ondisk.NewUUID()
	make1 := PFSOp{Kind: OpSnapshot, Name: "s", Clid: clid}
	batch(make1)
	first := maps.Clone(l.models["DATA"])
	s, d := l.info("s"), l.info("DATA")
	if !s.SnapshotOf(d.Fsid) || s.Clid != clid || s.T != d.T || d.LsnapTid != d.T || s.Subtype != ondisk.PFSSubSnapshot {
		t.Errorf("snapshot %+v of %+v", s, d)
	}
	if s.SnapshotOf(ondisk.NewUUID()) {
		t.Error("taken for a snapshot of another PFS")
	}
	for range 10 {
		batch()
	}
	batch(make1)
	checkView(t, l.v, "s", first)

	// The wrong identity deletes nothing, the right one does, once is enough.
	batch(PFSOp{Kind: OpDelete, Name: "s", Clid: ondisk.NewUUID()})
	checkView(t, l.v, "s", first)
	batch(PFSOp{Kind: OpSnapshot, Name: "s", Clid: ondisk.NewUUID(), Auto: true})
	checkView(t, l.v, "s", l.models["DATA"])
	if s := l.info("s"); s.Subtype != ondisk.PFSSubAutoSnapshot || s.Clid == clid {
		t.Errorf("made anew: %+v", s)
	}
	gone := PFSOp{Kind: OpDelete, Name: "s", Clid: l.info("s").Clid}
	batch(gone, gone)
	batch(gone)
	if _, err := l.v.View(bg, "s"); !errors.Is(err, ErrNoPFS) {
		t.Errorf("deleted, and there is %v", err)
	}
	mustCheck(t, l.dev)
	checkView(t, l.v, "DATA", l.models["DATA"])
}

// A PFS that others made keeps its label and content, whatever a batch says.
func TestSnapshotSparesOthers(t *testing.T) {
	l := newLife(t, 8, 256<<20)
	l.fill(3)
	l.must(l.txn(func(tx *Txn) error { return tx.Snapshot(bg, "DATA", "mine", SnapSpec{}) }))
	before := l.info("mine")
	kept := maps.Clone(l.models["DATA"])
	l.fill(3)
	for _, kind := range []OpKind{OpSnapshot, OpDelete} {
		l.tid++
		l.must(commitBatch(l.v, "DATA", &Batch{T: l.tid, Ops: []PFSOp{{Kind: kind, Name: "mine", Clid: before.Clid}}}))
	}
	if after := l.info("mine"); after != before {
		t.Errorf("%+v, was %+v", after, before)
	}
	checkView(t, l.v, "mine", kept)
	for _, op := range []PFSOp{{}, {Kind: 77, Name: "x", Clid: before.Clid}, {Kind: OpSnapshot, Name: "a/b", Clid: before.Clid}, {Kind: OpSnapshot, Name: "x"}} {
		l.tid++
		if err := commitBatch(l.v, "DATA", &Batch{T: l.tid, Ops: []PFSOp{op}}); !errors.Is(err, ErrBadBatch) {
			t.Errorf("%+v: %v", op, err)
		}
	}
}

// While a snapshot is looked at, what its source drops afterwards is free
// again, though the snapshot was deleted meanwhile its blocks are not.
func TestViewOfSnapshotHoldsNothingElse(t *testing.T) {
	l := newLife(t, 9, 64<<20)
	l.fill(3)
	l.tid++
	make1 := PFSOp{Kind: OpSnapshot, Name: "s", Clid: ondisk.NewUUID()}
	l.must(commitBatch(l.v, "DATA", &Batch{T: l.tid, Ops: []PFSOp{make1}}))
	want := maps.Clone(l.models["DATA"])
	view, err := l.v.View(bg, "s")
	l.must(err)
	defer view.Release()
	rewrite := func() {
		t.Helper()
		for i := range 60 { // far more than the volume holds
			l.tid++
			b := &Batch{T: l.tid, Changes: []Change{{Inum: 5000, Kind: KindInode, Inode: fileMeta(5000)}}}
			for k := range uint64(32) {
				b.Changes = append(b.Changes, Change{Inum: 5000, Kind: KindData, Key: k << 16, Block: encode(t, l.m.rnd, ondisk.LogicalBlock)})
			}
			if err := commitBatch(l.v, "DATA", b); err != nil {
				t.Fatalf("rewrite %d: %v, %+v", i, err, l.v.Space())
			}
		}
	}
	rewrite()
	l.tid++
	l.must(commitBatch(l.v, "DATA", &Batch{T: l.tid, Ops: []PFSOp{{Kind: OpDelete, Name: "s", Clid: make1.Clid}}}))
	for i := range 3 {
		_, err := l.v.Bulkfree(bg, BulkfreeOptions{})
		l.must(err)
		l.tid++
		b := &Batch{T: l.tid}
		for k := range uint64(16) {
			b.Changes = append(b.Changes, Change{Inum: 5000, Kind: KindData, Key: k << 16, Block: encode(t, l.m.rnd, ondisk.LogicalBlock)})
		}
		l.must(commitBatch(l.v, "DATA", b))
		if err := sameModel(t, view, want); err != nil {
			t.Fatal(fmt.Errorf("round %d: %w", i, err))
		}
	}
	mustCheck(t, l.dev)
}
