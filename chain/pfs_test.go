package chain

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

func TestPFSOperations(t *testing.T) {
	l := newLife(t, 2, 256<<20)
	clid, fsid := ondisk.NewUUID(), ondisk.NewUUID()
	l.must(l.txn(func(tx *Txn) error {
		return tx.CreatePFS(bg, PFSSpec{Label: "HOME", Type: ondisk.PFSSlave, NMasters: 3, Clid: clid, Fsid: fsid})
	}))
	p := l.info("HOME")
	if p.Type != ondisk.PFSSlave || p.NMasters != 3 || p.Clid != clid || p.Fsid != fsid || p.Inodes != 0 {
		t.Errorf("%+v", p)
	}
	for _, label := range []string{"", "a/b", strings.Repeat("x", 256), "HOME"} {
		err := l.txn(func(tx *Txn) error { return tx.CreatePFS(bg, PFSSpec{Label: label}) })
		if err == nil || label == "HOME" && !errors.Is(err, ErrPFSExists) {
			t.Errorf("created %q: %v", label, err)
		}
	}
	l.fill(5)
	before := l.info("DATA")
	l.must(l.txn(func(tx *Txn) error {
		return tx.SetPFS(bg, "DATA", func(m *ondisk.InodeMeta) { m.PFSType, m.PFSNMasters = ondisk.PFSSlave, 5 })
	}))
	after := l.info("DATA")
	if after.Type != ondisk.PFSSlave || after.NMasters != 5 || after.T != before.T || after.Inodes != before.Inodes {
		t.Errorf("%+v, %+v before", after, before)
	}
	l.must(l.txn(func(tx *Txn) error { return tx.Snapshot(bg, "DATA", "S", SnapSpec{}) }))
	s, d := l.info("S"), l.info("DATA")
	if s.Subtype != ondisk.PFSSubSnapshot || s.LsnapTid != d.T || d.LsnapTid != d.T || s.T != d.T || s.Fsid == d.Fsid || s.Clid == d.Clid ||
		s.LastInum != d.LastInum+1 || s.Inodes != d.Inodes || s.DataBytes != d.DataBytes {
		t.Errorf("snapshot %+v of %+v", s, d)
	}
	l.must(l.txn(func(tx *Txn) error { return tx.DeletePFS(bg, "S") }))
	if _, err := l.v.View(bg, "S"); !errors.Is(err, ErrNoPFS) {
		t.Errorf("view of a deleted PFS: %v", err)
	}
	for _, op := range []func(*Txn) error{
		func(tx *Txn) error { return tx.DeletePFS(bg, "S") },
		func(tx *Txn) error { return tx.Snapshot(bg, "S", "T", SnapSpec{}) },
		func(tx *Txn) error { return tx.SwapRoot(bg, "DATA", "S") },
		func(tx *Txn) error { return tx.Apply(bg, "S", &Batch{T: 1}) },
	} {
		if err := l.txn(op); !errors.Is(err, ErrNoPFS) {
			t.Errorf("on a PFS that is not there: %v", err)
		}
	}
}

func (l *life) info(label string) PFSInfo {
	l.Helper()
	list, err := l.v.PFSs(bg)
	l.must(err)
	for _, p := range list {
		if p.Label == label {
			return p
		}
	}
	l.Fatalf("no PFS %q", label)
	return PFSInfo{}
}

