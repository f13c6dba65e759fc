package cluster

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

func TestEngineCommits(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	untilStates(t, e, "in-sync in-sync in-sync")
	for i := range 20 {
		put(t, e, uint64(2000+i), fmt.Sprint("content ", i))
	}
	untilEqual(t, e)
	until(t, e, "three to read from", func([]NodeReport) bool { return len(get(t, e, 2019)) == 3 }) // what is durable is not shown at once
	if got := get(t, e, 2019); !slices.Equal(got, []string{"content 19", "content 19", "content 19"}) {
		t.Fatal(got)
	}
	at := e.committed()
	check(t, e.close(c.ctx))

	e = c.mustStart(Options{})
	if now := e.committed(); now.T.Epoch() != at.T.Epoch()+1 || now.T.Seq() != 0 {
		t.Fatalf("after %v the next mount is at %v", at, now)
	}
	if got := get(t, e, 2019); len(got) < 2 || got[0] != "content 19" {
		t.Fatal(got)
	}
}

func TestEngineGoesOnWithQuorum(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	untilStates(t, e, "in-sync in-sync in-sync")
	put(t, e, 2000, "before")
	c.fault[1].Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Flush})
	put(t, e, 2001, "while it fails")
	put(t, e, 2002, "after")
	// It is reopened after a second and fed from the window.
	untilEqual(t, e)
	if got := get(t, e, 2002); !slices.Equal(got, []string{"after", "after", "after"}) {
		t.Fatal(got)
	}
}

func TestEngineOfflineOnline(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	untilStates(t, e, "in-sync in-sync in-sync")
	check(t, e.offline(c.ctx, "c.img"))
	untilStates(t, e, "in-sync in-sync offline")
	put(t, e, 2000, "two of three")
	if err := e.offline(c.ctx, "b.img"); err == nil {
		t.Fatal("the quorum can be taken away")
	}
	check(t, e.online(c.ctx, "c.img"))
	untilEqual(t, e)
	if got := get(t, e, 2000); len(got) != 3 {
		t.Fatal(got)
	}
}

// One member was away for a whole mount: its tail is in an older epoch than
// the window knows, and package sync has to copy.
func TestEngineWantsResync(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	untilStates(t, e, "in-sync in-sync in-sync")
	put(t, e, 2000, "all")
	untilStates(t, e, "in-sync in-sync in-sync")
	check(t, e.close(c.ctx))
	c.gone[2] = true
	e = c.mustStart(Options{})
	put(t, e, 2001, "two")
	check(t, e.close(c.ctx))
	c.gone[2] = false
	e = c.mustStart(Options{})
	untilStates(t, e, "in-sync in-sync resync")
	if got := e.resyncWanted(); !slices.Equal(got, []string{"c.img"}) {
		t.Fatal(got)
	}
	check(t, e.catchUp(c.ctx, "c.img"))
	put(t, e, 2002, "all again")
	untilEqual(t, e)
	if got := get(t, e, 2001); !slices.Equal(got, []string{"two", "two", "two"}) {
		t.Fatal(got)
	}
}

// (7, 9, silent): what one member holds may have been acknowledged.
func TestEngineAdoptsWhatMayBeCommitted(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	untilStates(t, e, "in-sync in-sync in-sync")
	check(t, e.offline(c.ctx, "a.img"))
	put(t, e, 2000, "on b and c")
	check(t, e.close(c.ctx))
	c.gone[2] = true
	e = c.mustStart(Options{})
	for _, s := range get(t, e, 2000) {
		if s != "on b and c" {
			t.Fatalf("a shows %q", s)
		}
	}
	until(t, e, "both", func(rs []NodeReport) bool { return rs[0].State == NodeInSync && rs[1].State == NodeInSync })
}

func TestEngineNoQuorum(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.gone[1], c.gone[2] = true, true
	_, err := c.start(Options{})
	if err == nil || !strings.Contains(err.Error(), "1 of 3 masters answered, 2 needed") || !strings.Contains(err.Error(), "b.img") {
		t.Fatal(err)
	}
	e := c.mustStart(Options{ReadOnly: true})
	if len(get(t, e, 2000)) != 1 {
		t.Fatal("nothing to read")
	}
	check(t, e.close(c.ctx))
}

