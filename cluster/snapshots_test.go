package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// content reads small files by name from a PFS of each member's media, opened
// for itself; members without the PFS have "none".
func (c *testCluster) content(label string, members ...int) []string {
	c.t.Helper()
	var out []string
	for _, i := range members {
		c.disks[i].Reopen()
		vol, err := chain.Open(c.ctx, []ondisk.Device{c.disks[i]}, chain.Options{ReadOnly: true})
		check(c.t, err)
		out = append(out, contentOf(c.t, vol, label))
		check(c.t, vol.Close())
		c.disks[i].Reopen()
		r, err := fsck.Check(c.ctx, []ondisk.Device{c.disks[i]}, fsck.Options{AllSlots: true})
		check(c.t, err)
		if !r.Clean() {
			c.t.Errorf("%s: %+v", diskName(i), r.Findings)
		}
	}
	return out
}

func contentOf(t *testing.T, vol *chain.Volume, label string) string {
	t.Helper()
	ctx := context.Background()
	v, err := vol.View(ctx, label)
	if errors.Is(err, chain.ErrNoPFS) {
		return "none"
	}
	check(t, err)
	defer v.Release()
	var text []string
	check(t, v.Dirents(ctx, ondisk.InumRoot, 0, ^uint64(0), func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
		rec, ok, err := v.Inode(ctx, d.Inum)
		if err != nil || !ok {
			t.Fatalf("%s: %v %v", d.Name, ok, err)
		}
		b := make([]byte, rec.Meta.Size)
		check(t, v.ReadData(ctx, d.Inum, 0, b))
		text = append(text, d.Name+"="+string(b))
		return true
	}))
	slices.Sort(text)
	return strings.Join(text, " ")
}

// say writes a small file of that name.
func say(t *testing.T, p *Pool, name, text string) {
	t.Helper()
	d, ok, err := p.Lookup(context.Background(), ondisk.InumRoot, name)
	check(t, err)
	inum := d.Inum
	if !ok {
		inum = makeFile(t, p, ondisk.InumRoot, name, ondisk.ObjFile)
	}
	write(t, p, inum, 0, []byte(text))
}

// settle closes the pool when all members are where it is: the last txg may
// still be on its way to some.
func settle(t *testing.T, p *Pool) {
	t.Helper()
	gather(t, p)
	closePool(t, p)
}

func gather(t *testing.T, p *Pool) {
	t.Helper()
	mustSync(t, p)
	until(t, p.engine.(*engine), "one position", func(rs []NodeReport) bool {
		return !slices.ContainsFunc(rs, func(r NodeReport) bool { return r.Position != p.Committed() })
	})
}

func snap(t *testing.T, p *Pool, name string) {
	t.Helper()
	got, err := p.SnapshotCreate(t.Context(), name, false)
	check(t, err)
	if name != "" && got != name {
		t.Errorf("%q was made as %q", name, got)
	}
}

func names(t *testing.T, p *Pool) string {
	t.Helper()
	if _, ok := p.engine.(*engine); ok {
		gather(t, p)
	}
	list, err := p.Snapshots(t.Context(), true)
	check(t, err)
	var out []string
	for _, r := range list {
		if r.Unique < 0 && len(r.Missing) == 0 || r.Used < uint64(r.Unique) {
			t.Errorf("counts: %+v", r)
		}
		out = append(out, fmt.Sprintf("%s on %d of %d", r.Name, len(r.On), len(r.On)+len(r.Missing)))
	}
	return strings.Join(out, ", ")
}

func wantContent(t *testing.T, c *testCluster, label, want string) {
	t.Helper()
	var members []int
	for i := range c.disks {
		members = append(members, i)
	}
	for i, got := range c.content(label, members...) {
		if got != want {
			t.Errorf("%s of %s: %q, want %q", label, diskName(i), got, want)
		}
	}
}

// Snapshots are made and deleted on every member at one T, also on one that
// was away for a moment, and outlive the mount.
func TestSnapshotsOnEveryMember(t *testing.T) {
	c := newTestCluster(t, 3, ondisk.PFSSlave)
	p := c.pool(Options{})
	say(t, p, "f", "one")
	snap(t, p, "first")
	say(t, p, "f", "two")
	snap(t, p, "gone")
	check(t, p.NodeOffline(c.ctx, diskName(1)))
	say(t, p, "f", "three")
	snap(t, p, "third")
	check(t, p.SnapshotDelete(c.ctx, "gone"))
	check(t, p.NodeOnline(c.ctx, diskName(1)))
	check(t, p.Wait(c.ctx, WaitHealthy))
	if got := names(t, p); got != "first on 4 of 4, third on 4 of 4" {
		t.Error(got)
	}
	settle(t, p)
	wantContent(t, c, "first", "f=one")
	wantContent(t, c, "gone", "none")
	wantContent(t, c, "third", "f=three")
	wantContent(t, c, "HOME", "f=three")

	p = c.pool(Options{})
	if got := names(t, p); got != "first on 4 of 4, third on 4 of 4" {
		t.Error("mounted again:", got)
	}
	check(t, p.SnapshotDelete(c.ctx, "first", "third"))
	settle(t, p)
	wantContent(t, c, "first", "none")
}

