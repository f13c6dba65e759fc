package cluster

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// blockFile is a batch that makes a file with one block of data.
func blockFile(t *testing.T, T ondisk.Tid, inum uint64, data []byte) *chain.Batch {
	t.Helper()
	meta := ondisk.NewInodeMeta(inum, ondisk.ObjFile)
	meta.Nlinks, meta.Size = 1, uint64(len(data))
	meta.CheckAlgo = uint8(ondisk.CheckXXHash64)
	block, _, err := ondisk.EncodeData(data, meta.CompAlgo, meta.CheckAlgo)
	check(t, err)
	return &chain.Batch{T: T, Changes: []chain.Change{
		{Inum: inum, Kind: chain.KindInode, Inode: &meta},
		{Inum: inum, Kind: chain.KindData, Block: block},
	}}
}

// startWithBlock starts three members that have a file with a block, inode 2000.
func startWithBlock(t *testing.T) (c *testCluster, e *engine, data []byte) {
	t.Helper()
	c = newTestCluster(t, 3)
	e = c.mustStart(Options{})
	data = bytes.Repeat([]byte("abcdefgh"), 2000)
	check(t, commitOn(e, c.ctx, blockFile(t, e.nextT(), 2000, data)))
	untilEqual(t, e)
	return c, e, data
}

// threeViews are those of all members: what one has made durable it shows a moment later.
func threeViews(t *testing.T, e *engine) (views []nodeView) {
	t.Helper()
	until(t, e, "three views", func([]NodeReport) bool {
		if views = e.views(); len(views) == 3 {
			return true
		}
		for i := range views {
			views[i].View.Release()
		}
		return false
	})
	return views
}

// change edits a member's PFS behind the cluster's back, as another system
// would: the state entry does not follow.
func (c *testCluster) change(i int, inum uint64, content string) {
	c.t.Helper()
	d := c.disks[i]
	d.Reopen()
	v, err := chain.Open(c.ctx, []ondisk.Device{d}, chain.Options{})
	check(c.t, err)
	view, err := v.View(c.ctx, "HOME")
	check(c.t, err)
	T := view.T() + 5
	view.Release()
	txn, err := v.Begin(c.ctx)
	check(c.t, err)
	check(c.t, txn.Apply(c.ctx, "HOME", file(T, inum, content)))
	check(c.t, txn.Commit(c.ctx))
	check(c.t, v.Close())
}

func TestEngineForeignChange(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	put(t, e, 2000, "ours")
	untilEqual(t, e)
	check(t, e.close(c.ctx))
	c.change(1, 2000, "theirs")

	e = c.mustStart(Options{})
	untilStates(t, e, "in-sync foreign in-sync")
	if got := get(t, e, 2000); !slices.Equal(got, []string{"ours", "ours"}) {
		t.Fatal(got)
	}
	if r := e.nodes()[1]; !strings.Contains(r.Err, "another system") || !strings.Contains(r.Remedy, "discard") {
		t.Errorf("%+v", r)
	}
	if _, _, err := e.acquireTarget("b.img"); err == nil {
		t.Error("a resync may overwrite it unasked")
	}
	check(t, e.discard(c.ctx, "b.img"))
	untilStates(t, e, "in-sync tainted in-sync")
	check(t, e.catchUp(c.ctx, "b.img"))
	put(t, e, 2001, "next")
	untilEqual(t, e)
	if got := get(t, e, 2000); !slices.Equal(got, []string{"ours", "ours", "ours"}) {
		t.Fatal(got)
	}
}

// A member that was put back to an image of before is found out by what the
// others know it to have acknowledged.
func TestEngineRestoredImage(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	put(t, e, 2000, "old")
	untilEqual(t, e)
	check(t, e.close(c.ctx))
	image := c.disks[2].Clone()
	for i := range 2 { // the next mount's barrier records what was acknowledged
		e = c.mustStart(Options{})
		put(t, e, uint64(2001+i), "new")
		untilEqual(t, e)
		check(t, e.close(c.ctx))
	}
	c.disks[2] = image
	e = c.mustStart(Options{})
	untilStates(t, e, "in-sync in-sync tainted")
	if got := e.resyncWanted(); !slices.Equal(got, []string{"c.img"}) {
		t.Fatal(got)
	}
	check(t, e.catchUp(c.ctx, "c.img"))
	put(t, e, 2010, "after")
	untilEqual(t, e)
	if got := get(t, e, 2001); !slices.Equal(got, []string{"new", "new", "new"}) {
		t.Fatal(got)
	}
	check(t, e.close(c.ctx))
	e = c.mustStart(Options{}, 0, 2)
	if got := get(t, e, 2002); !slices.Equal(got, []string{"new", "new"}) {
		t.Fatal(got)
	}
}

