package chain

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// verifyAll goes through a PFS in steps of limit bytes.
func (l *life) verifyAll(label string, limit int64, seen *Verified) (total VerifyStats, bad []*NodeError, steps int) {
	l.Helper()
	var at VerifyPlace
	for done := false; !done; steps++ {
		v, err := l.v.ColdView(bg, label)
		l.must(err)
		var s VerifyStats
		at, done, s, err = v.Verify(bg, at, limit, seen, func(e *NodeError) error {
			bad = append(bad, e)
			return nil
		})
		v.Release()
		l.must(err)
		total.Blocks += s.Blocks
		total.Bytes += s.Bytes
		total.Shared += s.Shared
		total.Bad += s.Bad
	}
	return total, bad, steps
}

// reachable counts the blocks below the root of a PFS by another walk.
func (l *life) reachable(label string) (blocks, bytes int64) {
	l.Helper()
	v, err := l.v.View(bg, label)
	l.must(err)
	defer v.Release()
	s := &treeScan{v: l.v, visit: func(r *ondisk.Blockref) {
		blocks++
		bytes += int64(r.Size())
	}}
	l.must(s.run(bg, v.Root()))
	return blocks - 1, bytes - ondisk.InodeSize
}

// A verify reads every block once, in one step or in many.
func TestVerifyReadsAll(t *testing.T) {
	l := newLife(t, 5, 256<<20)
	l.fill(30)
	blocks, bytes := l.reachable("DATA")
	for _, limit := range []int64{1 << 40, 1 << 20, 70_000} {
		total, bad, steps := l.verifyAll("DATA", limit, nil)
		if len(bad) > 0 || total.Bytes < bytes || total.Blocks < blocks {
			t.Errorf("limit %d: %+v, %d bad; there are %d blocks, %d bytes", limit, total, len(bad), blocks, bytes)
		}
		// Tables on the way to a place are read again by each step.
		if limit == 1<<40 && (total.Bytes != bytes || total.Blocks != blocks || steps != 1) {
			t.Errorf("%+v in %d steps; there are %d blocks, %d bytes", total, steps, blocks, bytes)
		}
		if limit < 1<<40 && steps < 3 {
			t.Errorf("limit %d: %d steps", limit, steps)
		}
	}
	l.must(l.txn(func(t *Txn) error { return t.Snapshot(bg, "DATA", "snap", SnapSpec{}) }))
	seen := NewVerified()
	l.verifyAll("DATA", 1<<40, seen)
	total, _, _ := l.verifyAll("snap", 1<<40, seen)
	if total.Shared == 0 || total.Shared+total.Bytes != bytes {
		t.Errorf("a snapshot of %d bytes: %+v", bytes, total)
	}
}

// Every damaged block is found, whatever it is, and nothing else.
func TestVerifyFindsDamage(t *testing.T) {
	l := newLife(t, 6, 256<<20)
	l.fill(30)
	v, err := l.v.View(bg, "DATA")
	l.must(err)
	var refs []ondisk.Blockref
	kinds := make(map[ondisk.BlockType]int)
	s := &treeScan{v: l.v, visit: func(r *ondisk.Blockref) {
		if kinds[r.Type]++; r.Key != v.Root().Key && kinds[r.Type]%7 == 3 && r.Type != ondisk.TypeIndirect {
			refs = append(refs, *r)
		}
	}}
	l.must(s.run(bg, v.Root()))
	v.Release()
	hurt := make(map[uint64]bool)
	for i := range refs {
		block := make([]byte, refs[i].Size())
		_, err := l.dev.ReadAt(block, int64(refs[i].Off()))
		l.must(err)
		block[len(block)/2] ^= 1
		_, err = l.dev.WriteAt(block, int64(refs[i].Off()))
		l.must(err)
		hurt[refs[i].Off()] = true
	}
	_, bad, _ := l.verifyAll("DATA", 1<<20, nil)
	for _, e := range bad {
		if !errors.Is(e, ondisk.ErrCorrupt) {
			t.Errorf("%v is no damage", e)
		}
		if !hurt[e.Ref.Off()] {
			t.Errorf("%v is not damaged", e)
		}
		delete(hurt, e.Ref.Off())
	}
	// What a damaged inode has below is not reached.
	for i := range refs {
		if hurt[refs[i].Off()] && refs[i].Type == ondisk.TypeInode {
			t.Errorf("%v was not found", &refs[i])
		}
	}
	if len(bad) < 10 {
		t.Errorf("only %d of %d found", len(bad), len(refs))
	}
}