func TestEngineLosesQuorum(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{OnNoQuorum: EIO})
	untilStates(t, e, "in-sync in-sync in-sync")
	c.gone[1], c.gone[2] = true, true
	c.fault[1].Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Write, Times: faultdev.Always})
	c.fault[2].Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Write, Times: faultdev.Always})
	b := file(e.nextT(), 2000, "hangs")
	if err := commitOn(e, c.ctx, b); err != ErrNoQuorum {
		t.Fatal(err)
	}
	c.gone[1] = false
	until(t, e, "quorum", func([]NodeReport) bool { return e.hasQuorum() })
	check(t, commitOn(e, c.ctx, b))
	if got := get(t, e, 2000); len(got) == 0 || got[0] != "hangs" {
		t.Fatal(got)
	}
}

func TestEngineHungMember(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{Deadline: 2 * time.Second})
	untilStates(t, e, "in-sync in-sync in-sync")
	hung := c.fault[0]
	hung.Add(faultdev.Rule{Do: faultdev.Hang, On: faultdev.Flush})
	put(t, e, 2000, "without a")
	untilStates(t, e, "hung in-sync in-sync")
	put(t, e, 2001, "still")
	hung.Release()
	untilEqual(t, e)
}

func TestEngineRefuses(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	d := newTestCluster(t, 2)
	c.disks = append(c.disks, c.disks[0].Clone(), d.disks[0])
	c.fault, c.gone = make([]*faultdev.Device, 5), make([]bool, 5)
	for _, x := range []struct {
		members []int
		o       Options
		want    string
	}{
		{[]int{0, 1, 3}, Options{}, "in the same state: leave one of them out"},
		{[]int{0, 1, 4}, Options{}, "Leave e.img out of the mount"},
		{[]int{4, 0, 1}, Options{}, "Leave e.img out of the mount"},
		{[]int{0, 4}, Options{}, "Mount those of one of them only"},
		{[]int{0, 1, 2}, Options{Label: "WORK"}, "HOME"},
	} {
		_, err := c.start(x.o, x.members...)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v: %v, want %q", x.members, err, x.want)
		}
	}
}

// A copy of a member's image that was kept, beside the member that went on.
func TestEngineNamesTheOldTwin(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.disks = append(c.disks, c.disks[0].Clone())
	c.fault, c.gone = make([]*faultdev.Device, 4), make([]bool, 4)
	e := c.mustStart(Options{}, 0, 1, 2)
	put(t, e, 2000, "later")
	untilEqual(t, e)
	check(t, e.close(c.ctx))
	for _, members := range [][]int{{0, 1, 3}, {3, 1, 0}} {
		_, err := c.start(Options{}, members...)
		if err == nil || !strings.Contains(err.Error(), ": d.img is the old one, at 1:0") || !strings.Contains(err.Error(), ": leave d.img out") {
			t.Errorf("%v: %v", members, err)
		}
	}
}

func TestEngineSolo(t *testing.T) {
	t.Parallel()
	c := &testCluster{t: t, ctx: t.Context(), fault: make([]*faultdev.Device, 1), gone: make([]bool, 1)}
	c.disks = []*memdev.Device{memdev.New(testVolume)}
	_, err := chain.Format(c.ctx, []ondisk.Device{c.disks[0]}, chain.FormatOptions{Labels: []chain.PFSSpec{{Label: "HOME", Type: ondisk.PFSMaster}}})
	check(t, err)
	for i := range 3 {
		e := c.mustStart(Options{})
		put(t, e, uint64(2000+i), "solo")
		for _, v := range e.views() {
			if in, _, _ := v.View.Inode(c.ctx, CharterInum); in != nil {
				t.Fatal("a charter was written")
			}
			v.View.Release()
		}
		if n := len(get(t, e, 2000)); n != 1 {
			t.Fatal(n)
		}
		// The only copy fails and comes back: the commit waits for it.
		c.fault[0].Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Flush, Nth: 1 + i%2})
		put(t, e, uint64(2010+i), "again")
		if got := get(t, e, uint64(2010+i)); len(got) != 1 || got[0] != "again" {
			t.Fatal(got)
		}
		check(t, e.close(c.ctx))
	}
}

