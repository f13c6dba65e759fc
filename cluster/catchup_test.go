package cluster

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A copy that an election waits for finds room that a crash or deleted
// snapshots left allocated: nobody could free it otherwise, since nothing is
// served before the copy is made.
func TestCatchUpMakesRoom(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 2)
	source, _ := c.media(0)
	defer source.Volume().Close()
	target, d := c.media(1)
	v := target.Volume()
	defer v.Close()
	step := func(v *chain.Volume, change func(*chain.Txn) error) error {
		t.Helper()
		txn, err := v.Begin(c.ctx)
		check(t, err)
		txn.UseReserve()
		if err := change(txn); err != nil {
			txn.Abort()
			return err
		}
		return txn.Commit(c.ctx)
	}
	data := make([]byte, ondisk.LogicalBlock)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	// blocks is a file of n blocks.
	blocks := func(T ondisk.Tid, inum uint64, n int) *chain.Batch {
		b := blockFile(t, T, inum, data)
		for key := uint64(1); key < uint64(n); key++ {
			b.Changes = append(b.Changes, chain.Change{Inum: inum, Kind: chain.KindData, Key: key * ondisk.LogicalBlock, Block: b.Changes[1].Block})
		}
		return b
	}
	check(t, step(source.Volume(), func(txn *chain.Txn) error { return txn.Apply(c.ctx, "HOME", blocks(ondisk.MakeTid(1, 1), 2000, 100)) }))

	check(t, step(v, func(txn *chain.Txn) error { return txn.CreatePFS(c.ctx, chain.PFSSpec{Label: "OTHER"}) }))
	for T, n := ondisk.MakeTid(1, 1), 512; n > 0; T++ { // until there is no room for one more
		if err := step(v, func(txn *chain.Txn) error { return txn.Apply(c.ctx, "OTHER", blocks(T, uint64(T), n)) }); errors.Is(err, chain.ErrNoSpace) {
			n /= 2
		} else {
			check(t, err)
		}
	}
	check(t, step(v, func(txn *chain.Txn) error { return txn.Snapshot(c.ctx, "OTHER", "S", chain.SnapSpec{}) }))
	gone := &chain.Batch{T: ondisk.MakeTid(2, 0), Changes: []chain.Change{{Inum: uint64(ondisk.MakeTid(1, 1)), Kind: chain.KindInode, Delete: true}}}
	check(t, step(v, func(txn *chain.Txn) error { return txn.Apply(c.ctx, "OTHER", gone) }))
	check(t, step(v, func(txn *chain.Txn) error { return txn.DeletePFS(c.ctx, "S") }))

	view, err := source.Volume().View(c.ctx, "HOME")
	check(t, err)
	defer view.Release()
	pos := Position{T: ondisk.MakeTid(1, 1), H: History{1}}
	if _, err := CatchUp(c.ctx, target.Target(d, d.Charter, core.Ballot{}, true), Source{Name: "a", View: view, Position: pos, Lineage: d.Charter.Lineage}); err != nil {
		t.Fatalf("%v, %+v", err, v.Space())
	}
	check(t, target.Mended(pos))
}