func TestSnapshotRefusals(t *testing.T) {
	c := newTestCluster(t, 3)
	now := time.Unix(1_700_000_000, 0)
	var later atomic.Int64 // members ask for the time, too
	p := c.pool(Options{Now: func() time.Time { return now.Add(time.Duration(later.Load())) }})
	defer closePool(t, p)
	ctx := c.ctx
	name, err := p.SnapshotCreate(ctx, "", true)
	check(t, err)
	second, err := p.SnapshotCreate(ctx, "", false)
	check(t, err)
	if second != name+"-2" {
		t.Errorf("names by time: %q, %q", name, second)
	}
	refused := func(what string, err, is error, text string) {
		t.Helper()
		if err == nil || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = p.SnapshotCreate(ctx, name, false)
	refused("twice", err, ErrSnapshotExists, "choose another name")
	_, err = p.SnapshotCreate(ctx, "HOME", false)
	refused("the label of the PFS", err, nil, "label of another PFS on a.img")
	_, err = p.SnapshotCreate(ctx, "a/b", false)
	refused("a slash", err, nil, "leave out")
	refused("delete", p.SnapshotDelete(ctx, "nothing"), ErrNoSnapshot, "snapshot list")
	check(t, p.SnapshotHold(ctx, name, "backup", now.Add(time.Hour)))
	check(t, p.SnapshotHold(ctx, name, "anna", time.Time{}))
	refused("held", p.SnapshotDelete(ctx, second, name), ErrHeld, "by backup until 2023-11-14T23:13:20Z: release it first")
	refused("not held", p.SnapshotRelease(ctx, name, "bob"), nil, "but by backup, anna")
	refused("over", p.SnapshotHold(ctx, name, "bob", now), nil, "a time to come")
	check(t, p.SnapshotRelease(ctx, name, "anna"))
	list, err := p.Snapshots(ctx, false)
	check(t, err)
	if len(list) != 2 || len(list[0].Holds) != 1 || list[0].Holds[0].Owner != "backup" || !list[0].Auto || list[1].Auto {
		t.Errorf("%+v", list)
	}
	later.Store(int64(2 * time.Hour)) // the hold is over
	check(t, p.SnapshotDelete(ctx, second, name))
	if got := names(t, p); got != "" {
		t.Error(got)
	}
}

// A PFS that is no cluster has snapshots too.
func TestSnapshotsOfOneVolume(t *testing.T) {
	p, e := openFake(t, Options{}, formatted(t, 256<<20))
	say(t, p, "f", "one")
	snap(t, p, "s")
	say(t, p, "f", "two")
	mustSync(t, p)
	if a, b := contentOf(t, e.vols[0], "s"), contentOf(t, e.vols[0], testLabel); a != "f=one" || b != "f=two" {
		t.Errorf("%q, %q", a, b)
	}
	closePool(t, p)
}

// What is unique to a snapshot is what deleting it would free.
func TestUniqueBytes(t *testing.T) {
	p, e := openFake(t, Options{}, formatted(t, 256<<20))
	defer closePool(t, p)
	big := func(name string, seed byte) {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = byte(i*i>>8) ^ byte(i)*seed
			if i%7 == 0 {
				b[i] = byte(uint32(i+1) * 2654435761 >> 13)
			}
		}
		say(t, p, name, string(b))
	}
	big("kept", 1)
	big("rewritten", 2)
	snap(t, p, "a")
	big("rewritten", 3)
	snap(t, p, "b")
	snap(t, p, "c")
	big("rewritten", 4)
	mustSync(t, p)
	list, err := p.Snapshots(t.Context(), true)
	check(t, err)
	vol := e.vols[0]
	_, err = vol.Bulkfree(t.Context(), chain.BulkfreeOptions{})
	check(t, err)
	before := vol.Space().Free
	for _, r := range list {
		want := r.Name == "a"
		if got := r.Unique > 300_000; got != want {
			t.Errorf("%s: %d bytes unique", r.Name, r.Unique)
		}
	}
	check(t, p.SnapshotDelete(t.Context(), "a"))
	_, err = vol.Bulkfree(t.Context(), chain.BulkfreeOptions{})
	check(t, err)
	freed := int64(vol.Space().Free - before)
	if freed < list[0].Unique/2 || freed > list[0].Unique+1<<20 {
		t.Errorf("deleting it freed %d bytes, said were %d", freed, list[0].Unique)
	}
	both, ok, err := p.UniqueTo(t.Context(), []string{"b", "c"})
	if err != nil || !ok || both < 300_000 {
		t.Errorf("two snapshots in a row have %d bytes together, %v, %v", both, ok, err)
	}
	before = vol.Space().Free
	check(t, p.SnapshotDelete(t.Context(), "b", "c"))
	_, err = vol.Bulkfree(t.Context(), chain.BulkfreeOptions{})
	check(t, err)
	if freed := vol.Space().Free - before; freed < both/2 || freed > both+1<<20 {
		t.Errorf("deleting them freed %d bytes, said were %d", freed, both)
	}
}

