package cluster

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// One member with damaged numbers in its cluster state stalled all three:
// nobody promises an epoch so far ahead, and it promises no other.
func TestWildPromise(t *testing.T) {
	for _, epoch := range []uint32{1 << 30, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		c := newTestCluster(t, 3)
		c.disks[2].Reopen()
		v, err := chain.Open(c.ctx, []ondisk.Device{c.disks[2]}, chain.Options{})
		check(t, err)
		txn, err := v.Begin(c.ctx)
		check(t, err)
		e := v.Header().States[0]
		e.PromisedEpoch = epoch
		check(t, txn.SetState(e))
		check(t, txn.Commit(c.ctx))
		check(t, v.Close())
		p := c.openPool(Options{})
		check(t, p.Sync(c.ctx))
		for _, n := range p.Status().Nodes {
			if n.Name == diskName(2) && n.State != NodeTainted && n.State != NodeResync && n.State != NodeInSync {
				t.Errorf("epoch %d: %+v", epoch, n)
			}
		}
		check(t, p.Close(c.ctx))
	}
}

func TestWild(t *testing.T) {
	law := &Charter{Lineage: *(*Lineage)(nil).WithEpoch(3, Position{})}
	for _, x := range []struct {
		promised uint32
		t        ondisk.Tid
		wild     bool
	}{
		{3, ondisk.MakeTid(3, 9), false},
		{2 + core.MaxEpochJump, ondisk.MakeTid(3, 9), false},
		{3 + core.MaxEpochJump, ondisk.MakeTid(3, 9), true},
		{1 << 20, 0, false}, // made by replace
		{1<<32 - 1, 0, true},
		{3, 1 << 63, true},
		{3, ondisk.MakeTid(1<<31-1, 0), true},
		{3, ondisk.MakeTid(1<<30, 0), true},
	} {
		if got := wild(&ondisk.StateEntry{PromisedEpoch: x.promised, T: x.t}, law); (got != "") != x.wild {
			t.Errorf("promised %d at %v: %q", x.promised, x.t, got)
		}
	}
}

// A PFS whose numbers are used up is not opened for writing: the next ones
// would be those of attributes, and then none that a batch may have.
func TestNumbersUsedUp(t *testing.T) {
	c := newTestCluster(t, 1)
	c.disks[0].Reopen()
	v, err := chain.Open(c.ctx, []ondisk.Device{c.disks[0]}, chain.Options{})
	check(t, err)
	txn, err := v.Begin(c.ctx)
	check(t, err)
	check(t, txn.SetPFS(c.ctx, "HOME", func(m *ondisk.InodeMeta) { m.PFSInum = ^uint64(0) - 1 }))
	check(t, txn.Commit(c.ctx))
	check(t, v.Close())
	o := Options{Label: "HOME"}
	if _, err := OpenPool(c.ctx, []MemberSpec{c.spec(0)}, o); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("opened: %v", err)
	}
	o.ReadOnly = true
	p, err := OpenPool(c.ctx, []MemberSpec{c.spec(0)}, o)
	check(t, err)
	check(t, p.Close(c.ctx))
}
