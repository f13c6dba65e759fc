package cluster

import (
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// spare adds a device of that size which is no member yet.
func (c *testCluster) spare(size int64) (i int) {
	i = len(c.disks)
	c.disks = append(c.disks, memdev.New(size).Named(diskName(i)))
	c.fault, c.gone = append(c.fault, nil), append(c.gone, false)
	return i
}

// A device that surely cannot hold what the others have was accepted, and the copy
// begun anew each minute, to end for want of room.
func TestNewMemberTooSmall(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 2)
	small, large := c.spare(64<<20), c.spare(testVolume)
	e := c.mustStart(Options{}, 0, 1)
	untilStates(t, e, "in-sync in-sync")
	block, _, err := ondisk.EncodeData(make([]byte, ondisk.LogicalBlock), uint8(ondisk.CompNone), uint8(ondisk.CheckXXHash64))
	check(t, err)
	for i := range uint64(16) {
		b := blockFile(t, e.nextT(), 2000+i, make([]byte, 1))
		b.Changes = b.Changes[:1]
		for k := range uint64(64) {
			b.Changes = append(b.Changes, chain.Change{Inum: 2000 + i, Kind: chain.KindData, Key: k * ondisk.LogicalBlock, Block: block})
		}
		check(t, commitOn(e, c.ctx, b))
	}
	for what, err := range map[string]error{
		"replace":    e.replace(c.ctx, "b.img", c.spec(small), false),
		"replace -f": e.replace(c.ctx, "b.img", c.spec(small), true),
		"add":        e.add(c.ctx, c.spec(small), ondisk.PFSSlave, false),
	} {
		want := []string{"c.img: it has room for", "are in use on a.img: nothing was changed: give a larger device, or delete files or snapshots first"}
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want ...%s...", what, err, w)
			}
		}
	}
	c.disks[small].Reopen()
	check(t, mustBeEmpty(t.Context(), []ondisk.Device{c.disks[small]}))
	untilStates(t, e, "in-sync in-sync")
	check(t, e.replace(c.ctx, "b.img", c.spec(large), false))
	check(t, e.close(c.ctx))
}

// What other filesystems take of a member's device is not copied.
func TestNewMemberBesideOthers(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 2)
	for i := range 2 {
		c.crowd(i, 100<<20)
	}
	small := c.spare(64 << 20)
	e := c.mustStart(Options{}, 0, 1)
	untilStates(t, e, "in-sync in-sync")
	check(t, e.add(c.ctx, c.spec(small), ondisk.PFSSlave, false))
	check(t, e.close(c.ctx))
}

// What is surely copied is less than what is in use.
func TestLeastCopy(t *testing.T) {
	for _, c := range []struct {
		s    chain.Space
		want uint64
	}{
		{chain.Space{Total: 1000, Free: 200}, 700},
		{chain.Space{Total: 1000, Free: 100, Pending: 60, Lost: 40}, 700},
		{chain.Space{Total: 1000, Free: 900, Pending: 60, Lost: 400}, 0},
		{chain.Space{}, 0},
	} {
		if got := leastCopy(c.s); got != c.want {
			t.Errorf("%+v: %d, want %d", c.s, got, c.want)
		}
	}
}
