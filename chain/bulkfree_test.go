package chain

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// fill commits n random batches to DATA.
func (l *life) fill(n int) {
	l.Helper()
	for i := range n {
		l.tid++
		b := l.m.batch(l.tid, 60)
		l.fit(b, l.models["DATA"])
		if err := commitBatch(l.v, "DATA", b); err != nil {
			l.Fatalf("batch %d: %v", i, err)
		}
		l.models["DATA"].apply(b)
	}
}

func (l *life) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// used is what is not free, by the allocator's own account.
func (l *life) used() uint64 {
	s := l.v.Space()
	return s.Total - s.Free
}

// After a bulkfree nothing is allocated but what the tree reaches.
func TestBulkfreeExact(t *testing.T) {
	l := newLife(t, 1, 256<<20)
	l.fill(20)
	l.must(l.txn(func(t *Txn) error { return t.Snapshot(bg, "DATA", "snap", SnapSpec{}) }))
	l.fill(30)
	l.must(l.txn(func(t *Txn) error { return t.DeletePFS(bg, "snap") }))
	l.must(l.reopen())
	before := l.used()
	rep, err := l.v.Bulkfree(bg, BulkfreeOptions{})
	l.must(err)
	reached := mustCheck(t, l.dev)
	if l.used() != reached || before-l.used() != rep.Freed || rep.Freed == 0 || rep.Rescued != 0 {
		t.Errorf("used %d, reachable %d, %d before, report %+v", l.used(), reached, before, rep)
	}
	if rep.Freed < 1<<19 {
		t.Errorf("deleting the snapshot freed only %d bytes", rep.Freed)
	}
	checkView(t, l.v, "DATA", l.models["DATA"])
	l.fill(10)
	mustCheck(t, l.dev)
}

// What only a bulkfree finds is counted, also over a crash, which loses the
// quarantine, and not after the bulkfree.
func TestLostIsCounted(t *testing.T) {
	l := newLife(t, 4, 256<<20)
	l.fill(20)
	l.must(l.reopen())
	l.tid++
	big := &Batch{T: l.tid, Changes: []Change{{Inum: 5000, Kind: KindInode, Inode: fileMeta(5000)}}}
	for i := range uint64(64) {
		big.Changes = append(big.Changes, Change{Inum: 5000, Kind: KindData, Key: i << 16, Block: encode(t, l.m.rnd, ondisk.LogicalBlock)})
	}
	l.must(commitBatch(l.v, "DATA", big))
	was := l.v.Space().Lost
	l.tid++
	l.must(commitBatch(l.v, "DATA", &Batch{T: l.tid, Changes: []Change{{Inum: 5000, Kind: KindInode, Delete: true}}}))
	crashed := l.dev.Clone()
	v, err := Open(bg, []ondisk.Device{crashed}, Options{})
	l.must(err)
	if lost := v.Space().Lost; lost < 64<<16 || was >= 64<<16 {
		t.Errorf("%d bytes lost after the crash, %d before it", lost, was)
	}
	rep, err := v.Bulkfree(bg, BulkfreeOptions{})
	l.must(err)
	if rep.Freed < 64<<16 || v.Space().Lost != 0 {
		t.Errorf("%d bytes freed, %d still lost", rep.Freed, v.Space().Lost)
	}
	l.must(v.Close())
	crashed.Reopen()
	v, err = Open(bg, []ondisk.Device{crashed}, Options{})
	l.must(err)
	if lost := v.Space().Lost; lost != 0 {
		t.Errorf("%d bytes lost after a bulkfree and a clean end", lost)
	}
	l.must(v.Close())
	l.must(l.v.Close())
}

// While a pass runs, transactions allocate, drop and release what the walk has
// seen or not seen.
func TestBulkfreeOnline(t *testing.T) {
	for seed := range uint64(6) {
		l := newLife(t, seed, 128<<20)
		l.fill(10)
		l.must(l.txn(func(t *Txn) error { return t.Snapshot(bg, "DATA", "snap", SnapSpec{}) }))
		l.fill(10)
		l.must(l.txn(func(t *Txn) error { return t.DeletePFS(bg, "snap") }))
		view, err := l.v.View(bg, "DATA")
		l.must(err)
		old := viewModel(t, view)
		var rep BulkfreeReport
		for pass := 1; pass <= 2; pass++ {
			b := &bulkPass{v: l.v, pass: pass, rep: &rep}
			l.must(b.begin(bg))
			l.fill(3)
			l.must(b.walk(bg))
			l.fill(6)
			l.must(b.merge(bg, 0, l.v.fm.zoneCount()))
			b.end()
			mustCheck(t, l.dev)
		}
		if rep.Rescued != 0 || rep.Freed == 0 {
			t.Errorf("seed %d: report %+v", seed, rep)
		}
		for range 8 {
			l.fill(1)
			mustCheck(t, l.dev)
		}
		if got := viewModel(t, view); len(got) != len(old) {
			t.Errorf("seed %d: the view changed", seed)
		}
		view.Release()
		checkView(t, l.v, "DATA", l.models["DATA"])
		l.must(l.v.Close())
	}
}

