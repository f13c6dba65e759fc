package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// crowd fills a member beside its PFS until less than room bytes are free.
func (c *testCluster) crowd(i int, room uint64) {
	c.t.Helper()
	m, _ := c.media(i)
	v := m.Volume()
	label := fmt.Sprint("OTHER", room)
	block, _, err := ondisk.EncodeData(make([]byte, ondisk.LogicalBlock), uint8(ondisk.CompNone), uint8(ondisk.CheckXXHash64))
	check(c.t, err)
	for key, made := uint64(0), false; v.Space().Free >= room; made = true {
		txn, err := v.Begin(c.ctx)
		check(c.t, err)
		txn.UseReserve()
		if !made {
			check(c.t, txn.CreatePFS(c.ctx, chain.PFSSpec{Label: label}))
		}
		b := blockFile(c.t, v.Header().MirrorTid+1, 2000, make([]byte, 1))
		b.Changes = b.Changes[:1]
		for range min(64, (v.Space().Free-room)/ondisk.LogicalBlock+1) {
			b.Changes = append(b.Changes, chain.Change{Inum: 2000, Kind: chain.KindData, Key: key, Block: block})
			key += ondisk.LogicalBlock
		}
		check(c.t, txn.Apply(c.ctx, label, b))
		check(c.t, txn.Commit(c.ctx))
		check(c.t, v.DrainFrees(c.ctx))
	}
	check(c.t, v.Close())
}

// A master that is in sync and has no room, as after a copy that just fits, does
// not keep the others from removing what takes the space.
func TestRemovesWithOneFullMaster(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 64<<20, 3)
	p := c.pool(Options{})
	makeFile(t, p, ondisk.InumRoot, "f", ondisk.ObjFile)
	check(t, p.Close(c.ctx))
	for i, room := range []uint64{20 << 20, 288 << 10, 20 << 20} {
		c.crowd(i, room)
	}
	p = c.pool(Options{})
	untilStates(t, p.engine.(*engine), "in-sync in-sync in-sync")
	if _, err := p.Begin(c.ctx, Cost{Leaves: 2, Bytes: 4096}); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("a call that adds: %v", err)
	}
	tx, err := p.BeginFree(c.ctx)
	if err != nil {
		t.Fatalf("two of three have room to remove a file: %v", err)
	}
	check(t, tx.RemoveDirent(ondisk.InumRoot, "f"))
	tx.End()
	mustSync(t, p)
	check(t, p.Close(context.Background()))

	// Nobody can commit it where two have no room.
	c.crowd(2, 160<<10)
	p = c.pool(Options{})
	if _, err := p.BeginFree(c.ctx); !errors.Is(err, ErrNoSpace) {
		t.Errorf("one of three has room: %v", err)
	}
	check(t, p.Close(context.Background()))
}

// What may be taken to remove something.
func TestRemovable(t *testing.T) {
	id := func(i int) ondisk.UUID { return ondisk.UUID{byte(i)} }
	masters := func(ids ...int) (ms []core.Member) {
		for _, i := range ids {
			ms = append(ms, core.Member{Fsid: id(i), Role: ondisk.PFSMaster})
		}
		return ms
	}
	for _, x := range []struct {
		what        string
		cfg         Config
		free        map[int]uint64
		all, enough uint64
		ok          bool
	}{
		{"one", Config{Members: masters(1)}, map[int]uint64{1: 7}, 7, 7, true},
		{"the smallest; two of three", Config{Members: masters(1, 2, 3)}, map[int]uint64{1: 9, 2: 1, 3: 5}, 1, 5, true},
		{"one is behind", Config{Members: masters(1, 2, 3)}, map[int]uint64{1: 9, 3: 5}, 5, 5, true},
		{"too few", Config{Members: masters(1, 2, 3)}, map[int]uint64{3: 5}, 0, 0, false},
		{"no master", Config{Members: masters(1)}, map[int]uint64{1: 7, 2: 3}, 7, 7, true},
		{"both sets of a change", Config{Members: masters(1, 2, 3), Joint: masters(1)}, map[int]uint64{1: 2, 2: 9, 3: 9}, 2, 2, true},
		{"one set of a change is too few", Config{Members: masters(1, 2, 3), Joint: masters(4)}, map[int]uint64{1: 2, 2: 9}, 0, 0, false},
	} {
		free := make(map[ondisk.UUID]uint64)
		for i, n := range x.free {
			free[id(i)] = n
		}
		if all, enough, ok := Removable(&x.cfg, free); all != x.all || enough != x.enough || ok != x.ok {
			t.Errorf("%s: %d, %d, %v", x.what, all, enough, ok)
		}
	}
}

// A slave, which nobody asks, does not take its last room: what fits and leaves
// less is refused, by the log too, and what removes something is not.
func TestSlaveLeavesRoom(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 64<<20, 1, ondisk.PFSSlave)
	c.crowd(1, 3<<19)
	m, d := c.media(1)
	perform := func(b *chain.Batch) error {
		b.Log = true
		x := &core.Txg{Prev: d.Pos, Pos: Position{T: b.T, H: NextH(d.Pos.H, b.T, 1, Manifest(b))}, Batch: b}
		j := &core.Job{Ballot: d.Promised, Txg: x}
		err := m.Perform(j, d)
		if err == nil {
			d = j.After(d)
		}
		return err
	}
	noise := make([]byte, ondisk.LogicalBlock)
	for i := range noise {
		noise[i] = byte(i * i >> 7)
	}
	var full error
	made := uint64(2000)
	for ; full == nil && made < 2100; made++ {
		full = perform(blockFile(t, d.Pos.T+1, made, noise))
	}
	s := m.Volume().Space()
	if !errors.Is(full, chain.ErrNoSpace) || s.Free+s.Pending < chain.LastRoom {
		t.Errorf("after %d files: %v, %+v", made-2000, full, s)
	}
	check(t, perform(&chain.Batch{T: d.Pos.T + 1, Changes: []chain.Change{{Inum: 2000, Kind: chain.KindInode, Delete: true}}}))
	check(t, m.Volume().Close())
}