// listing is the files of a pool as readers see them.
func listing(t *testing.T, p *Pool) string {
	t.Helper()
	var text []string
	ctx := context.Background()
	check(t, p.ReadDir(ctx, ondisk.InumRoot, 0, func(d ondisk.Dirent) bool {
		in, ok, err := p.Inode(ctx, d.Inum)
		if err != nil || !ok {
			t.Fatalf("%s: %v %v", d.Name, ok, err)
		}
		b := make([]byte, in.Meta.Size)
		check(t, p.ReadData(ctx, d.Inum, 0, b))
		text = append(text, d.Name+"="+string(b))
		return true
	}))
	slices.Sort(text)
	return strings.Join(text, " ")
}

// The names are those of the list, also where it is another one of the same length.
func TestSnapshotNamesFollow(t *testing.T) {
	c := newTestCluster(t, 1)
	p := c.pool(Options{})
	defer closePool(t, p)
	before := ondisk.UUID{}
	for _, name := range []string{"a", "a", "b"} {
		snap(t, p, name)
		for range 2 { // as read, and as remembered
			all, err := p.SnapshotNames(c.ctx)
			check(t, err)
			if len(all) != 1 || all[0].Name != name || all[0].Clid == before {
				t.Fatalf("%+v, want another %q than %v", all, name, before)
			}
		}
		all, err := p.SnapshotNames(c.ctx)
		check(t, err)
		before = all[0].Clid
		check(t, p.SnapshotDelete(c.ctx, name))
		if all, err := p.SnapshotNames(c.ctx); err != nil || len(all) != 0 {
			t.Fatalf("%q is deleted: %+v, %v", name, all, err)
		}
	}
}

// A snapshot is read while its source is changed, after it was deleted, and
// while members go; one without it is not asked.
func TestOpenSnapshot(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	defer closePool(t, p)
	say(t, p, "f", "one")
	snap(t, p, "s")
	say(t, p, "f", "two")
	say(t, p, "g", "new")
	check(t, p.Wait(c.ctx, WaitSnapshots)) // the slowest member has it too
	all, err := p.SnapshotNames(c.ctx)
	check(t, err)
	s, err := p.OpenSnapshot(c.ctx, all[0])
	check(t, err)
	want := func(when string) {
		t.Helper()
		if got := listing(t, s); got != "f=one" {
			t.Errorf("%s: %q", when, got)
		}
	}
	want("opened")
	if _, err := s.Begin(c.ctx, Cost{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("begin: %v", err)
	}
	check(t, p.SnapshotDelete(c.ctx, "s"))
	mustSync(t, p)
	check(t, p.Bulkfree(c.ctx))
	for i := range 20 {
		say(t, p, fmt.Sprint("x", i), strings.Repeat("y", 70000))
	}
	mustSync(t, p)
	want("deleted")
	if _, err := p.OpenSnapshot(c.ctx, all[0]); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("opened again: %v", err)
	}
	check(t, p.NodeOffline(c.ctx, diskName(0)))
	want("without a member")
	check(t, p.NodeOnline(c.ctx, diskName(0)))
	check(t, p.Wait(c.ctx, WaitHealthy))
	want("with a member that does not have it")
	// The snapshot's own look at the members comes a moment after the health.
	for limit := time.After(10 * time.Second); ; {
		changed := *s.viewsCh.Load()
		if len(s.state.Load().views) == 2 {
			break
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%d members are asked", len(s.state.Load().views))
		}
	}
	closePool(t, s)
}