func TestEngineRepairsData(t *testing.T) {
	t.Parallel()
	c, e, data := startWithBlock(t)
	views := threeViews(t, e)
	bad := views[0]
	var ref ondisk.Blockref
	check(t, bad.View.DataRefs(c.ctx, 2000, 0, 1, func(r *ondisk.Blockref) bool { ref = *r; return false }))
	_, err := c.disks[bad.Node].WriteAt([]byte("damage"), int64(ref.Off()))
	check(t, err)
	buf := make([]byte, len(data))
	err = bad.View.ReadData(c.ctx, 2000, 0, buf)
	if err == nil {
		t.Fatal("the damage is not seen")
	}
	var where *chain.NodeError
	if !errors.As(err, &where) {
		t.Fatal(err)
	}
	e.reportRead(bad.Node, 0, err, where)
	for _, v := range views {
		v.View.Release()
	}
	until(t, e, "repair", func(rs []NodeReport) bool { return rs[bad.Node].Repaired == 1 })
	for _, v := range e.views() {
		check(t, v.View.ReadData(c.ctx, 2000, 0, buf))
		if !bytes.Equal(buf, data) {
			t.Error("other data")
		}
		if want := e.committed().T; v.View.T() != want {
			t.Errorf("%s is at %v, want %v", v.Name, v.View.T(), want)
		}
		v.View.Release()
	}
	put(t, e, 2001, "goes on")
	untilEqual(t, e)
}

// A leaf that takes another place, since its own cannot be mended, leaves the
// tree where the cluster has it.
func TestEngineRewriteKeepsTheNumber(t *testing.T) {
	t.Parallel()
	c, e, _ := startWithBlock(t)
	conn, l := e.attached()[0].conn, Leaf{Inum: 2000, Kind: ondisk.TypeData}
	view, err := conn.vol.View(c.ctx, conn.label)
	check(t, err)
	change, found, err := l.Fetch(c.ctx, view)
	view.Release()
	if err != nil || !found {
		t.Fatal(found, err)
	}
	written, err := conn.Replace(c.ctx, change, func(*chain.View) (bool, error) { return true, nil })
	if err != nil || !written {
		t.Fatal(written, err)
	}
	view, err = conn.vol.View(c.ctx, conn.label)
	check(t, err)
	defer view.Release()
	if want := e.committed().T; view.T() != want {
		t.Errorf("the tree is at %v, the cluster at %v", view.T(), want)
	}
}

// Whoever shows what the engine has is told of a copy that was overwritten.
func TestEngineOverwriteTells(t *testing.T) {
	t.Parallel()
	c, e, _ := startWithBlock(t)
	v := e.attached()[0]
	change := blockFile(t, e.committed().T, 2000, bytes.Repeat([]byte("ABCDEFGH"), 2000)).Changes[1]
	told := e.changed()
	check(t, e.overwrite(c.ctx, v.report.Name, "another", change, func(*chain.View) (bool, error) { return true, nil }))
	select {
	case <-told:
	default:
		t.Error("nobody was told")
	}
}

// Every request of a member fails once, wherever it is in a commit: the mount
// goes on, the member comes back, and all three end equal.
func TestEngineFaultsEverywhere(t *testing.T) {
	t.Parallel()
	for _, op := range []faultdev.Op{faultdev.Write, faultdev.Flush} {
		for nth := 1; nth <= 4; nth++ {
			c := newTestCluster(t, 3)
			e := c.mustStart(Options{})
			untilEqual(t, e)
			c.fault[nth%3].Add(faultdev.Rule{Do: faultdev.Fail, On: op, Nth: nth})
			for i := range 3 {
				put(t, e, uint64(2000+i), "content")
			}
			untilEqual(t, e)
			if got := get(t, e, 2002); len(got) != 3 {
				t.Errorf("%v %d: %v", op, nth, got)
			}
			check(t, e.close(context.Background()))
		}
	}
}