func TestEngineReplace(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.disks = append(c.disks, memdev.New(testVolume).Named("d.img"))
	c.fault, c.gone = append(c.fault, nil), append(c.gone, false)
	e := c.mustStart(Options{}, 0, 1, 2)
	untilStates(t, e, "in-sync in-sync in-sync")
	put(t, e, 2000, "old data")
	check(t, e.offline(c.ctx, "b.img"))
	check(t, e.replace(c.ctx, "b.img", c.spec(3), false))
	untilStates(t, e, "in-sync offline in-sync resync")
	put(t, e, 2001, "meanwhile")
	check(t, e.catchUp(c.ctx, "d.img"))
	until(t, e, "promotion", func(rs []NodeReport) bool {
		return rs[3].State == NodeInSync && rs[3].Role == ondisk.PFSMaster && rs[3].Replaces.IsZero()
	})
	put(t, e, 2002, "new member")
	check(t, e.close(c.ctx))
	e = c.mustStart(Options{}, 2, 3)
	if got := get(t, e, 2000); len(got) != 2 || got[0] != "old data" || got[1] != "old data" {
		t.Fatal(got)
	}
	if _, err := c.start(Options{}, 1); err == nil {
		t.Fatal("the old member is a cluster of its own")
	}
}

// A device that turns out too small for the place it was to take is replaced by a
// larger one, which then has to take that place: it stayed a slave.
func TestEngineReplaceOnTheWay(t *testing.T) {
	t.Parallel()
	for _, begin := range []func(*testCluster, *engine) error{
		func(c *testCluster, e *engine) error { return e.replace(c.ctx, "b.img", c.spec(3), false) },
		func(c *testCluster, e *engine) error { return e.add(c.ctx, c.spec(3), ondisk.PFSMaster, false) },
	} {
		c := newTestCluster(t, 3)
		for i := 3; i < 5; i++ {
			c.disks = append(c.disks, memdev.New(testVolume).Named(diskName(i)))
			c.fault, c.gone = append(c.fault, nil), append(c.gone, false)
		}
		e := c.mustStart(Options{}, 0, 1, 2)
		untilStates(t, e, "in-sync in-sync in-sync")
		masters := 3
		check(t, begin(c, e))
		untilStates(t, e, "in-sync in-sync in-sync resync")
		if e.nodes()[3].Replaces == e.nodes()[3].Fsid {
			masters++ // it is one more
		}
		check(t, e.replace(c.ctx, "d.img", c.spec(4), false))
		untilStates(t, e, "in-sync in-sync in-sync offline resync")
		check(t, e.catchUp(c.ctx, "e.img"))
		until(t, e, "promotion", func(rs []NodeReport) bool {
			n := 0
			for _, r := range rs {
				if r.Role == ondisk.PFSMaster && r.State == NodeInSync {
					n++
				}
			}
			return n == masters && rs[3].Role == ondisk.PFSNone && rs[4].Role == ondisk.PFSMaster && rs[4].Replaces.IsZero()
		})
		put(t, e, 2000, "new member")
		check(t, e.close(c.ctx))
	}
}

// A new disk under the name of the old one.
func TestEngineReplaceInPlace(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	put(t, e, 2000, "old data")
	untilEqual(t, e)
	check(t, e.offline(c.ctx, "b.img"))
	c.disks[1] = memdev.New(testVolume).Named("b.img")
	if err := e.online(c.ctx, "b.img"); err == nil {
		t.Fatal("an empty device is a member")
	}
	check(t, e.replace(c.ctx, "b.img", c.spec(1), false))
	untilStates(t, e, "in-sync resync in-sync missing")
	check(t, e.catchUp(c.ctx, "b.img"))
	until(t, e, "promotion", func(rs []NodeReport) bool {
		return len(rs) == 3 && rs[1].State == NodeInSync && rs[1].Role == ondisk.PFSMaster
	})
	put(t, e, 2001, "new")
	untilEqual(t, e)
}