// reopened opens another PFS of the cluster's members.
func (c *testCluster) reopened(label string, o Options) (*Pool, error) {
	var specs []MemberSpec
	for i := range c.disks {
		specs = append(specs, c.spec(i))
	}
	o.Label = label
	return OpenPool(c.ctx, specs, o)
}

// A snapshot that is mounted alone has none of its own, and waits for none: what its
// source had by then is not on its way to anybody.
func TestSnapshotAloneListsNone(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	say(t, p, "f", "one")
	snap(t, p, "first")
	snap(t, p, "s")
	closePool(t, p)
	s, err := c.reopened("s", Options{ReadOnly: true})
	check(t, err)
	defer closePool(t, s)
	list, err := s.Snapshots(c.ctx, true)
	check(t, err)
	if len(list) > 0 {
		t.Errorf("it lists %+v", list)
	}
	ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
	defer cancel()
	check(t, s.Wait(ctx, WaitSnapshots))
}

// Symptom: a clone that was made while a member had not yet written that another
// one was removed was refused, for want of that.
func TestSnapshotCloneByTheNewestLaw(t *testing.T) {
	c := newTestCluster(t, 4)
	p := c.pool(Options{})
	say(t, p, "f", "one")
	snap(t, p, "s")
	check(t, p.Wait(c.ctx, WaitHealthy))
	gather(t, p)
	c.fault[0].Add(faultdev.Rule{Do: faultdev.Hang, On: faultdev.Write, Times: faultdev.Always})
	check(t, p.NodeRemove(c.ctx, diskName(3)))
	check(t, p.SnapshotClone(c.ctx, "s", "WORK", false))
	c.fault[0].Clear()
	c.fault[0].Release()
	until(t, p.engine.(*engine), "all that is left at one position", func(rs []NodeReport) bool {
		return !slices.ContainsFunc(rs[:3], func(r NodeReport) bool { return r.Position != p.Committed() })
	})
	closePool(t, p)
	if got := c.content("WORK", 0, 1, 2); got[0] != "f=one" || got[1] != "f=one" || got[2] != "f=one" {
		t.Errorf("the clone: %q", got)
	}
}