// Create, fill, delete and create again under one label, in one transaction.
func TestPFSTwiceInOneTxn(t *testing.T) {
	l := newLife(t, 2, 256<<20)
	l.must(l.txn(func(tx *Txn) error {
		for i := range uint64(3) {
			if err := tx.CreatePFS(bg, PFSSpec{Label: "P"}); err != nil {
				return err
			}
			b := &Batch{T: l.tid + 1, Changes: []Change{{Inum: 5000 + i, Kind: KindInode, Inode: fileMeta(5000 + i)}}}
			if err := tx.Apply(bg, "P", b); err != nil {
				return err
			}
			view, err := tx.View(bg, "P")
			if err != nil {
				return err
			}
			if _, ok, err := view.Inode(bg, 5000+i); !ok || err != nil {
				return fmt.Errorf("inode %d: %v, %v", 5000+i, ok, err)
			}
			if i < 2 {
				if err := tx.DeletePFS(bg, "P"); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	mustCheck(t, l.dev)
	m := model{{inum: 5002}: {text: inodeText(fileMeta(5002), nil)}}
	checkView(t, l.v, "P", m)
}

// A PFS that got the content of another keeps off what snapshots of that have.
func TestSwapKeepsSnapshots(t *testing.T) {
	l := newLife(t, 2, 256<<20)
	l.fill(3)
	l.must(l.txn(func(tx *Txn) error { return tx.Snapshot(bg, "DATA", "shadow", SnapSpec{Shadow: true}) }))
	block := encode(t, l.m.rnd, ondisk.LogicalBlock)
	write := func(label string, tid ondisk.Tid) {
		l.must(commitBatch(l.v, label, &Batch{T: tid, Changes: []Change{
			{Inum: 5000, Kind: KindInode, Inode: fileMeta(5000)}, {Inum: 5000, Kind: KindData, Block: block},
		}}))
	}
	write("shadow", l.tid+10)
	l.must(l.txn(func(tx *Txn) error { return tx.Snapshot(bg, "shadow", "kept", SnapSpec{}) }))
	l.must(l.txn(func(tx *Txn) error { return tx.SwapRoot(bg, "DATA", "shadow") }))
	for i := range ondisk.Tid(8) {
		write("DATA", l.tid+11+i)
	}
	mustCheck(t, l.dev)
	if p := l.info("DATA"); p.Subtype != 0 || p.T != l.tid+18 {
		t.Errorf("%+v", p)
	}
}

// Hundreds of snapshots need indirect blocks under the super-root.
func TestManySnapshots(t *testing.T) {
	l := newLife(t, 2, 512<<20)
	for i := range 300 {
		if i%30 == 0 {
			l.fill(1)
		}
		l.must(l.txn(func(tx *Txn) error { return tx.Snapshot(bg, "DATA", fmt.Sprint("s", i), SnapSpec{}) }))
	}
	mustCheck(t, l.dev)
	if list, err := l.v.PFSs(bg); err != nil || len(list) != 302 {
		t.Errorf("%d PFSs, %v", len(list), err)
	}
	for i := range 300 {
		l.must(l.txn(func(tx *Txn) error { return tx.DeletePFS(bg, fmt.Sprint("s", i)) }))
	}
	_, err := l.v.Bulkfree(bg, BulkfreeOptions{})
	l.must(err)
	mustCheck(t, l.dev)
	checkView(t, l.v, "DATA", l.models["DATA"])
}

// State entries live and die with commits, and need no space.
func TestStates(t *testing.T) {
	l := newLife(t, 2, 64<<20)
	e := ondisk.StateEntry{Fsid: ondisk.NewUUID(), PromisedEpoch: 7, T: ondisk.MakeTid(3, 4)}
	l.must(l.txn(func(tx *Txn) error { return tx.SetState(e) }))
	l.v.fm.usable = 0 // as full as can be
	e.PromisedEpoch = 8
	l.must(l.txn(func(tx *Txn) error { return tx.SetState(e) }))
	err := l.txn(func(tx *Txn) error {
		tx.ClearState(e.Fsid)
		return errors.New("not after all")
	})
	if got, ok := l.v.State(e.Fsid); !ok || got != e || err == nil {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	l.must(l.reopen())
	if got, ok := l.v.State(e.Fsid); !ok || got != e || l.v.Foreign() {
		t.Errorf("%+v, %v after reopening, foreign %v", got, ok, l.v.Foreign())
	}
	l.must(l.txn(func(tx *Txn) error { tx.ClearState(e.Fsid); return nil }))
	if _, ok := l.v.State(e.Fsid); ok {
		t.Error("still there")
	}
	for range ondisk.MaxStates {
		l.must(l.txn(func(tx *Txn) error { return tx.SetState(ondisk.StateEntry{Fsid: ondisk.NewUUID(), T: 1}) }))
	}
	if err := l.txn(func(tx *Txn) error { return tx.SetState(e) }); err == nil {
		t.Error("one entry too many was taken")
	}
}

// Transactions are one at a time; waiting ends with the context.
func TestBeginWaits(t *testing.T) {
	l := newLife(t, 2, 64<<20)
	tx, err := l.v.Begin(bg)
	l.must(err)
	ctx, cancel := context.WithTimeout(bg, 10*time.Millisecond)
	defer cancel()
	if _, err := l.v.Begin(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second transaction: %v", err)
	}
	l.must(tx.Commit(bg))
	tx.Abort() // nothing
	l.must(l.v.Close())
	if _, err := l.v.Begin(bg); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := l.v.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

// Views are read while commits, drains and a bulkfree go on beside them.
func TestConcurrentReaders(t *testing.T) {
	l := newLife(t, 9, 256<<20)
	l.fill(10)
	stop := make(chan struct{})
	errs := make(chan error, 3)
	for range 2 {
		go func() {
			for {
				select {
				case <-stop:
					errs <- nil
					return
				default:
				}
				view, err := l.v.View(bg, "DATA")
				if err == nil {
					err = view.Inodes(bg, 2, ^uint64(0), func(*InodeRec) bool { return true })
					view.Release()
				}
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	go func() {
		_, err := l.v.Bulkfree(bg, BulkfreeOptions{Pause: time.Millisecond})
		errs <- err
	}()
	l.fill(40)
	close(stop)
	for range 3 {
		l.must(<-errs)
	}
	mustCheck(t, l.dev)
	checkView(t, l.v, "DATA", l.models["DATA"])
}

// The root of a snapshot cannot be read any more: what else the volume has is used on,
// and the way is made free for a copy of that snapshot. Nothing that can be read goes.
func TestDropUnreadable(t *testing.T) {
	l := newLife(t, 5, 256<<20)
	l.fill(5)
	for _, label := range []string{"snap0", "snap1"} {
		l.models[label] = maps.Clone(l.models["DATA"])
		l.must(l.txn(func(tx *Txn) error { return tx.Snapshot(bg, "DATA", label, SnapSpec{}) }))
	}
	l.fill(3)
	view, err := l.v.View(bg, "snap1")
	l.must(err)
	root := view.Root()
	view.Release()
	l.must(l.v.Close())
	l.dev.Reopen()
	_, err = l.dev.WriteAt([]byte("damage"), int64(root.Off()))
	l.must(err)
	dev := faultdev.New(l.dev)
	l.v = openImage(t, dev, Options{})
	infos, err := l.v.PFSs(bg)
	if !errors.Is(err, ondisk.ErrCorrupt) || len(infos) != 3 {
		t.Fatalf("%d PFSs, %v: want three, and the damage", len(infos), err)
	}
	keys, err := l.v.UnreadableRoots(bg)
	if err != nil || !slices.Equal(keys, []uint64{root.Key}) {
		t.Errorf("it says that %x cannot be read (%v), want %x", keys, err, root.Key)
	}
	if err := l.txn(func(tx *Txn) error {
		dropped, err := tx.DropUnreadableRoot(bg, infos[0].Key)
		if dropped {
			t.Error("what can be read was dropped by its key")
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	tx, err := l.v.Begin(bg)
	l.must(err)
	if dropped, err := tx.DropUnreadableRoot(bg, root.Key); !dropped || err != nil {
		t.Errorf("it is not found by its key (%v)", err)
	}
	tx.Abort()
	drop := func(label string) (dropped bool, err error) {
		err = l.txn(func(tx *Txn) (err error) { dropped, err = tx.DropUnreadable(bg, label); return err })
		return dropped, err
	}
	if dropped, err := drop("snap0"); dropped || err != nil {
		t.Errorf("what can be read was dropped (%v, %v)", dropped, err)
	}
	if _, err := l.v.Bulkfree(bg, BulkfreeOptions{}); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("space was looked for below what is not known: %v", err)
	}
	l.must(l.txn(func(tx *Txn) error {
		dropped, err := tx.DropUnreadable(bg, "snap1")
		if !dropped {
			t.Error("it was not dropped")
		}
		return errors.Join(err, tx.Snapshot(bg, "snap0", "snap1", SnapSpec{}))
	}))
	for label, m := range l.models {
		checkView(l, l.v, label, m)
	}
	if _, err := l.v.Bulkfree(bg, BulkfreeOptions{}); err != nil {
		t.Errorf("space is not looked for: %v", err)
	}
	if _, err := checkImage(l.dev); err != nil {
		t.Error(err)
	}
	// A device that gives nothing tells nothing of a root.
	l.must(l.v.Close())
	l.dev.Reopen()
	l.v = openImage(t, dev, Options{})
	dev.Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Read, End: dev.Size(), Times: faultdev.Always})
	l.v.ForgetTables()
	if dropped, err := drop("snap0"); dropped || !errors.Is(err, faultdev.ErrFault) {
		t.Errorf("of a device that is gone: %v, %v", dropped, err)
	}
	dev.Clear()
	l.must(l.v.Close())
}
