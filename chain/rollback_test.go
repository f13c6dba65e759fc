package chain

import (
	"maps"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A snapshot that was copied from another node has blocks that are newer than
// the last snapshot made of the PFS here, if that node was ahead when it made its
// own copy. A rollback gives the PFS those blocks too: what it drops of them
// afterwards is still the snapshot's.
func TestRollbackToCopiedSnapshot(t *testing.T) {
	l := newLife(t, 11, 256<<20)
	l.fill(3)
	id := ondisk.NewUUID()
	fsid := SnapshotFsid(id, l.info("DATA").Fsid)
	batch := func(label string) *Batch {
		l.Helper()
		l.tid++
		b := &Batch{T: l.tid, Changes: []Change{{Inum: 5000, Kind: KindInode, Inode: fileMeta(5000)}}}
		for k := range uint64(16) {
			b.Changes = append(b.Changes, Change{Inum: 5000, Kind: KindData, Key: k << 16, Block: encode(t, l.m.rnd, ondisk.LogicalBlock)})
		}
		l.models[label].apply(b)
		return b
	}
	l.must(l.txn(func(tx *Txn) error { return tx.Snapshot(bg, "DATA", "copy", SnapSpec{Shadow: true}) }))
	last := l.info("DATA").LsnapTid
	l.models["s"] = maps.Clone(l.models["DATA"])
	l.must(l.txn(func(tx *Txn) error { return tx.Apply(bg, "copy", batch("s")) }))
	l.must(l.txn(func(tx *Txn) error {
		if err := tx.Snapshot(bg, "copy", "s", SnapSpec{Clid: id, Fsid: fsid}); err != nil {
			return err
		}
		return tx.DeletePFS(bg, "copy")
	}))
	if made := l.info("s").T; made <= last {
		t.Fatalf("the copy is of %v, the last snapshot here of %v", made, last)
	}

	l.tid++
	l.must(commitBatch(l.v, "DATA", &Batch{T: l.tid, Ops: []PFSOp{{Kind: OpRollback, Name: "s", Clid: id, To: 1}}}))
	l.models["DATA"] = maps.Clone(l.models["s"])
	checkView(t, l.v, "DATA", l.models["s"])
	for range 4 { // what is free by now is used again
		l.must(commitBatch(l.v, "DATA", batch("DATA")))
		mustCheck(t, l.dev)
	}
	checkView(t, l.v, "s", l.models["s"])
	checkView(t, l.v, "DATA", l.models["DATA"])
}