// Members come and go: a new one votes once it is complete, one that is
// removed does not any more.
func TestEngineChangesMembers(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 2)
	for i := 2; i < 4; i++ {
		c.disks = append(c.disks, memdev.New(testVolume).Named(diskName(i)))
		c.fault, c.gone = append(c.fault, nil), append(c.gone, false)
	}
	e := c.mustStart(Options{}, 0, 1)
	untilStates(t, e, "in-sync in-sync")
	put(t, e, 2000, "old")
	if err := e.remove(c.ctx, "a.img"); err != nil {
		t.Errorf("one of two that are in sync: %v", err) // the other goes on alone
	}
	untilStates(t, e, "offline in-sync")
	check(t, e.add(c.ctx, c.spec(2), ondisk.PFSMaster, false))
	check(t, e.add(c.ctx, c.spec(3), ondisk.PFSSlave, false))
	if rs := e.nodes(); rs[2].Role != ondisk.PFSSlave || rs[3].Role != ondisk.PFSSlave {
		t.Errorf("a copy that is not complete votes: %+v", rs)
	}
	put(t, e, 2001, "meanwhile")
	for _, name := range []string{"c.img", "d.img"} {
		check(t, e.catchUp(c.ctx, name))
	}
	until(t, e, "promotion", func(rs []NodeReport) bool {
		return rs[2].State == NodeInSync && rs[2].Role == ondisk.PFSMaster && rs[2].Replaces.IsZero() && rs[3].State == NodeInSync
	})
	if err := e.add(c.ctx, c.spec(2), ondisk.PFSMaster, true); err == nil {
		t.Error("a member was added twice")
	}
	if err := e.setRole(c.ctx, "d.img", ondisk.PFSSlave); err == nil {
		t.Error("a slave was demoted")
	}
	check(t, e.setRole(c.ctx, "d.img", ondisk.PFSMaster)) // b, c, d
	check(t, e.offline(c.ctx, "b.img"))
	put(t, e, 2002, "two of three")
	if err := e.setRole(c.ctx, "c.img", ondisk.PFSSlave); err == nil {
		t.Error("the quorum was demoted")
	}
	if err := e.remove(c.ctx, "d.img"); err == nil {
		t.Error("the quorum was removed")
	}
	check(t, e.remove(c.ctx, "b.img"))
	untilStates(t, e, "offline offline in-sync in-sync")
	put(t, e, 2003, "two of two")
	noSuchMember(c, e)
	reuseRemoved(c, e)
	check(t, e.close(c.ctx))
	e = c.mustStart(Options{}, 2, 3)
	for inum := range uint64(4) {
		if got := get(t, e, 2000+inum); len(got) != 2 {
			t.Errorf("inode %d: %q", 2000+inum, got)
		}
	}
	for _, i := range []int{0, 1} {
		if _, err := c.start(Options{}, i); err == nil {
			t.Errorf("%s, which was removed, is a cluster of its own", diskName(i))
		}
	}
}

// reuseRemoved has removed members (a and b, of c and d) added again, and put in
// the place of another, and ends with what was there.
func reuseRemoved(c *testCluster, e *engine) {
	master := func(i int) {
		check(c.t, e.catchUp(c.ctx, diskName(i)))
		until(c.t, e, "promotion of "+diskName(i), func(rs []NodeReport) bool {
			return rs[i].State == NodeInSync && rs[i].Role == ondisk.PFSMaster && rs[i].Replaces.IsZero()
		})
	}
	check(c.t, e.add(c.ctx, c.spec(1), ondisk.PFSMaster, true))
	master(1)
	check(c.t, e.offline(c.ctx, "d.img"))
	check(c.t, e.replace(c.ctx, "d.img", c.spec(0), true))
	master(0)
	until(c.t, e, "d.img being no member", func(rs []NodeReport) bool { return rs[3].Role == ondisk.PFSNone })
	check(c.t, e.add(c.ctx, c.spec(3), ondisk.PFSMaster, true))
	master(3)
	check(c.t, e.remove(c.ctx, "a.img"))
	check(c.t, e.remove(c.ctx, "b.img"))
}

