package cluster

import (
	"errors"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// hurt gives a member one more PFS, and damages the root of that, or of another.
func (c *testCluster) hurt(i int, label string) {
	c.t.Helper()
	m, _ := c.media(i)
	txn, err := m.Volume().Begin(c.ctx)
	check(c.t, err)
	check(c.t, txn.CreatePFS(c.ctx, chain.PFSSpec{Label: "OTHER"}))
	check(c.t, txn.Commit(c.ctx))
	view, err := m.Volume().View(c.ctx, label)
	check(c.t, err)
	root := view.Root()
	view.Release()
	check(c.t, m.Volume().Close())
	c.disks[i].Reopen()
	_, err = c.disks[i].WriteAt([]byte("damage"), int64(root.Off()))
	check(c.t, err)
}

// othersWrote takes our mark out of the header of a member, as who wrote it last and
// was not us.
func (c *testCluster) othersWrote(i int) {
	c.t.Helper()
	c.disks[i].Reopen()
	b := make([]byte, ondisk.MaxBlock)
	_, err := c.disks[i].ReadAt(b, 0)
	check(c.t, err)
	hdr, err := ondisk.DecodeVolumeHeader(b)
	check(c.t, err)
	hdr.Mark = ondisk.Mark{}
	hdr.Encode(b)
	for _, off := range []int64{0, 0x3f0000} {
		_, err = c.disks[i].WriteAt(b, off)
		check(c.t, err)
	}
}

// A member of which the root of another PFS cannot be read was refused whole, and two
// such members, with intact copies, kept the filesystem from being mounted.
func TestRootOfAnotherPFSIsDamaged(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.hurt(1, "OTHER")
	c.hurt(2, "OTHER")
	e := c.mustStart(Options{})
	put(t, e, 2000, "served")
	untilEqual(t, e)
	check(t, e.close(c.ctx))
	for i := range 3 {
		devs, err := c.spec(i).Open(c.ctx)
		check(t, err)
		list, err := Survey(c.ctx, devs)
		if damaged := errors.Is(err, ondisk.ErrCorrupt); len(list) != 1 || list[0].Why != "" || list[0].Label != "HOME" || damaged != (i > 0) {
			t.Errorf("%s: found %+v, %v", diskName(i), list, err)
		}
	}
	if _, err := c.start(Options{Label: "OTHER"}, 1); !errors.Is(err, ErrNoQuorum) {
		t.Errorf("what cannot be read was opened (%v)", err)
	}
}

// Where the freemap was kept by others, and the root of a PFS cannot be read, nothing
// is written: what is below that root may be free, by the freemap.
func TestNothingIsWrittenByAGuess(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.hurt(1, "OTHER")
	c.othersWrote(0)
	c.othersWrote(1)
	e := c.mustStart(Options{})
	put(t, e, 2000, "served")
	untilStates(t, e, "in-sync failed in-sync")
	if r := e.nodes()[1]; !strings.Contains(r.Err, "what is free on it is not known") {
		t.Errorf("it says %q", r.Err)
	}
	check(t, e.close(c.ctx))
	e = c.mustStart(Options{ReadOnly: true})
	untilStates(t, e, "readonly behind readonly")
}

// A member that could not be used was shown twice, by its name and as missing by its
// id, and the command to replace it, as the status gave it, did not know who it was.
func TestUnusedMemberIsKnown(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.disks = append(c.disks, memdev.New(testVolume).Named("d.img"))
	c.fault, c.gone = append(c.fault, nil), append(c.gone, false)
	c.hurt(1, "HOME")
	if _, err := c.start(Options{}, 0, 1); err == nil || strings.Count(err.Error(), "with fsid") != 1 {
		t.Errorf("without a majority: %v", err)
	}
	e := c.mustStart(Options{}, 0, 1, 2)
	untilStates(t, e, "in-sync failed in-sync")
	if r := e.nodes()[1]; r.Role != ondisk.PFSMaster {
		t.Errorf("it is said to be a %v", r.Role)
	}
	check(t, e.replace(c.ctx, "b.img", c.spec(3), false))
	check(t, e.catchUp(c.ctx, "d.img"))
	until(t, e, "promotion", func(rs []NodeReport) bool {
		return len(rs) == 4 && rs[1].Role == ondisk.PFSNone && rs[1].State == NodeOffline && rs[3].Role == ondisk.PFSMaster
	})
}
