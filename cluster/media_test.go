package cluster

import (
	"context"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// media opens a member of a cluster by itself.
func (c *testCluster) media(i int) (*Media, core.Durable) {
	c.t.Helper()
	devs, err := c.spec(i).Open(c.ctx)
	check(c.t, err)
	m, err := OpenMedia(c.ctx, diskName(i), devs, "HOME", chain.Options{})
	check(c.t, err)
	d, why, err := m.Load(c.ctx)
	check(c.t, err)
	if d.Flags != 0 {
		c.t.Fatalf("%s: %v: %s", diskName(i), d.Flags, why)
	}
	return m, d
}

// A promise, whom it was given to, and a position are in the header that the
// member commits, so that no restart forgets them.
func TestMediaKeepsPromises(t *testing.T) {
	c := newTestCluster(t, 1)
	m, before := c.media(0)
	check(t, m.Perform(&core.Job{Ballot: core.Ballot{Epoch: 7, Cand: 99}}, before))
	check(t, m.Volume().Close())
	m, d := c.media(0)
	if want := (core.Ballot{Epoch: 7, Cand: 99}); d.Promised != want || d.Pos != before.Pos {
		t.Fatalf("promised %v at %v, found %v at %v", want, before.Pos, d.Promised, d.Pos)
	}
	b := file(ondisk.MakeTid(7, 1), 2000, "content")
	x := &core.Txg{Prev: d.Pos, Pos: Position{T: b.T, H: NextH(d.Pos.H, b.T, 1, Manifest(b))}, Batch: b, Acked: 6}
	check(t, m.Perform(&core.Job{Ballot: core.Ballot{Epoch: 8, Cand: 5}, Txg: x}, d))
	check(t, m.Volume().Close())
	m, d = c.media(0)
	if d.Pos != x.Pos || d.Promised != (core.Ballot{Epoch: 8, Cand: 5}) || d.Acked != 6 {
		t.Errorf("at %v with %v, acked by %b; want %v with epoch 8, by 110", d.Pos, d.Promised, d.Acked, x.Pos)
	}
	check(t, m.Perform(&core.Job{Ballot: core.Ballot{Epoch: 9, Cand: 5}}, d))
	if d, _, err := m.Load(c.ctx); err != nil || d.Acked != 6 {
		t.Errorf("after a promise acked by %b, %v", d.Acked, err)
	}
	if r := m.Target(d, d.Charter, core.Ballot{}, true).Resume; r.AckedBy != 0 {
		t.Errorf("a copy that comes to another txg says it is acked by %b", r.AckedBy)
	}
	check(t, m.Volume().Close())
}

// What did not become durable is an error, whichever request failed.
func TestMediaAnswersWhatIsDurable(t *testing.T) {
	for _, op := range []faultdev.Op{faultdev.Write, faultdev.Flush} {
		for nth := 1; nth <= 2; nth++ {
			c := newTestCluster(t, 1)
			m, d := c.media(0)
			c.fault[0].Add(faultdev.Rule{Do: faultdev.Fail, On: op, Nth: nth})
			b := file(ondisk.MakeTid(7, 1), 2000, "content")
			x := &core.Txg{Prev: d.Pos, Pos: Position{T: b.T}, Batch: b}
			if err := m.Perform(&core.Job{Ballot: core.Ballot{Epoch: 7, Cand: 1}, Txg: x}, d); err == nil {
				t.Errorf("%v %d failed, and it says that the txg is durable", op, nth)
			}
			check(t, m.Volume().Close())
		}
	}
}

// Of a node that is not to be trusted a resync relies on nothing.
func TestTaintedIsCopiedWhole(t *testing.T) {
	c := newTestCluster(t, 1)
	m, d := c.media(0)
	defer m.Volume().Close()
	if got := m.Target(d, d.Charter, core.Ballot{}, true); got.Position != d.Pos || len(got.Lineage.Epochs) == 0 {
		t.Errorf("trusted: %v, %d epochs", got.Position, len(got.Lineage.Epochs))
	}
	if got := m.Target(d, d.Charter, core.Ballot{}, false); !got.Position.IsZero() || len(got.Lineage.Epochs) != 0 {
		t.Errorf("not trusted: %v, %d epochs", got.Position, len(got.Lineage.Epochs))
	}
}

// A full member looks for what its deleted snapshots left, also where there is
// a little room: the txg that waits may need more.
func TestMediaMakesRoom(t *testing.T) {
	c := newTestCluster(t, 1)
	m, _ := c.media(0)
	v := m.Volume()
	defer v.Close()
	step := func(change func(*chain.Txn) error) {
		t.Helper()
		txn, err := v.Begin(c.ctx)
		check(t, err)
		check(t, change(txn))
		check(t, txn.Commit(c.ctx))
	}
	data := make([]byte, ondisk.LogicalBlock)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	step(func(txn *chain.Txn) error {
		return txn.Apply(c.ctx, "HOME", blockFile(t, ondisk.MakeTid(1, 1), 2000, data))
	})
	step(func(txn *chain.Txn) error { return txn.Snapshot(c.ctx, "HOME", "S", chain.SnapSpec{}) })
	gone := &chain.Batch{T: ondisk.MakeTid(1, 2), Changes: []chain.Change{{Inum: 2000, Kind: chain.KindInode, Delete: true}}}
	step(func(txn *chain.Txn) error { return txn.Apply(c.ctx, "HOME", gone) })
	step(func(txn *chain.Txn) error { return txn.DeletePFS(c.ctx, "S") })
	check(t, v.DrainFrees(c.ctx))
	before := v.Space()
	check(t, m.MakeRoom(c.ctx))
	if after := v.Space(); after.Free < before.Free+ondisk.LogicalBlock || after.Lost != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// Writers are admitted against the smallest master.
func TestEngineSpaceIsTheSmallest(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	m, _ := c.media(1)
	txn, err := m.Volume().Begin(c.ctx)
	check(t, err)
	check(t, txn.CreatePFS(c.ctx, chain.PFSSpec{Label: "OTHER"}))
	b := blockFile(t, ondisk.MakeTid(1, 1), 2000, make([]byte, 1))
	noise := make([]byte, ondisk.LogicalBlock)
	for i := range noise {
		noise[i] = byte(i * i >> 7)
	}
	block, _, err := ondisk.EncodeData(noise, 0, uint8(ondisk.CheckXXHash64))
	check(t, err)
	b.Changes = b.Changes[:1]
	for i := range uint64(100) {
		b.Changes = append(b.Changes, chain.Change{Inum: 2000, Kind: chain.KindData, Key: i * ondisk.LogicalBlock, Block: block})
	}
	check(t, txn.Apply(c.ctx, "OTHER", b))
	check(t, txn.Commit(c.ctx))
	check(t, m.Volume().Close())
	e := c.mustStart(Options{})
	untilStates(t, e, "in-sync in-sync in-sync")
	least, most := ^uint64(0), uint64(0)
	for _, r := range e.nodes() {
		least, most = min(least, r.Space.Free), max(most, r.Space.Free)
	}
	if most-least < 6<<20 {
		t.Fatalf("free are %d to %d", least, most)
	}
	if got := e.space().Free; got > least+1<<20 {
		t.Errorf("%d bytes are free for all, %d on the smallest", got, least)
	}
}

// A node that is behind is no source, however quick it answers.
func TestSourceIsInSync(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 5)
	e := c.mustStart(Options{})
	put(t, e, 2000, "all")
	until(t, e, "all in sync", func(rs []NodeReport) bool { return states(rs) == "in-sync in-sync in-sync in-sync in-sync" })
	check(t, e.close(c.ctx))
	c.gone[0], c.gone[1] = true, true
	e = c.mustStart(Options{})
	put(t, e, 2001, "three")
	check(t, e.close(c.ctx))
	c.gone[0], c.gone[1] = false, false
	e = c.mustStart(Options{})
	until(t, e, "two behind", func(rs []NodeReport) bool { return states(rs) == "resync resync in-sync in-sync in-sync" })
	var s Source
	var ok bool
	e.ask(func() { s, ok = e.source("b.img") })
	if !ok || s.Name == "a.img" || s.Position != e.committed() {
		t.Fatalf("source %q at %v, committed is %v", s.Name, s.Position, e.committed())
	}
	s.View.Release()
}

// A leaf that became another while its repair was on the way is not put back.
func TestRepairLeavesNewerAlone(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	check(t, commitOn(e, c.ctx, blockFile(t, e.nextT(), 2000, make([]byte, 4000))))
	old := e.committed()
	data := make([]byte, 8000)
	for i := range data {
		data[i] = byte(i >> 3)
	}
	check(t, commitOn(e, c.ctx, blockFile(t, e.nextT(), 2000, data)))
	untilEqual(t, e)
	v := e.views()[0]
	var ref ondisk.Blockref
	check(t, v.View.DataRefs(c.ctx, 2000, 0, 1, func(r *ondisk.Blockref) bool { ref = *r; return false }))
	v.View.Release()
	_, err := c.disks[v.Node].WriteAt([]byte("damage"), int64(ref.Off()))
	check(t, err)
	var m *member
	e.ask(func() { m = e.members[v.Node] })
	l := Leaf{Inum: 2000, Kind: ondisk.TypeData}
	stale := blockFile(t, 1, 2000, make([]byte, 4000)).Changes[1]
	stale.ModifyTid = old.T
	written, err := m.conn.rewrite(context.Background(), l, stale)
	if written || err != nil {
		t.Errorf("an older version was written over it: %v, %v", written, err)
	}
}

// What a resync commits is of the primary's epoch: no older candidate may go on
// from it.
func TestResyncRaisesPromise(t *testing.T) {
	c := newTestCluster(t, 1)
	m, d := c.media(0)
	defer m.Volume().Close()
	had := core.Ballot{Epoch: d.Promised.Epoch, Cand: d.Promised.Cand}
	for _, x := range []struct{ lead, want core.Ballot }{
		{core.Ballot{}, had},
		{core.Ballot{Epoch: had.Epoch + 3, Cand: 7}, core.Ballot{Epoch: had.Epoch + 3, Cand: 7}},
	} {
		e := m.Target(d, d.Charter, x.lead, true).Resume
		if got := (core.Ballot{Epoch: e.PromisedEpoch, Cand: e.Candidate}); got != x.want {
			t.Errorf("led by %v it promises %v, want %v", x.lead, got, x.want)
		}
	}
}