func TestEngineSlave(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 2, ondisk.PFSSlave)
	e := c.mustStart(Options{})
	for i := range 5 {
		put(t, e, uint64(2000+i), "content")
	}
	untilEqual(t, e)
	if rs := e.nodes(); rs[2].Role != ondisk.PFSSlave || rs[2].Focus {
		t.Errorf("%+v", rs[2])
	}
	check(t, e.close(c.ctx))
	c.gone[0] = true
	if _, err := c.start(Options{}); err == nil {
		t.Fatal("a slave gave a vote")
	}
}

// An unmount leaves all members equal, not only a quorum: whoever lacks the
// last txg would have to be looked after at the next mount.
func TestEngineCloseWaitsForTheSlow(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3, ondisk.PFSSlave)
	e := c.mustStart(Options{})
	until(t, e, "four in sync", func(rs []NodeReport) bool { return states(rs) == "in-sync in-sync in-sync in-sync" })
	c.fault[1].Sleep = func(d time.Duration) { <-time.After(d) }
	c.fault[1].Add(faultdev.Rule{Do: faultdev.Delay, On: faultdev.Write, Arg: int64(20 * time.Millisecond), Times: faultdev.Always})
	for i := range 3 {
		put(t, e, uint64(2000+i), "content")
	}
	want := e.committed()
	check(t, e.close(c.ctx))
	for i, d := range c.disks {
		d.Reopen()
		v, err := chain.Open(c.ctx, []ondisk.Device{d}, chain.Options{ReadOnly: true})
		check(t, err)
		view, err := v.View(c.ctx, "HOME")
		check(t, err)
		if view.T() != want.T+1 { // an empty one was the last
			t.Errorf("%s is left at %v, committed was %v", diskName(i), view.T(), want.T)
		}
		view.Release()
		check(t, v.Close())
	}
}

// What ends the loop is told to have run, although by then the loop has ended:
// a close that took it for somebody else's would leave the volumes open.
func TestEngineAskEndsTheLoop(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 1)
	for range 64 {
		e := c.mustStart(Options{})
		done := make(chan struct{})
		e.post(func() { close(done) })
		<-done
		check(t, e.close(c.ctx))
		<-e.ended
		if !e.ran(done) {
			t.Fatal("it ran")
		}
		if _, err := c.disks[0].ReadAt(make([]byte, 512), 0); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("the device is open after the close: %v", err)
		}
	}
}

// A member whose opening ends while the engine is being closed is closed, too.
func TestEngineCloseTakesTheLate(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.gone[2] = true
	e := c.mustStart(Options{})
	c.gone[2] = false
	late, d, err := openMember(c.ctx, c.spec(2), &e.o, e.log)
	check(t, err)
	var arrive func()
	arrive = func() {
		if !e.post(arrive) { // it is in the queue whenever the last one runs
			e.reopened(opening{m: e.members[2], c: late, d: d})
		}
	}
	e.post(arrive)
	check(t, e.close(c.ctx))
	if _, err := c.disks[2].ReadAt(make([]byte, 512), 0); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("the device is open after the close: %v", err)
	}
}

// A member that is slower than the others is taken out when they have decided that,
// and knows it all the same: alone, it does not take itself for one of the cluster.
func TestEngineTheSlowLearnThatTheyLeft(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{0, 5 * time.Millisecond, 30 * time.Millisecond} {
		c := newTestCluster(t, 3)
		e := c.mustStart(Options{})
		untilStates(t, e, "in-sync in-sync in-sync")
		c.fault[2].Sleep = func(d time.Duration) { <-time.After(d) }
		c.fault[2].Add(faultdev.Rule{Do: faultdev.Delay, On: faultdev.Write, Arg: int64(delay), Times: faultdev.Always})
		put(t, e, 2000, "content")
		check(t, e.remove(c.ctx, "c.img"))
		put(t, e, 2001, "without it")
		check(t, e.close(c.ctx))
		late, d, err := openMember(c.ctx, c.spec(2), &e.o, e.log)
		check(t, err)
		if _, in := d.Charter.Config.Member(late.info.Fsid); in {
			t.Errorf("each write %v later: at %v it is a member", delay, d.Pos.T)
		}
		check(t, late.close())
	}
}
