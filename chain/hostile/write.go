package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A promise is a file that a commit acknowledged.
type promise struct {
	label   string
	inum    uint64
	content []byte
}

// A writer changes what it finds, as users would.
type writer struct {
	ctx      context.Context
	v        *chain.Volume
	src      *rand.PCG
	rnd      *rand.Rand // of src
	inum     uint64
	promises []promise
	commits  int // that worked
}

// firstNew is a number that no volume here uses.
const firstNew = 1 << 50

// txn runs a transaction. Errors are those that should not be.
func (w *writer) txn(what string, fn func(t *chain.Txn) error) (done bool, err error) {
	t, err := w.v.Begin(w.ctx)
	if err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	if err = fn(t); err == nil {
		err = t.Commit(w.ctx)
	}
	t.Abort()
	if err == nil {
		w.commits++
		return true, nil
	}
	if errors.Is(err, chain.ErrVolumeFailed) || !Explained(err) {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	return false, nil
}

// apply applies changes to a PFS with its next tid.
func (w *writer) apply(label string, changes func(view *chain.View) []chain.Change) func(t *chain.Txn) error {
	return func(t *chain.Txn) error {
		view, err := t.View(w.ctx, label)
		if err != nil {
			return err
		}
		defer view.Release()
		b := &chain.Batch{T: view.T() + 1, Changes: changes(view)}
		b.Sort()
		return t.Apply(w.ctx, label, b)
	}
}

// create makes a file of n blocks in the root directory.
func (w *writer) create(label string, n int) error {
	w.inum++
	p := promise{label: label, inum: firstNew + w.inum}
	done, err := w.txn("new file", w.apply(label, func(*chain.View) []chain.Change {
		m := ondisk.NewInodeMeta(p.inum, ondisk.ObjFile)
		m.Mode, m.Nlinks, m.Size = 0o644, 1, uint64(n)*ondisk.LogicalBlock
		name := fmt.Sprintf("new%d", w.inum)
		key := ondisk.NameHash(name)
		list := []chain.Change{{Inum: p.inum, Kind: chain.KindInode, Inode: &m},
			{Inum: ondisk.InumRoot, Kind: chain.KindDirent, Key: key, Dirent: ondisk.Dirent{Key: key, Inum: p.inum, Type: ondisk.ObjFile, Name: name}}}
		p.content = make([]byte, 0, n*16384)
		for i := range n {
			block := make([]byte, 16384)
			for k := 0; k < len(block); k += 8 {
				binary.LittleEndian.PutUint64(block[k:], w.src.Uint64())
			}
			e, _, err := ondisk.EncodeData(block, 0, uint8(ondisk.CheckXXHash64))
			if err != nil {
				panic(err) // our own settings
			}
			p.content = append(p.content, block...)
			list = append(list, chain.Change{Inum: p.inum, Kind: chain.KindData, Key: uint64(i) * ondisk.LogicalBlock, Block: e})
		}
		return list
	}))
	if done {
		w.promises = append(w.promises, p)
	}
	return err
}

// remove deletes some inodes, entries and blocks, each in a transaction of
// its own: damage is in the way of some.
func (w *writer) remove(label string) error {
	var list []chain.Change
	view, err := w.v.View(w.ctx, label)
	if err != nil {
		if Explained(err) {
			return nil
		}
		return err
	}
	_ = view.Inodes(w.ctx, 0, math.MaxUint64, func(rec *chain.InodeRec) bool {
		inum := rec.Ref.Key
		if w.rnd.IntN(3) == 0 {
			list = append(list, chain.Change{Inum: inum, Kind: chain.KindInode, Delete: true})
		}
		if w.rnd.IntN(2) == 0 {
			list = append(list, chain.Change{Inum: inum, Kind: chain.KindData, Key: ondisk.LogicalBlock, To: 5 * ondisk.LogicalBlock, Delete: true})
		}
		return len(list) < 400
	})
	_ = view.Dirents(w.ctx, ondisk.InumRoot, 0, math.MaxUint64, func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
		if w.rnd.IntN(3) == 0 {
			list = append(list, chain.Change{Inum: ondisk.InumRoot, Kind: chain.KindDirent, Key: d.Key, Delete: true})
		}
		return len(list) < 400
	})
	view.Release()
	w.rnd.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
	for _, c := range list[:min(len(list), 5)] {
		if c.Inum > firstNew {
			continue // promised
		}
		if _, err := w.txn(fmt.Sprintf("deleting %v %d", c.Kind, c.Inum), w.apply(label, func(*chain.View) []chain.Change { return []chain.Change{c} })); err != nil {
			return err
		}
	}
	return nil
}

// change does what users do to one PFS.
func (w *writer) change(label string) error {
	if err := w.create(label, 3); err != nil {
		return err
	}
	if err := w.remove(label); err != nil {
		return err
	}
	if w.rnd.IntN(2) == 0 {
		if _, err := w.txn("snapshot", func(t *chain.Txn) error { return t.Snapshot(w.ctx, label, "NEW-"+label, chain.SnapSpec{}) }); err != nil {
			return err
		}
	}
	if err := w.remove(label); err != nil {
		return err
	}
	return w.create(label, 20)
}

// space brings freed space into use again.
func (w *writer) space(label string) error {
	if err := w.v.DrainFrees(w.ctx); err != nil {
		return fmt.Errorf("draining: %w", err)
	}
	if _, err := w.v.Bulkfree(w.ctx, chain.BulkfreeOptions{}); err != nil && !Explained(err) {
		return fmt.Errorf("bulkfree: %w", err)
	}
	return w.create(label, 40)
}

// kept looks whether what was promised is there.
func (w *writer) kept(v *chain.Volume) error {
	for _, p := range w.promises {
		view, err := v.View(w.ctx, p.label)
		if err != nil {
			return fmt.Errorf("acknowledged, and now: %w", err)
		}
		got := make([]byte, 16384)
		for at := 0; at < len(p.content) && err == nil; at += len(got) {
			err = view.ReadData(w.ctx, p.inum, uint64(at/len(got))*ondisk.LogicalBlock, got)
			if err == nil && !bytes.Equal(got, p.content[at:at+len(got)]) {
				err = errors.New("other bytes than were written")
			}
		}
		view.Release()
		if err != nil {
			return fmt.Errorf("PFS %q, inode %d, acknowledged, and now: %w", p.label, p.inum, err)
		}
	}
	return nil
}