// A snapshot can be opened by its label on all members, to be read only; its
// clone is a cluster of its own that neither changes nor is changed.
func TestSnapshotClone(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	say(t, p, "f", "one")
	snap(t, p, "s")
	say(t, p, "f", "two")
	check(t, p.Wait(c.ctx, WaitHealthy))
	check(t, p.SnapshotClone(c.ctx, "s", "WORK", false))
	gather(t, p)
	if got := p.OthersOn(c.ctx, p.Status().Nodes[0].Name); !slices.Equal(got, []string{"WORK"}) {
		t.Errorf("beside it there is %v", got)
	}
	for what, err := range map[string]error{
		"label of another PFS": p.SnapshotClone(c.ctx, "s", "WORK", false),
		"no such snapshot":     p.SnapshotClone(c.ctx, "nothing", "MORE", false),
		"leave out":            p.SnapshotClone(c.ctx, "s", "A/B", false),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
	check(t, p.NodeOffline(c.ctx, diskName(2)))
	if err := p.SnapshotClone(c.ctx, "s", "MORE", false); err == nil || !strings.Contains(err.Error(), "would not be on") {
		t.Errorf("without a member: %v", err)
	}
	check(t, p.SnapshotClone(c.ctx, "s", "MORE", true))
	check(t, p.NodeOnline(c.ctx, diskName(2)))
	check(t, p.Wait(c.ctx, WaitHealthy))
	settle(t, p)
	wantContent(t, c, "WORK", "f=one")
	if got := c.content("MORE", 0, 1, 2); got[0] != "f=one" || got[2] != "none" {
		t.Errorf("forced clone: %q", got)
	}

	s, err := c.reopened("s", Options{ReadOnly: true})
	check(t, err)
	if got := listing(t, s); got != "f=one" || len(s.state.Load().views) != 3 {
		t.Errorf("snapshot on its own: %q from %d", got, len(s.state.Load().views))
	}
	check(t, s.Close(c.ctx))
	if _, err := c.reopened("s", Options{}); err == nil || !strings.Contains(err.Error(), "is a snapshot") {
		t.Errorf("opened for writing: %v", err)
	}

	w, err := c.reopened("WORK", Options{})
	check(t, err)
	if got := names(t, w); got != "" {
		t.Errorf("the clone has snapshots: %s", got)
	}
	say(t, w, "f", "mine")
	snap(t, w, "of the clone")
	settle(t, w)
	wantContent(t, c, "WORK", "f=mine")
	wantContent(t, c, "of the clone", "f=mine")
	wantContent(t, c, "s", "f=one")
	wantContent(t, c, "HOME", "f=two")

	p = c.pool(Options{})
	if got := names(t, p); got != "s on 3 of 3" {
		t.Error(got)
	}
	check(t, p.SnapshotDelete(c.ctx, "s"))
	check(t, p.Bulkfree(c.ctx))
	say(t, p, "g", strings.Repeat("fill", 100000))
	settle(t, p)
	wantContent(t, c, "WORK", "f=mine")
}

func TestCloneOfOneVolume(t *testing.T) {
	p, e := openFake(t, Options{}, formatted(t, 256<<20))
	defer closePool(t, p)
	say(t, p, "f", "one")
	snap(t, p, "s")
	say(t, p, "f", "two")
	check(t, p.SnapshotClone(t.Context(), "s", "WORK", false))
	if got := contentOf(t, e.vols[0], "WORK"); got != "f=one" {
		t.Error(got)
	}
}

// A rollback puts back what was, on every member at once, keeps what it took
// away, and is understood by a member that has the time between only.
func TestSnapshotRollback(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	say(t, p, "f", "one")
	say(t, p, "gone", "soon")
	snap(t, p, "s")
	for i := range 30 {
		snap(t, p, fmt.Sprint("many", i)) // the list grows over what the snapshot has
	}
	say(t, p, "f", "two")
	say(t, p, "new", "later")
	last := makeFile(t, p, ondisk.InumRoot, "highest", ondisk.ObjFile)
	gather(t, p)
	if _, err := p.SnapshotRollback(c.ctx, "nothing", true); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("to nothing: %v", err)
	}
	kept, err := p.SnapshotRollback(c.ctx, "s", true)
	check(t, err)
	if got := listing(t, p); got != "f=one gone=soon" {
		t.Errorf("rolled back: %q", got)
	}
	if next := makeFile(t, p, ondisk.InumRoot, "after", ondisk.ObjFile); next <= last {
		t.Errorf("inode number %d was given out before", next)
	}
	settle(t, p)
	wantContent(t, c, "HOME", "after= f=one gone=soon")
	wantContent(t, c, kept, "f=two gone=soon highest= new=later")
	wantContent(t, c, "s", "f=one gone=soon")
	wantContent(t, c, "many29", "f=one gone=soon")

	// A member sleeps through a rollback and more.
	p = c.openPool(Options{})
	say(t, p, "f", strings.Repeat("three", 30000))
	snap(t, p, "s3")
	settle(t, p)
	p = c.openPool(Options{}, 0, 1)
	if _, err := p.SnapshotRollback(c.ctx, "s", false); err != nil {
		t.Fatal(err)
	}
	say(t, p, "x", "y")
	mustSync(t, p)
	closePool(t, p)
	v := c.openPool(Options{}, 0, 1)
	if got := listing(t, v); got != "f=one gone=soon x=y" {
		t.Errorf("mounted again: %q", got)
	}
	s := v.engine.(*engine)
	if marks := s.pub.charter.Lineage.Rollbacks; len(marks) != 2 {
		t.Errorf("marks of rollbacks: %v", marks)
	}
	closePool(t, v)
	c.content("HOME", 0, 1) // clean
}

// A device that hangs in reading holds up no command about snapshots for
// longer than a request may take.
func TestSnapshotsBesideHungDevice(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	say(t, p, "f", "one")
	snap(t, p, "s")
	settle(t, p)
	p = c.pool(Options{Deadline: 300 * time.Millisecond}) // nothing is in the caches
	hung := c.fault[1]
	hung.Add(faultdev.Rule{Do: faultdev.Hang, On: faultdev.Read, Times: faultdev.Always})
	defer closePool(t, p)
	defer func() { hung.Clear(); hung.Release() }()
	began := time.Now()
	list, err := p.Snapshots(c.ctx, true)
	check(t, err)
	if len(list) != 1 || len(list[0].On) < 2 {
		t.Errorf("%+v", list)
	}
	snap(t, p, "t")
	all, err := p.SnapshotNames(c.ctx)
	check(t, err)
	s, err := p.OpenSnapshot(c.ctx, all[0])
	check(t, err)
	if got := listing(t, s); got != "f=one" {
		t.Error(got)
	}
	closePool(t, s)
	check(t, p.SnapshotDelete(c.ctx, "s"))
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}
