package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// convert makes the filesystem on the first device a cluster.
func (c *testCluster) convert(label string) (chain.PFSInfo, error) {
	c.disks[0].Reopen()
	v, err := chain.Open(c.ctx, []ondisk.Device{c.disks[0]}, chain.Options{})
	check(c.t, err)
	info, err := Convert(c.ctx, v, label)
	check(c.t, v.Close())
	return info, err
}

// plainCluster has a filesystem of one copy on the first device, others are
// empty.
func plainCluster(t *testing.T, more int) *testCluster {
	c := &testCluster{t: t, ctx: t.Context(), fault: make([]*faultdev.Device, 1+more), gone: make([]bool, 1+more)}
	for i := range 1 + more {
		c.disks = append(c.disks, memdev.New(testVolume).Named(diskName(i)))
	}
	_, err := chain.Format(c.ctx, []ondisk.Device{c.disks[0]}, chain.FormatOptions{Labels: []chain.PFSSpec{{Label: "HOME", Type: ondisk.PFSMaster}}})
	check(t, err)
	return c
}

// TestConvert: what a filesystem of one copy has, in its intent log too, is there
// when it is a cluster, and others can join.
func TestConvert(t *testing.T) {
	t.Parallel()
	c := plainCluster(t, 2)
	e := c.mustStart(Options{}, 0)
	put(t, e, 2000, "in the tree")
	b := file(e.nextT(), 2001, "in the log")
	b.Log = true
	check(t, commitOn(e, c.ctx, b))
	if err := e.add(c.ctx, c.spec(1), ondisk.PFSMaster, false); !errors.Is(err, errNotClustered) {
		t.Fatal(err)
	}
	for _, n := range e.volumes() {
		if n.Vol.Logged() != 1 {
			t.Fatal("nothing is in the log")
		}
	}
	image := c.disks[0].Clone() // the power fails: the log stays
	check(t, e.close(c.ctx))
	c.disks[0] = image
	was := c.pfs(0)
	info, err := c.convert("")
	check(t, err)
	if info.Label != "HOME" {
		t.Fatal(info.Label)
	}
	now := c.pfs(0)
	if now.Clid != was.Clid || now.Fsid != was.Fsid {
		t.Fatalf("%v %v was %v %v", now.Clid, now.Fsid, was.Clid, was.Fsid)
	}
	if _, err := c.convert("HOME"); !errors.Is(err, ErrClustered) {
		t.Fatal(err)
	}
	if _, err := c.convert("LOCAL"); err == nil || !strings.Contains(err.Error(), "LOCAL is no filesystem of one copy, but what each volume has for itself") {
		t.Fatal(err)
	}
	e = c.mustStart(Options{}, 0)
	put(t, e, 2002, "of the cluster")
	for i := 1; i < 3; i++ {
		check(t, e.add(c.ctx, c.spec(i), ondisk.PFSMaster, false))
		check(t, e.catchUp(c.ctx, diskName(i)))
		until(t, e, "promotion", func(rs []NodeReport) bool {
			return len(rs) == i+1 && rs[i].State == NodeInSync && rs[i].Role == ondisk.PFSMaster && rs[i].Replaces.IsZero()
		})
	}
	check(t, e.close(c.ctx))
	e = c.mustStart(Options{}, 1, 2) // without the one that was converted
	for inum, want := range map[uint64]string{2000: "in the tree", 2001: "in the log", 2002: "of the cluster"} {
		if got := get(t, e, inum); len(got) != 2 || got[0] != want || got[1] != want {
			t.Errorf("%d: %q", inum, got)
		}
	}
	check(t, e.close(c.ctx))
}

// pfs is HOME as it is on a disk.
func (c *testCluster) pfs(disk int) chain.PFSInfo {
	c.disks[disk].Reopen()
	v, err := chain.Open(c.ctx, []ondisk.Device{c.disks[disk]}, chain.Options{ReadOnly: true})
	check(c.t, err)
	defer v.Close()
	info, err := findPFS(c.ctx, v, "HOME")
	check(c.t, err)
	return info
}

// TestConvertSnapshots: snapshots of a filesystem of one copy are copied to those
// that join.
func TestConvertSnapshots(t *testing.T) {
	t.Parallel()
	c := plainCluster(t, 1)
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	open := func() *Pool {
		p, err := OpenPool(ctx, []MemberSpec{c.spec(0)}, Options{Label: "HOME"})
		check(t, err)
		return p
	}
	p := open()
	_, err := p.SnapshotCreate(ctx, "before", false)
	check(t, err)
	check(t, p.Close(ctx))
	if _, err := c.convert("before"); err == nil || !strings.Contains(err.Error(), "is no filesystem of one copy, but a snapshot") {
		t.Fatal(err)
	}
	_, err = c.convert("HOME")
	check(t, err)
	p = open()
	defer p.Close(ctx)
	list, err := p.Snapshots(ctx, false)
	check(t, err)
	if len(list) != 1 || list[0].Name != "before" || len(list[0].Missing) != 0 {
		t.Fatalf("%+v", list)
	}
}