func TestEngineHold(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	put(t, e, 2000, "before")
	at := e.committed()
	release := make(chan struct{})
	held := make(chan Position, 1)
	go e.hold(c.ctx, time.Second, func(p Position) error { held <- p; <-release; return nil })
	if got := <-held; got != at {
		t.Fatalf("held at %v, committed is %v", got, at)
	}
	done := make(chan error, 1)
	go func() { done <- commitOn(e, c.ctx, file(e.nextT(), 2001, "after")) }()
	select {
	case <-done:
		t.Fatal("a txg was committed meanwhile")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	check(t, <-done)
	if bs, ok := e.retained(at); !ok || len(bs) != 1 {
		t.Errorf("retained: %d, %v", len(bs), ok)
	}
}

// Symptom: with one member a txg ahead, another dead and the third back after
// a long time nothing was ever committed again: the third waited for a source
// at the committed txg, and the txg ahead of it for the third.
func TestEngineCopiesFromMemberAhead(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.gone[2] = true
	e := c.mustStart(Options{Memory: 8}) // a window of nothing
	put(t, e, 2000, "while it is away")
	put(t, e, 2001, "likewise")
	c.gone[1] = true // it is not opened again
	c.fault[1].Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Flush, Times: faultdev.Always})
	done := make(chan error, 1)
	b := file(e.nextT(), 2002, "on one member only")
	go func() { done <- commitOn(e, c.ctx, b) }()
	until(t, e, "no quorum", func(rs []NodeReport) bool { return rs[0].Position.T == b.T && rs[1].State == NodeFailed })
	c.gone[2] = false
	check(t, e.online(c.ctx, "c.img"))
	until(t, e, "the third member", func(rs []NodeReport) bool { return rs[2].State == NodeResync })
	check(t, e.catchUp(c.ctx, "c.img"))
	check(t, <-done)
}

// Symptom: a block that was bad on two of three members was repaired on neither:
// each was sent to the other, because it answered quickest.
func TestEngineRepairsFromWhoHasItRight(t *testing.T) {
	t.Parallel()
	c, e, data := startWithBlock(t)
	views := threeViews(t, e)
	for _, v := range views[:2] {
		var ref ondisk.Blockref
		check(t, v.View.DataRefs(c.ctx, 2000, 0, 1, func(r *ondisk.Blockref) bool { ref = *r; return false }))
		_, err := c.disks[v.Node].WriteAt([]byte("damage"), int64(ref.Off()))
		check(t, err)
	}
	for _, m := range e.members {
		m.latency.Store(1) // the damaged ones answer quickest
	}
	e.members[views[2].Node].latency.Store(1000)
	buf := make([]byte, len(data))
	for _, v := range views[:2] {
		err := v.View.ReadData(c.ctx, 2000, 0, buf)
		var where *chain.NodeError
		if !errors.As(err, &where) {
			t.Fatal(err)
		}
		e.reportRead(v.Node, 0, err, where)
	}
	bad := []int{views[0].Node, views[1].Node}
	for _, v := range views {
		v.View.Release()
	}
	until(t, e, "repair", func(rs []NodeReport) bool { return rs[bad[0]].Repaired == 1 && rs[bad[1]].Repaired == 1 })
	for _, v := range e.views() {
		check(t, v.View.ReadData(c.ctx, 2000, 0, buf))
		if !bytes.Equal(buf, data) {
			t.Error("other data")
		}
		v.View.Release()
	}
}

// Symptom: a table was called repaired when the copy that was to mend it had only
// been ordered, also where that copy then failed.
func TestEngineCondemnedIsNotRepaired(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	put(t, e, 2000, "one")
	untilEqual(t, e)
	err := e.repair(c.ctx, damage{m: e.members[1], Leaf: Leaf{Inum: 2000, Kind: ondisk.TypeIndirect}})
	if !errors.Is(err, ErrNotInSync) {
		t.Errorf("%v, want %v", err, ErrNotInSync)
	}
}
