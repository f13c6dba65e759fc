package chain

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A transaction that leaves room is refused where it makes the volume fuller
// and leaves less, and may take all where it makes it emptier: where snapshots
// keep what it drops, it does not.
func TestLeave(t *testing.T) {
	l := newLife(t, 3, 64<<20)
	block := encode(t, l.m.rnd, ondisk.LogicalBlock)
	tid := l.tid
	data := func(inum, from, n uint64) *Batch {
		tid++
		b := &Batch{T: tid, Changes: []Change{{Inum: inum, Kind: KindInode, Inode: fileMeta(inum)}}}
		for i := range n {
			b.Changes = append(b.Changes, Change{Inum: inum, Kind: KindData, Key: (from + i) * ondisk.LogicalBlock, Block: block})
		}
		return b
	}
	commit := func(b *Batch, room uint64, kept bool) error {
		return l.txn(func(t *Txn) error {
			t.UseReserve()
			t.Leave(room, func() bool { return kept })
			return t.Apply(bg, "DATA", b)
		})
	}
	l.must(commit(data(5000, 0, 4), 0, false))
	for at := uint64(0); l.v.Space().Free > 2<<20; at += 8 {
		l.must(commit(data(6000, at, 8), LastRoom, false))
		l.must(l.v.DrainFrees(bg))
	}
	if err := commit(data(7000, 0, 20), 1<<20, false); !errors.Is(err, ErrNoSpace) {
		t.Errorf("20 blocks, where 1 MiB is to be left: %v", err)
	}
	before := l.v.Space()
	l.must(commit(data(7000, 0, 20), 0, false))
	if s := l.v.Space(); s.Free >= before.Free {
		t.Fatalf("%+v, %+v before", s, before)
	}
	gone := func(inum uint64) *Batch {
		tid++
		return &Batch{T: tid, Changes: []Change{{Inum: inum, Kind: KindInode, Delete: true}}}
	}
	l.must(commit(gone(5000), 1<<20, true)) // no snapshot has it
	l.must(l.txn(func(t *Txn) error {
		t.UseReserve()
		return t.Snapshot(bg, "DATA", "S", SnapSpec{})
	}))
	if err := commit(gone(7000), 1<<20, true); !errors.Is(err, ErrNoSpace) {
		t.Errorf("what a snapshot has is removed, where 1 MiB is to be left: %v", err)
	}
	l.must(commit(gone(7000), 1<<20, false))
	mustCheck(t, l.dev)
}
