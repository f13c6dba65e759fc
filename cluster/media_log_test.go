package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// logTxgs makes n txgs durable in a member's log, after a promise.
func (c *testCluster) logTxgs(m *Media, d core.Durable, n int) core.Durable {
	c.t.Helper()
	promise := &core.Job{Ballot: core.Ballot{Epoch: d.Promised.Epoch + 1, Cand: 5}}
	check(c.t, m.Perform(promise, d))
	d = promise.After(d)
	for i := range n {
		b := file(d.Pos.T+1, 2000+uint64(i), "content")
		b.Log = true
		j := &core.Job{Ballot: d.Promised, Txg: &core.Txg{Prev: d.Pos, Pos: Position{T: b.T, H: NextH(d.Pos.H, b.T, 1, Manifest(b))}, Batch: b, Acked: 3}}
		check(c.t, m.Perform(j, d))
		d = j.After(d)
		if got := m.Volume().Logged(); got != i+1 {
			c.t.Fatalf("%d txgs are logged, want %d", got, i+1)
		}
	}
	return d
}

// crash gives a member what is on its disk now, as after the end of the process.
func (c *testCluster) crash(i int) { c.disks[i] = c.disks[i].Clone().Named(diskName(i)) }

// rotLog spoils the first record of the log of a member.
func (c *testCluster) rotLog(i int) {
	c.t.Helper()
	buf := make([]byte, 128<<20)
	if n, _ := c.disks[i].ReadAt(buf, 0); n < len(buf) {
		c.t.Fatal("short disk")
	}
	at := bytes.Index(buf, []byte("ANVLOG01"))
	if at < 0 {
		c.t.Fatal("no record on the disk")
	}
	c.disks[i].WriteAt([]byte("rotten"), int64(at)+700)
}

// A logged txg is an answer like a committed one: the next open is where it
// left the member, whose promise is that of the header. A txg that raises the
// promise goes by way of a header, and takes along what was logged.
func TestLoggedIsDurable(t *testing.T) {
	c := newTestCluster(t, 2)
	m, d := c.media(1)
	d = c.logTxgs(m, d, 3)
	c.crash(1)
	m, found := c.media(1)
	if found.Pos != d.Pos || found.Promised != d.Promised || found.Acked != 3 {
		t.Fatalf("at %v, promised %v, want %v, %v", found.Pos, found.Promised, d.Pos, d.Promised)
	}
	d = c.logTxgs(m, found, 1)
	b := file(d.Pos.T+1, 3000, "content")
	b.Log = true
	j := &core.Job{Ballot: core.Ballot{Epoch: d.Promised.Epoch + 1, Cand: 6}, Txg: &core.Txg{Prev: d.Pos, Pos: Position{T: b.T}, Batch: b}}
	check(t, m.Perform(j, d))
	if n := m.Volume().Logged(); n != 0 {
		t.Errorf("a txg that raises the promise is logged: %d", n)
	}
	c.crash(1)
	if _, found := c.media(1); found.Promised != j.Ballot || found.Pos != j.Txg.Pos {
		t.Errorf("promised %v at %v, want %v at %v", found.Promised, found.Pos, j.Ballot, j.Txg.Pos)
	}
}

// A member's state is what it acknowledged, also while a part of that is in the
// log only and nobody opens it anew, as after a resync that was given up.
func TestLoadKnowsTheLog(t *testing.T) {
	c := newTestCluster(t, 2)
	m, d := c.media(1)
	d = c.logTxgs(m, d, 3)
	found, why, err := m.Load(c.ctx)
	check(t, err)
	if found.Pos != d.Pos || found.Promised != d.Promised || found.Acked != d.Acked || found.Flags != 0 {
		t.Errorf("at %v, flags %v (%s), want %v", found.Pos, found.Flags, why, d.Pos)
	}
	d = c.logTxgs(m, found, 1)
	m.Volume().Begin(c.ctx) // whoever has the turn for good: nothing can be brought into the tree
	late, cancel := context.WithCancel(c.ctx)
	cancel()
	if found, _, err := m.Load(late); err == nil {
		t.Errorf("at %v while the log, which leads to %v, cannot be applied", found.Pos, d.Pos)
	}
}