// A master that lacks something counts with what is left on it when it has all.
func TestWhenLevel(t *testing.T) {
	for _, x := range []struct {
		what    string
		free    uint64 // of 100, 10 of them reserved
		used    uint64 // by those in sync
		follows bool
		want    uint64 // free
		fits    bool
	}{
		{"one that follows", 60, 70, true, 30, true},
		{"one that follows and is fuller", 20, 70, true, 20, true},
		{"one that is copied anew, and has its old state", 5, 70, false, 30, true},
		{"one that is copied anew, onto nothing", 95, 70, false, 30, true},
		{"the last that is admitted", 60, 90, false, 10, true},
		{"removals took some of the reserve", 60, 95, false, 5, true},
		{"one that is too small", 60, 96, true, 60, false},
		{"one that is far too small", 60, 1000, false, 60, false},
	} {
		s := chain.Space{Total: 100, Free: x.free, Whole: x.free, Reserved: 10}
		got, fits := whenLevel(s, x.used, x.follows)
		if got.Free != x.want || got.Whole > got.Free || fits != x.fits {
			t.Errorf("%s: %d free, %d of them whole, fits: %v; want %d, %v", x.what, got.Free, got.Whole, fits, x.want, x.fits)
		}
	}
}

// Who lacks a txg counts with what is left on it when it has that: at the next
// moment already, whatever its state is called.
func TestSpaceOfOneThatLacks(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 64<<20, 3)
	p := c.pool(Options{})
	makeFile(t, p, ondisk.InumRoot, "f", ondisk.ObjFile)
	mustSync(t, p)
	e := p.engine.(*engine)
	untilStates(t, e, "in-sync in-sync in-sync")
	untilEqual(t, e)
	before := e.space()
	const took = 32 << 10 // less than is taken
	var late *memberView
	then := make(usage)
	members, committed := e.attachedAt()
	for i, n := range levelUsage(members, committed) {
		then[i] = n - took
	}
	for i := range members {
		if v := &members[i]; late == nil && v.conn.vol.Space().Free <= before.Free {
			late = v
		}
	}
	then[late.m.index] += took // as if it had what it has when the others had less
	at := late.conn.position()
	var got chain.Space
	for range 100 { // a txg that ends meanwhile has it level again
		late.conn.setPosition(Position{T: at.T - 1, H: at.H})
		late.m.level.Store(&then)
		if got = e.space(); got.Free == before.Free-took {
			break
		}
		<-time.After(time.Millisecond)
	}
	late.conn.setPosition(at)
	if got.Free != before.Free-took || got.Whole > got.Free {
		t.Errorf("%d free, %d of them whole; it was %d, and others took %d since", got.Free, got.Whole, before.Free, took)
	}
	if got := e.space(); got.Free <= before.Free-took {
		t.Errorf("%d free when it has all, %d before", got.Free, before.Free)
	}
	check(t, p.Close(c.ctx))
}

// What a master that lacks something will need is what it had, and what others took
// since: also where members hold other things beside the filesystem.
func TestNeededWhenLevel(t *testing.T) {
	for _, x := range []struct {
		what string
		then usage // nil: the last of the members, number 2, was not level yet
		now  usage
		lost bool // it is copied anew
		want uint64
	}{
		{"they took 10 more", usage{0: 50, 1: 52, 2: 51}, usage{0: 60, 1: 62}, false, 61},
		{"they hold more beside it", usage{0: 500, 1: 700, 2: 51}, usage{0: 510, 1: 710}, false, 61},
		{"it holds more beside it", usage{0: 50, 1: 52, 2: 300}, usage{0: 60, 1: 62}, false, 310},
		{"only the fuller one is level now", usage{0: 50, 1: 700, 2: 51}, usage{1: 710}, false, 61},
		{"one of them was freed meanwhile", usage{0: 50, 1: 52, 2: 51}, usage{0: 60, 1: 42}, false, 41},
		{"files were removed", usage{0: 50, 1: 52, 2: 51}, usage{0: 5, 1: 7}, false, 6},
		{"more than it had was freed", usage{0: 500, 2: 51}, usage{0: 5}, false, 0},
		{"those that it knew are away", usage{0: 50, 2: 51}, usage{1: 80}, false, 80},
		{"never level", nil, usage{0: 60, 1: 62}, false, 60},
		{"copied anew", usage{0: 50, 1: 52, 2: 300}, usage{0: 60, 1: 62}, true, 60},
	} {
		v := memberView{m: &member{index: 2}, master: !x.lost}
		if x.then != nil {
			v.m.level.Store(&x.then)
		}
		if got := x.now.needed(v); got != x.want {
			t.Errorf("%s: %d, want %d", x.what, got, x.want)
		}
	}
}
