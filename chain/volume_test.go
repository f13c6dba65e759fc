package chain

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

func TestFormatSizes(t *testing.T) {
	for _, size := range []int64{64 << 20, 100 << 20, 1 << 30, 2<<30 + 3<<20, 2<<30 + 8<<20, 9 << 30} {
		t.Run(fmt.Sprint(size>>20, "MiB"), func(t *testing.T) {
			dev := newImage(t, size)
			mustCheck(t, dev)
			v := openImage(t, dev, Options{})
			if v.Foreign() || v.Tainted() != nil {
				t.Errorf("fresh volume: foreign %v, tainted %v", v.Foreign(), v.Tainted())
			}
			list, err := v.PFSs(bg)
			if err != nil || len(list) != 2 || list[0].Label != "DATA" || list[1].Label != "LOCAL" {
				t.Fatalf("PFSs %v, %v", list, err)
			}
			m, model := newMaker(t, 1), model{}
			for i := range 5 {
				b := m.batch(ondisk.MakeTid(1, uint32(i+1)), 50)
				if err := commitBatch(v, "DATA", b); err != nil {
					t.Fatal(err)
				}
				model.apply(b)
				mustCheck(t, dev)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			dev.Reopen()
			mustCheck(t, dev)
			v = openImage(t, dev, Options{ReadOnly: true})
			checkView(t, v, "DATA", model)
		})
	}
	if _, err := Format(bg, []ondisk.Device{memdev.New(56 << 20)}, FormatOptions{}); err == nil {
		t.Error("formatted a device of 56 MiB")
	}
}

func checkView(t testing.TB, v *Volume, label string, want model) {
	t.Helper()
	view, err := v.View(bg, label)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Release()
	if err := sameModel(t, view, want); err != nil {
		t.Fatalf("%s: %v", label, err)
	}
}

// A long random life of one volume: batches, PFSs, snapshots, swaps, aborts,
// bulkfrees and reopenings. After each commit every slot is intact.
func TestVolumeLife(t *testing.T) {
	for seed := range uint64(4) {
		size := int64(256 << 20)
		if seed%2 == 1 {
			size = 8 << 30
		}
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { newLife(t, seed, size).run(150) })
	}
}

type life struct {
	*testing.T
	dev    *memdev.Device
	v      *Volume
	m      *maker
	models map[string]model
	tid    ondisk.Tid
}

func newLife(t *testing.T, seed uint64, size int64) *life {
	l := &life{T: t, dev: newImage(t, size), m: newMaker(t, seed), tid: ondisk.MakeTid(1, 0)}
	l.v = openImage(t, l.dev, Options{})
	l.models = map[string]model{"DATA": {}, "LOCAL": {}}
	return l
}

func (l *life) run(steps int) {
	for i := range steps {
		op := l.m.rnd.IntN(20)
		if err := l.step(op, i); err != nil {
			l.Fatalf("step %d, operation %d: %v", i, op, err)
		}
		if _, err := checkImage(l.dev); err != nil {
			l.Fatalf("step %d, operation %d: %v", i, op, err)
		}
	}
	for label, m := range l.models {
		checkView(l, l.v, label, m)
	}
	if err := l.v.Close(); err != nil {
		l.Fatal(err)
	}
}

func (l *life) step(op, i int) error {
	l.tid++
	snap := fmt.Sprint("snap", l.m.rnd.IntN(8))
	_, exists := l.models[snap]
	switch {
	case op == 0:
		_, err := l.v.Bulkfree(bg, BulkfreeOptions{})
		return err
	case op == 1:
		return l.reopen()
	case op == 2:
		return l.aborted()
	case op == 3 && exists:
		delete(l.models, snap)
		return l.txn(func(t *Txn) error { return t.DeletePFS(bg, snap) })
	case op == 4 && exists:
		l.models["DATA"] = l.models[snap]
		delete(l.models, snap)
		l.m = l.m.clone(uint64(i)) // numbers may come back
		return l.txn(func(t *Txn) error { return t.SwapRoot(bg, "DATA", snap) })
	case op <= 5 && !exists:
		return l.txn(func(t *Txn) error { return l.snapshot(t, snap) })
	case op == 6 && exists:
		// A snapshot lives on by itself.
		b := l.m.clone(uint64(i)).batch(l.tid, 20)
		l.fit(b, l.models[snap])
		l.models[snap].apply(b)
		return commitBatch(l.v, snap, b)
	}
	b := l.m.batch(l.tid, 40)
	l.fit(b, l.models["DATA"])
	l.models["DATA"].apply(b)
	return commitBatch(l.v, "DATA", b)
}

// fit takes changes out whose inode the PFS does not have.
func (l *life) fit(b *Batch, m model) {
	made := make(map[uint64]string)
	for _, c := range b.Changes {
		if c.Kind == KindInode && !c.Delete {
			made[c.Inum] = inodeText(c.Inode, c.Inline)
		}
	}
	kept := b.Changes[:0]
	for _, c := range b.Changes {
		old, ok := m[leafKey{inum: c.Inum}]
		text, now := made[c.Inum]
		if !now {
			text = old.text
		}
		if c.Kind == KindData && strings.Contains(text, "inline ") || c.Kind == KindDirent && !strings.Contains(text, "directory") && c.Inum != 1 {
			continue
		}
		if ok || now || c.Inum == ondisk.InumRoot || c.Kind == KindInode {
			kept = append(kept, c)
		}
	}
	b.Changes = kept
}

// snapshot makes one between two batches of the same transaction.
func (l *life) snapshot(t *Txn, label string) error {
	for i := range 2 {
		b := l.m.batch(l.tid, 20)
		l.fit(b, l.models["DATA"])
		l.tid++
		if err := t.Apply(bg, "DATA", b); err != nil {
			return err
		}
		l.models["DATA"].apply(b)
		if i == 0 {
			l.models[label] = maps.Clone(l.models["DATA"])
			if err := t.Snapshot(bg, "DATA", label, SnapSpec{}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *life) txn(fn func(*Txn) error) error {
	t, err := l.v.Begin(bg)
	if err != nil {
		return err
	}
	defer t.Abort()
	if err := fn(t); err != nil {
		return err
	}
	return t.Commit(bg)
}

func (l *life) aborted() error {
	before := l.v.Space()
	err := l.txn(func(t *Txn) error {
		b := l.m.clone(99).batch(l.tid, 40)
		l.fit(b, l.models["DATA"])
		if err := t.Apply(bg, "DATA", b); err != nil {
			return err
		}
		return errors.New("changed my mind")
	})
	if err == nil || err.Error() != "changed my mind" {
		return err
	}
	if after := l.v.Space(); after.Free+after.Pending != before.Free+before.Pending {
		return fmt.Errorf("space %+v after an abort, %+v before", after, before)
	}
	return nil
}

func (l *life) reopen() error {
	if err := l.v.Close(); err != nil {
		return err
	}
	l.dev.Reopen()
	var err error
	l.v, err = Open(bg, []ondisk.Device{l.dev}, Options{})
	return err
}