// A member whose log was given up is tainted, however often it is opened, until
// a copy put it right.
func TestLogGivenUpIsTainted(t *testing.T) {
	c := newTestCluster(t, 2)
	m, d := c.media(1)
	c.logTxgs(m, d, 3)
	c.crash(1)
	c.rotLog(1)
	open := func() (*Media, core.Durable) {
		t.Helper()
		devs, err := c.spec(1).Open(c.ctx)
		check(t, err)
		m, err := OpenMedia(c.ctx, diskName(1), devs, "HOME", chain.Options{})
		check(t, err)
		d, _, err := m.Load(c.ctx)
		check(t, err)
		return m, d
	}
	for range 3 {
		m, d = open()
		if d.Flags != core.Tainted {
			t.Fatalf("flags %v at %v: it lost txgs that it had acknowledged", d.Flags, d.Pos)
		}
		c.crash(1)
	}
	m, d = open()
	// Its own steps on the way keep that: a promise, and what a copy begins with.
	promise := &core.Job{Ballot: core.Ballot{Epoch: d.Promised.Epoch + 1, Cand: 9}}
	check(t, m.Perform(promise, d))
	c.crash(1)
	if m, d = open(); d.Flags != core.Tainted {
		t.Fatalf("flags %v after a promise", d.Flags)
	}
	source, sd := c.media(0)
	defer source.Volume().Close()
	view, err := source.Volume().View(c.ctx, "HOME")
	check(t, err)
	defer view.Release()
	_, err = CatchUp(c.ctx, m.Target(d, sd.Charter, core.Ballot{}, false), Source{Name: "a", View: view, Position: sd.Pos, Lineage: sd.Charter.Lineage})
	check(t, err)
	c.crash(1)
	if _, d = open(); d.Flags != 0 || d.Pos != sd.Pos {
		t.Errorf("after the copy: flags %v at %v, want %v", d.Flags, d.Pos, sd.Pos)
	}
}

// stuckLog is member 1 with a txg in its log that its tree, which is damaged, cannot
// take.
func (c *testCluster) stuckLog() (m *Media, d core.Durable) {
	t := c.t
	t.Helper()
	m, d = c.media(1)
	b := file(d.Pos.T+1, 2000, "content")
	j := &core.Job{Ballot: d.Promised, Txg: &core.Txg{Prev: d.Pos, Pos: Position{T: b.T, H: NextH(d.Pos.H, b.T, 1, Manifest(b))}, Batch: b, Acked: 3}}
	check(t, m.Perform(j, d))
	view, err := m.Volume().View(c.ctx, "HOME")
	check(t, err)
	rec, _, err := view.Inode(c.ctx, 2000)
	check(t, err)
	view.Release()
	check(t, m.Volume().Close())
	c.crash(1)
	c.disks[1].WriteAt([]byte("rotten"), int64(rec.Ref.Off())+8)
	m, d = c.media(1)
	return m, c.logTxgs(m, d, 1) // changes that inode
}

// A member whose log was given up while it is in use says so, and a copy goes on
// from what it has then.
func TestGivenUpIsKept(t *testing.T) {
	c := newTestCluster(t, 2)
	m, d := c.stuckLog()
	if m.GiveUpLog(c.ctx, nil) {
		t.Error("a log was given up that nothing is wrong with")
	}
	if err := m.Level(c.ctx); !m.GiveUpLog(c.ctx, err) {
		t.Fatalf("not given up: %v", err)
	}
	from := m.Target(d, nil, core.Ballot{}, false).Resume
	if e, _ := m.Volume().State(m.info.Fsid); from.T != e.T || from.H != e.H || from.Flags != e.Flags {
		t.Errorf("a copy goes on from %+v, the header says %+v", from, e)
	}
	found, _, err := m.Load(c.ctx)
	check(t, err)
	if found.Flags != core.Tainted || found.Pos.T >= d.Pos.T {
		t.Errorf("flags %v at %v: it lost what it had acknowledged", found.Flags, found.Pos)
	}
}

// A member that is closed, and whose tree cannot take what it logged, says so to
// the next open, and not to whoever unmounts: the others have it.
func TestCloseGivesUpTheLog(t *testing.T) {
	c := newTestCluster(t, 2)
	m, _ := c.stuckLog()
	check(t, (&conn{Media: m, log: slog.New(slog.DiscardHandler)}).close())
	c.crash(1)
	devs, err := c.spec(1).Open(c.ctx)
	check(t, err)
	m, err = OpenMedia(c.ctx, diskName(1), devs, "HOME", chain.Options{})
	check(t, err)
	if d, _, err := m.Load(c.ctx); err != nil || d.Flags != core.Tainted {
		t.Errorf("flags %v at %v: it lost what it had acknowledged; %v", d.Flags, d.Pos, err)
	}
}

// The only master of a cluster does not give up what it acknowledged.
func TestLogOfOneMaster(t *testing.T) {
	c := newTestCluster(t, 1)
	m, d := c.media(0)
	c.logTxgs(m, d, 3)
	c.crash(0)
	c.rotLog(0)
	if _, err := OpenMedia(c.ctx, "a", []ondisk.Device{c.disks[0]}, "HOME", chain.Options{}); !errors.Is(err, chain.ErrLogStuck) {
		t.Errorf("opened: %v", err)
	}
}
