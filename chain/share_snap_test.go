package chain

import (
	"errors"
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// snapOp makes a snapshot of DATA as operations of batches do.
func (l *life) snapOp(name string) (clid ondisk.UUID) {
	l.Helper()
	clid = ondisk.NewUUID()
	l.tid++
	l.must(commitBatch(l.v, "DATA", &Batch{T: l.tid, Ops: []PFSOp{{Kind: OpSnapshot, Name: name, Clid: clid}}}))
	return clid
}

// restore makes a batch that gives inode to the first n blocks that from has
// in the snapshot.
func (l *life) restore(name string, clid ondisk.UUID, from, to uint64, n int) *Batch {
	l.Helper()
	view, err := l.v.View(bg, name)
	l.must(err)
	defer view.Release()
	l.tid++
	b := &Batch{T: l.tid, Changes: []Change{{Inum: to, Kind: KindInode, Inode: fileMeta(to)}}}
	l.must(view.DataRefs(bg, from, 0, uint64(n)<<16, func(r *ondisk.Blockref) bool {
		s, _ := ShareOf(from, r)
		s.Snap, s.SnapClid = name, clid
		b.Changes = append(b.Changes, Change{Inum: to, Kind: KindData, Key: r.Key, Share: s})
		return true
	}))
	return b
}

func (l *life) unique(label string, others ...string) uint64 {
	l.Helper()
	return l.uniques(append([]string{label}, others...), append([]int{0}, slices.Repeat([]int{ofOthers}, len(others))...), 1)[0]
}

// uniques is UniqueBytes of PFSs by their labels; all of it has to be known.
func (l *life) uniques(labels []string, of []int, groups int) (counts []uint64) {
	l.Helper()
	var views []*View
	for _, o := range labels {
		v, err := l.v.View(bg, o)
		l.must(err)
		defer v.Release()
		views = append(views, v)
	}
	all, err := UniqueBytes(bg, views, of, groups)
	l.must(err)
	for _, n := range all {
		l.must(n.Err)
		counts = append(counts, n.Bytes)
	}
	return counts
}

// readable reads all blocks of an inode.
func (l *life) readable(label string, inum uint64, blocks int) {
	l.Helper()
	v, err := l.v.View(bg, label)
	l.must(err)
	defer v.Release()
	n := 0
	l.must(v.DataRefs(bg, inum, 0, 1<<40, func(r *ondisk.Blockref) bool {
		if _, err := v.ReadBlock(bg, r); err != nil {
			l.Errorf("%s: inode %d: %v", label, inum, err)
		}
		n++
		return true
	}))
	if n != blocks {
		l.Errorf("%s: inode %d has %d blocks, want %d", label, inum, n, blocks)
	}
}

// What is brought back from a snapshot has the snapshot's blocks: no space goes
// there, both sides may go first, and what goes last is found by a bulkfree.
func TestShareOutOfASnapshot(t *testing.T) {
	const blocks, bytes = 64, 64 << 16
	l := newLife(t, 8, 256<<20)
	l.big(5000, blocks)
	clid := l.snapOp("old")
	l.drop(5000)
	full := l.used()
	b := l.restore("old", clid, 5000, 5001, blocks)
	l.must(commitBatch(l.v, "DATA", b))
	again := *b
	l.tid++
	again.T = l.tid
	l.must(commitBatch(l.v, "DATA", &again))
	if used := l.used(); used > full+1<<20 {
		t.Errorf("%d bytes used with the file, %d without", used, full)
	}
	l.readable("DATA", 5001, blocks)
	if n := l.unique("old", "DATA"); n > 1<<20 {
		t.Errorf("%d bytes unique to the snapshot, which the file has too", n)
	}
	l.snapOp("new")
	if n := l.unique("new", "old", "DATA"); n > 1<<20 {
		t.Errorf("%d bytes unique to the newer snapshot, which all have", n)
	}
	l.drop(5001)
	if n := l.unique("new", "old", "DATA"); n > 1<<20 {
		t.Errorf("%d bytes unique to the newer snapshot, which the older one has too", n)
	}
	mustCheck(t, l.dev)
	l.fill(10)
	l.readable("old", 5000, blocks)
	l.readable("new", 5001, blocks)

	l.must(l.txn(func(t *Txn) error { return t.DeletePFS(bg, "old") }))
	l.bulkfree()
	l.readable("new", 5001, blocks)
	if n := l.unique("new", "DATA"); n < bytes || n > bytes+1<<20 {
		t.Errorf("%d bytes unique to the last who has them", n)
	}
	l.must(l.txn(func(t *Txn) error { return t.DeletePFS(bg, "new") }))
	full = l.used()
	l.bulkfree()
	if freed := full - l.used(); freed < bytes {
		t.Errorf("%d bytes freed with the last snapshot", freed)
	}
	mustCheck(t, l.dev)
}

func (l *life) bulkfree() {
	l.Helper()
	_, err := l.v.Bulkfree(bg, BulkfreeOptions{})
	l.must(err)
}

// What is written over in the restored file is free at once only if nobody else
// can have it.
func TestRestoredFileWrittenOver(t *testing.T) {
	const blocks = 32
	l := newLife(t, 9, 256<<20)
	l.big(5000, blocks)
	clid := l.snapOp("old")
	l.must(commitBatch(l.v, "DATA", l.restore("old", clid, 5000, 5001, blocks)))
	for range 3 {
		l.big(5001, blocks) // a new record, and all blocks anew
		l.must(l.v.DrainFrees(bg))
		l.big(5000, blocks)
		l.must(l.v.DrainFrees(bg))
		mustCheck(t, l.dev)
		l.readable("old", 5000, blocks)
	}
	// The source is gone, and the file has it: a batch that comes a second time.
	b := l.restore("old", clid, 5000, 5002, blocks)
	l.must(commitBatch(l.v, "DATA", b))
	l.must(l.txn(func(t *Txn) error { return t.DeletePFS(bg, "old") }))
	again := *b
	l.tid++
	again.T = l.tid
	l.must(commitBatch(l.v, "DATA", &again))
	l.bulkfree()
	l.readable("DATA", 5002, blocks)
	mustCheck(t, l.dev)
}

// Nothing is made up where the snapshot is missing, or another has its name.
func TestShareOutOfNoSnapshot(t *testing.T) {
	l := newLife(t, 10, 256<<20)
	l.big(5000, 4)
	clid := l.snapOp("old")
	for what, change := range map[string]func(*Share){
		"another identity": func(s *Share) { s.SnapClid[3] ^= 1 },
		"another name":     func(s *Share) { s.Snap = "older" },
		"no identity":      func(s *Share) { s.SnapClid = ondisk.UUID{} },
		"a PFS":            func(s *Share) { s.Snap = "LOCAL" },
	} {
		b := l.restore("old", clid, 5000, 5001, 4)
		for i := range b.Changes {
			if s := b.Changes[i].Share; s != nil {
				change(s)
			}
		}
		if err := commitBatch(l.v, "DATA", b); !errors.Is(err, ErrBadBatch) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