// A view's blocks outlive the PFS that had them.
func TestBulkfreeSparesViews(t *testing.T) {
	l := newLife(t, 3, 128<<20)
	l.fill(20)
	view, err := l.v.View(bg, "DATA")
	l.must(err)
	l.must(l.txn(func(t *Txn) error { return t.DeletePFS(bg, "DATA") }))
	for range 2 {
		_, err = l.v.Bulkfree(bg, BulkfreeOptions{})
		l.must(err)
		// Whatever is free is written over.
		l.must(l.txn(func(t *Txn) error { return t.CreatePFS(bg, PFSSpec{Label: "JUNK", T: l.tid}) }))
		l.must(writeJunk(l.v, "JUNK", l.v.Header().MirrorTid+1))
		l.must(l.txn(func(t *Txn) error { return t.DeletePFS(bg, "JUNK") }))
	}
	_, err = l.v.Bulkfree(bg, BulkfreeOptions{})
	l.must(err)
	if err := sameModel(t, view, l.models["DATA"]); err != nil {
		t.Error(err)
	}
	lost := l.v.Space().Lost
	view.Release()
	rep, err := l.v.Bulkfree(bg, BulkfreeOptions{})
	l.must(err)
	// Symptom: who looks for space when there is some to find did not know of it.
	// A chunk that small blocks go to is no one's gain.
	if rep.Freed == 0 || lost < rep.Freed || lost > rep.Freed+4*ondisk.ChunkSize {
		t.Errorf("%d bytes were freed after the view's release, %d known of", rep.Freed, lost)
	}
	if lost := l.v.Space().Lost; lost > 0 {
		t.Errorf("%d bytes are lost when nothing is", lost)
	}
	mustCheck(t, l.dev)
}

// writeJunk fills a PFS until there is no more space, in one transaction, and
// commits what went in.
func writeJunk(v *Volume, label string, tid ondisk.Tid) error {
	t, err := v.Begin(bg)
	if err != nil {
		return err
	}
	defer t.Abort()
	junk := make([]byte, ondisk.LogicalBlock)
	for i := range junk {
		junk[i] = byte(i*7) ^ byte(i>>8)
	}
	block, _, err := ondisk.EncodeData(junk, 0, uint8(ondisk.CheckXXHash64))
	if err != nil {
		return err
	}
	b := &Batch{T: tid, Changes: []Change{{Inum: 5000, Kind: KindInode, Inode: fileMeta(5000)}}}
	for i := range max(v.Space().Avail()/ondisk.LogicalBlock*97/100, 40) - 40 {
		b.Changes = append(b.Changes, Change{Inum: 5000, Kind: KindData, Key: i * ondisk.LogicalBlock, Block: block})
	}
	if err := t.Apply(bg, label, b); err != nil {
		return err
	}
	return t.Commit(bg)
}

// A pass that meets damage frees nothing.
func TestBulkfreeDamage(t *testing.T) {
	l := newLife(t, 5, 128<<20)
	l.fill(20)
	var victim ondisk.Blockref
	s := &treeScan{v: l.v, visit: func(r *ondisk.Blockref) {
		if r.Type == ondisk.TypeIndirect {
			victim = *r
		}
	}}
	l.must(s.run(bg, sroot(l.v.hdr)))
	if _, err := l.dev.WriteAt([]byte{0xff, 0xee}, int64(victim.Off())+7); err != nil {
		t.Fatal(err)
	}
	l.must(l.txn(func(t *Txn) error { return t.DeletePFS(bg, "LOCAL") }))
	before := l.v.Space()
	rep, err := l.v.Bulkfree(bg, BulkfreeOptions{})
	if !errors.Is(err, ondisk.ErrCorrupt) || rep.Staged != 0 || rep.Freed != 0 {
		t.Errorf("%v, report %+v", err, rep)
	}
	if after := l.v.Space(); after != before {
		t.Errorf("space %+v, %+v before", after, before)
	}
}

// A calledContext calls a function when it is first asked whether it has ended.
type calledContext struct {
	context.Context
	once *sync.Once
	fn   func()
}

func (c calledContext) Err() error {
	c.once.Do(c.fn)
	return c.Context.Err()
}

// Symptom: a snapshot that was closed while a bulkfree ran, between its passes, had
// its space neither free nor counted as lost: no other bulkfree was begun.
func TestBulkfreeWhileViewEnds(t *testing.T) {
	l := newLife(t, 2, 128<<20)
	l.big(5000, 16)
	l.must(l.txn(func(t *Txn) error { return t.Snapshot(bg, "DATA", "snap", SnapSpec{}) }))
	l.drop(5000)
	view, err := l.v.View(bg, "snap")
	l.must(err)
	l.must(l.txn(func(t *Txn) error { return t.DeletePFS(bg, "snap") }))
	full := l.used()
	_, err = l.v.Bulkfree(calledContext{bg, new(sync.Once), view.Release}, BulkfreeOptions{})
	l.must(err)
	if lost := l.v.Space().Lost; lost < 16<<16 && l.used() > full-16<<16 {
		t.Errorf("%d bytes are said to be lost, %d are in use of %d before", lost, l.used(), full)
	}
	_, err = l.v.Bulkfree(bg, BulkfreeOptions{})
	l.must(err)
	if lost := l.v.Space().Lost; lost > 0 || l.used() > full-16<<16 {
		t.Errorf("at last %d bytes are said to be lost, %d are in use of %d before", lost, l.used(), full)
	}
}
