package scrub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
	resync "github.com/anvilfs/anvilfs/sync"
)

const label = "HOME"

// A rig is a pool over members in memory.
type rig struct {
	*testing.T
	ctx   context.Context
	devs  []*memdev.Device
	pool  *cluster.Pool
	peers Peers // the pool, with what a mount has beside it
	o     Options
	end   error  // what was said to those who waited for the last scrub
	quit  func() // ends the resync of members that were a txg late
	wrap  func(i int, d ondisk.Device) ondisk.Device
}

func newRig(t *testing.T, masters int) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	r := &rig{T: t, ctx: ctx, o: Options{patience: time.Second, pause: 10 * time.Millisecond}}
	var vols []*chain.Volume
	var roles []ondisk.PFSType
	now := time.Now() // as newfs does: the roots are alike
	for i := range masters {
		d := memdev.New(256 << 20).Named(fmt.Sprintf("m%d", i))
		_, err := chain.Format(ctx, []ondisk.Device{d}, chain.FormatOptions{Now: now, Labels: []chain.PFSSpec{{Label: label}}})
		r.must(err)
		r.devs = append(r.devs, d)
		vols, roles = append(vols, r.open(i)), append(roles, ondisk.PFSMaster)
	}
	r.must(cluster.Found(ctx, vols, label, roles))
	for _, v := range vols {
		r.must(v.Close())
	}
	r.mount()
	return r
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// told has fn told of what scrubs find, one thing at a time: lanes run side by side.
func (r *rig) told(fn func(d cluster.Damage, path string, err error)) {
	var mu sync.Mutex
	r.o.Found = func(d cluster.Damage, path string, err error) {
		mu.Lock()
		defer mu.Unlock()
		fn(d, path, err)
	}
}

// until waits for a condition.
func (r *rig) until(ok func() bool) {
	r.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			r.Fatal("it does not come to pass")
		}
	}
}

// open opens a member's volume; nobody else has it.
func (r *rig) open(i int) *chain.Volume {
	r.Helper()
	r.devs[i].Reopen()
	v, err := chain.Open(r.ctx, []ondisk.Device{r.devs[i]}, chain.Options{})
	r.must(err)
	return v
}

func (r *rig) mount() {
	r.Helper()
	var specs []cluster.MemberSpec
	for i, d := range r.devs {
		specs = append(specs, cluster.MemberSpec{Name: fmt.Sprintf("m%d", i), Open: func(context.Context) ([]ondisk.Device, error) {
			d.Reopen()
			if r.wrap != nil {
				return []ondisk.Device{r.wrap(i, d)}, nil
			}
			return []ondisk.Device{d}, nil
		}})
	}
	var err error
	r.pool, err = cluster.OpenPool(r.ctx, specs, cluster.Options{Label: label})
	r.must(err)
	mctx, stop := context.WithCancel(r.ctx)
	var manager sync.WaitGroup
	m := resync.NewManager(r.pool, resync.Options{})
	manager.Go(func() { m.Run(mctx) })
	r.peers = resync.NewMender(r.pool, m)
	r.quit = func() { stop(); manager.Wait() }
	wctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	if err := r.pool.Wait(wctx, cluster.WaitHealthy); err != nil {
		r.Fatalf("%v: %+v", err, r.pool.Status().Nodes)
	}
}

func (r *rig) unmount() {
	r.Helper()
	r.quit()
	r.must(r.pool.Close(r.ctx))
}

func content(i int) []byte {
	b := make([]byte, 150_000)
	for k := range b {
		b[k] = byte(k*i + k>>8 + k>>16)
	}
	return b
}

// fill makes files f0, f1, ... of three blocks each.
func (r *rig) fill(files int) (inums []uint64) {
	r.Helper()
	for i := range files {
		t, err := r.pool.Begin(r.ctx, cluster.Cost{Bytes: 200_000, Leaves: 10})
		r.must(err)
		inum := t.NewInum()
		meta := ondisk.NewInodeMeta(inum, ondisk.ObjFile)
		meta.Nlinks, meta.Size, meta.Iparent = 1, 150_000, ondisk.InumRoot
		meta.CompAlgo, meta.CheckAlgo = uint8(ondisk.CompNone), uint8(ondisk.CheckXXHash64)
		t.PutInode(&cluster.Inode{Meta: meta})
		r.must(t.AddDirent(ondisk.InumRoot, fmt.Sprint("f", i), inum, ondisk.ObjFile))
		r.must(t.WriteData(r.ctx, inum, 0, content(i)))
		t.End()
		inums = append(inums, inum)
	}
	r.must(r.pool.Sync(r.ctx))
	r.until(func() bool { // else a lane verifies what its member has so far
		nodes := r.pool.Status().Nodes
		return !slices.ContainsFunc(nodes, func(n cluster.NodeStatus) bool { return n.Lag > 0 })
	})
	return inums
}

// block is where a member has a file's block.
func (r *rig) block(member int, pfs string, inum, key uint64) ondisk.Blockref {
	r.Helper()
	v := r.open(member)
	view, err := v.View(r.ctx, pfs)
	r.must(err)
	var ref ondisk.Blockref
	r.must(view.DataRefs(r.ctx, inum, key, key+1, func(b *ondisk.Blockref) bool { ref = *b; return false }))
	view.Release()
	r.must(v.Close())
	if ref.DataOff == 0 {
		r.Fatalf("inode %d has no block at %d", inum, key)
	}
	return ref
}

// flip damages a block of a member.
func (r *rig) flip(member int, ref ondisk.Blockref) {
	r.Helper()
	r.devs[member].Reopen()
	b := make([]byte, 512)
	_, err := r.devs[member].ReadAt(b, int64(ref.Off()))
	r.must(err)
	b[100] ^= 0x10
	_, err = r.devs[member].WriteAt(b, int64(ref.Off()))
	r.must(err)
	r.must(r.devs[member].Flush())
}

// scrub runs one to its end.
func (r *rig) scrub() Report {
	r.Helper()
	m := NewManager(r.peers, r.o)
	r.must(m.Start(0))
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	r.end = m.Wait(r.ctx)
	cancel()
	<-done
	return m.Report()
}

// alone checks that every member has all files by itself.
func (r *rig) alone(inums []uint64) {
	r.Helper()
	for m := range r.devs {
		v := r.open(m)
		view, err := v.View(r.ctx, label)
		r.must(err)
		for i, inum := range inums {
			got := make([]byte, 150_000)
			if err := view.ReadData(r.ctx, inum, 0, got); err != nil || !bytes.Equal(got, content(i)) {
				r.Errorf("member %d, file %d: wrong (%v)", m, i, err)
			}
		}
		view.Release()
		r.must(v.Close())
	}
}

func TestScrubOfGoodCopies(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(30)
	rep := r.scrub()
	if rep.Phase != Done || rep.Bad+rep.Differing+rep.Unrepaired != 0 || len(rep.Lanes) != 3 {
		t.Errorf("%+v", rep)
	}
	if rep.Bytes < 3*30*150_000 || rep.Compared < 2*30*4 {
		t.Errorf("too little: %+v, nodes %+v", rep, r.pool.Status().Nodes)
	}
	r.unmount()
	r.alone(inums)
}

// A copy that was not there is not verified, and that is not passed over.
func TestScrubTellsWhoWasAway(t *testing.T) {
	r := newRig(t, 3)
	r.fill(3)
	r.must(r.pool.Sync(r.ctx))
	r.must(r.pool.NodeOffline(r.ctx, "m1"))
	rep := r.scrub()
	if len(rep.Absent) != 1 || rep.Absent[0].Node != "m1" || rep.Absent[0].State != cluster.NodeOffline || len(rep.Lanes) != 2 || rep.Unrepaired != 0 {
		t.Errorf("%+v", rep)
	}
	if r.end == nil || !strings.Contains(r.end.Error(), "m1: it was offline") {
		t.Errorf("who waited for it heard %v", r.end)
	}
	r.unmount()
}

func TestScrubRepairs(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(30)
	r.unmount()
	for i, inum := range inums[:20] {
		m := i % 3
		r.flip(m, r.block(m, label, inum, uint64(i%3)<<16))
	}
	r.mount()
	rep := r.scrub()
	if rep.Phase != Done || rep.Bad != 20 || rep.Repaired != 20 || rep.Unrepaired != 0 || r.end != nil {
		t.Errorf("%+v", rep)
	}
	r.unmount()
	r.alone(inums)
}

// A copy that is intact and not what the others have: a write was lost.
func TestScrubOverwritesTheMinority(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(10)
	r.unmount()
	for member := range 3 { // the one that all are compared with, too, and the one that is read
		v := r.open(member)
		txn, err := v.Begin(r.ctx)
		r.must(err)
		view, err := txn.View(r.ctx, label)
		r.must(err)
		own, _, err := cluster.Leaf{Inum: inums[member], Key: 1 << 16, Kind: ondisk.TypeData}.Fetch(r.ctx, view)
		r.must(err)
		other, _, err := cluster.Leaf{Inum: inums[7], Key: 1 << 16, Kind: ondisk.TypeData}.Fetch(r.ctx, view)
		r.must(err)
		at := view.T()
		view.Release()
		other.Inum, other.ModifyTid = own.Inum, own.ModifyTid
		r.must(txn.Apply(r.ctx, label, &chain.Batch{T: at, Changes: []chain.Change{other}}))
		r.must(txn.Commit(r.ctx))
		r.must(v.Close())
	}
	r.mount()
	rep := r.scrub()
	if rep.Phase != Done || rep.Bad != 0 || rep.Differing != 3 || rep.Repaired != 3 || rep.Unrepaired != 0 {
		t.Errorf("%+v", rep)
	}
	for i, inum := range inums { // readers had the wrong copy until then
		got := make([]byte, 150_000)
		r.until(func() bool {
			r.must(r.pool.ReadData(r.ctx, inum, 0, got))
			return bytes.Equal(got, content(i))
		})
	}
	if rep := r.scrub(); rep.Differing != 0 {
		t.Errorf("again: %+v", rep)
	}
	r.unmount()
	r.alone(inums)
}

// A node that once had a txg which was not committed has seen higher inode
// numbers: that is no difference, and nothing to repair again and again.
func TestScrubAllowsNumbersSeen(t *testing.T) {
	r := newRig(t, 3)
	r.fill(3)
	r.unmount()
	v := r.open(1)
	txn, err := v.Begin(r.ctx)
	r.must(err)
	r.must(txn.SetPFS(r.ctx, label, func(m *ondisk.InodeMeta) { m.PFSInum += 5 }))
	r.must(txn.Commit(r.ctx))
	r.must(v.Close())
	r.mount()
	if rep := r.scrub(); rep.Phase != Done || rep.Compared == 0 || rep.Differing+rep.Repaired+rep.Unrepaired != 0 {
		t.Errorf("%+v", rep)
	}
	r.unmount()
}

// Two copies that differ: nobody knows which is right, so both stay.
func TestScrubLeavesATieAlone(t *testing.T) {
	r := newRig(t, 2)
	inums := r.fill(5)
	r.unmount()
	v := r.open(1)
	txn, err := v.Begin(r.ctx)
	r.must(err)
	view, err := txn.View(r.ctx, label)
	r.must(err)
	rec, ok, err := view.Inode(r.ctx, inums[3])
	if err != nil || !ok {
		r.Fatal(ok, err)
	}
	meta := rec.Meta
	meta.Mode ^= 0o111
	b := &chain.Batch{T: view.T(), Changes: []chain.Change{{Inum: inums[3], Kind: chain.KindInode, Inode: &meta, ModifyTid: rec.Ref.ModifyTid}}}
	view.Release()
	r.must(txn.Apply(r.ctx, label, b))
	r.must(txn.Commit(r.ctx))
	r.must(v.Close())
	r.mount()
	var told []string
	r.told(func(d cluster.Damage, path string, err error) {
		told = append(told, fmt.Sprint(d.Node, " ", path, " ", err))
	})
	rep := r.scrub()
	if rep.Phase != Done || rep.Differing != 1 || rep.Repaired != 0 || rep.Unrepaired != 1 || len(rep.Lost) != 1 || rep.Lost[0].Path != "/f3" {
		t.Errorf("%+v", rep)
	}
	d := (&place{inum: inums[3], kind: chain.KindInode}).damage("m1")
	if err := r.pool.Repair(r.ctx, d); !errors.Is(err, cluster.ErrNotRepaired) {
		t.Errorf("repair of a tie: %v", err)
	}
	if r.end == nil || !strings.Contains(r.end.Error(), "left 1 bad") {
		t.Errorf("who waited for it heard %v", r.end)
	}
	if len(told) != 1 || !strings.Contains(told[0], "/f3") || !strings.Contains(told[0], "majority") {
		t.Errorf("told %q", told)
	}
	r.unmount()
}

// Data that only a snapshot refers to is verified and mended too.
func TestScrubOfASnapshot(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(6)
	_, err := r.pool.SnapshotCreate(r.ctx, "old", false)
	r.must(err)
	for _, inum := range inums {
		tx, err := r.pool.Begin(r.ctx, cluster.Cost{Bytes: 200_000, Leaves: 10})
		r.must(err)
		r.must(tx.WriteData(r.ctx, inum, 0, content(77)))
		tx.End()
	}
	r.must(r.pool.Sync(r.ctx))
	pfs := ""
	for _, n := range r.pool.ScrubNodes() {
		infos, err := n.Volume.PFSs(r.ctx)
		r.must(err)
		for i := range infos {
			if strings.Contains(infos[i].Label, "old") {
				pfs = infos[i].Label
			}
		}
	}
	r.unmount()
	for m := range 3 {
		r.flip(m, r.block(m, pfs, inums[m], 0))
	}
	r.flip(1, r.block(1, pfs, inums[0], 0)) // on two of three
	r.mount()
	rep := r.scrub()
	if rep.Phase != Done || rep.Bad != 4 || rep.Repaired != 4 || rep.Unrepaired != 0 {
		t.Errorf("%+v", rep)
	}
	r.unmount()
	for m := range 3 {
		v := r.open(m)
		view, err := v.View(r.ctx, pfs)
		r.must(err)
		for i, inum := range inums {
			got := make([]byte, 150_000)
			if err := view.ReadData(r.ctx, inum, 0, got); err != nil || !bytes.Equal(got, content(i)) {
				t.Errorf("member %d, file %d of the snapshot: wrong (%v)", m, i, err)
			}
		}
		view.Release()
		r.must(v.Close())
	}
}

// swap gives a block of one file the content of another's, in a PFS of one
// member: intact, and not what the others have.
func (r *rig) swap(member int, pfs string, own, other uint64) {
	r.Helper()
	v := r.open(member)
	txn, err := v.Begin(r.ctx)
	r.must(err)
	view, err := txn.View(r.ctx, pfs)
	r.must(err)
	mine, _, err := cluster.Leaf{Inum: own, Key: 1 << 16, Kind: ondisk.TypeData}.Fetch(r.ctx, view)
	r.must(err)
	c, _, err := cluster.Leaf{Inum: other, Key: 1 << 16, Kind: ondisk.TypeData}.Fetch(r.ctx, view)
	r.must(err)
	at := view.T()
	view.Release()
	c.Inum, c.ModifyTid = mine.Inum, mine.ModifyTid
	r.must(txn.Apply(r.ctx, pfs, &chain.Batch{T: at, Changes: []chain.Change{c}}))
	r.must(txn.Commit(r.ctx))
	r.must(v.Close())
}

// Copies of snapshots that are intact and differ: the minority is overwritten
// there, too, and what snapshots have in common is compared once.
func TestScrubComparesSnapshots(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(300)
	for i := range 6 {
		_, err := r.pool.SnapshotCreate(r.ctx, fmt.Sprint("s", i), false)
		r.must(err)
	}
	r.unmount()
	r.mount()
	rep := r.scrub()
	if rep.Phase != Done || rep.Differing != 0 || rep.Snapshots != 6 || rep.Compared > 2*2*2000 {
		t.Errorf("%+v", rep)
	}
	r.unmount()
	r.swap(0, "s1", inums[3], inums[9]) // the one that all are compared with
	r.swap(2, "s1", inums[5], inums[9])
	r.swap(2, "s4", inums[5], inums[8])
	r.swap(1, label, inums[5], inums[8])
	r.mount()
	names, err := r.pool.SnapshotNames(r.ctx)
	r.must(err)
	old, err := r.pool.OpenSnapshot(r.ctx, names[1])
	r.must(err)
	got := make([]byte, 150_000)
	r.must(old.ReadData(r.ctx, inums[3], 0, got))
	rep = r.scrub()
	r.until(func() bool { // or who had it open reads what was there for ever
		return old.ReadData(r.ctx, inums[3], 0, got) == nil && bytes.Equal(got, content(3))
	})
	r.must(old.Close(r.ctx))
	if rep.Phase != Done || rep.Bad != 0 || rep.Differing != 4 || rep.Repaired != 4 || rep.Unrepaired != 0 {
		t.Errorf("%+v", rep)
	}
	if rep := r.scrub(); rep.Differing != 0 || rep.Bad != 0 {
		t.Errorf("again: %+v", rep)
	}
	r.unmount()
	r.alone(inums)
	for m := range 3 {
		v := r.open(m)
		for s := range 6 {
			view, err := v.View(r.ctx, fmt.Sprint("s", s))
			r.must(err)
			for i, inum := range inums[:10] {
				got := make([]byte, 150_000)
				if err := view.ReadData(r.ctx, inum, 0, got); err != nil || !bytes.Equal(got, content(i)) {
					t.Errorf("member %d, snapshot %d, file %d: wrong (%v)", m, s, i, err)
				}
			}
			view.Release()
		}
		r.must(v.Close())
		report, err := fsck.Check(r.ctx, []ondisk.Device{r.devs[m].Clone()}, fsck.Options{})
		r.must(err)
		for _, f := range report.Findings {
			if f.Severity > fsck.Info {
				t.Errorf("member %d: %v", m, f)
			}
		}
	}
}

// A scrub that a restart interrupts goes on where it was; commands work on it.
func TestScrubGoesOn(t *testing.T) {
	r := newRig(t, 3)
	r.fill(40)
	var kept atomic.Pointer[[]byte]
	r.o.Save = func(s *State) error {
		text, err := json.Marshal(s)
		kept.Store(&text)
		return err
	}
	m := NewManager(r.pool, r.o)
	if err := m.Wait(r.ctx); err == nil {
		t.Error("there was a scrub to wait for")
	}
	if err := m.Pause(); !errors.Is(err, ErrNone) {
		t.Errorf("pause of nothing: %v", err)
	}
	if err := m.Start(11); err == nil {
		t.Error("tranquility 11 was taken")
	}
	r.must(m.Start(0))
	if err := m.Start(0); !errors.Is(err, ErrRunning) {
		t.Errorf("a second start: %v", err)
	}
	r.must(m.Pause())
	if err := m.Start(0); !errors.Is(err, ErrPaused) {
		t.Errorf("a start of what is paused: %v", err) // who waits for it would do so for ever
	}
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	r.until(func() bool { return kept.Load() != nil })
	if rep := m.Report(); rep.Phase != Paused || rep.Bytes != 0 {
		t.Errorf("paused: %+v", rep)
	}
	cancel()
	<-done
	var state State
	r.must(json.Unmarshal(*kept.Load(), &state))
	if state.Report.Phase != Paused || len(state.Lanes) != 3 {
		t.Fatalf("kept: %s", *kept.Load())
	}
	state.Lanes["m0"].Done = true // as if it had come so far
	state.Lanes["m0"].Report.Bytes = 12345
	r.o.Load = func() *State { return &state }
	m = NewManager(r.pool, r.o)
	ctx, cancel = context.WithCancel(r.ctx)
	defer cancel()
	done = make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	r.until(func() bool { return m.Resume() == nil })
	r.until(func() bool { return m.Report().Phase == Done })
	rep := m.Report()
	if rep.Lanes[0].Bytes != 12345 || rep.Lanes[1].Bytes < 40*150_000 {
		t.Errorf("%+v", rep)
	}
	r.must(m.Start(MaxTranquility))
	r.must(m.Pace(3))
	if got := m.Report().Tranquility; got != 3 {
		t.Errorf("tranquility %d after another pace", got)
	}
	if err := m.Pace(11); err == nil {
		t.Error("tranquility 11 was taken as another pace")
	}
	r.must(m.Stop())
	if err := m.Wait(r.ctx); err == nil || m.Report().Phase != Stopped {
		t.Errorf("stopped: %v, %+v", err, m.Report())
	}
	cancel()
	<-done
	r.unmount()
}

// A schedule counts from its first mount, not from each: what is mounted anew
// every day is scrubbed all the same.
func TestScheduleOutlivesMounts(t *testing.T) {
	r := newRig(t, 3)
	r.fill(3)
	var kept *State
	r.o.Every = time.Hour
	r.o.Save = func(s *State) error { kept = s; return nil }
	run := func(until func(*Manager) bool) {
		m := NewManager(r.pool, r.o)
		ctx, cancel := context.WithCancel(r.ctx)
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		r.until(func() bool { return until(m) })
		cancel()
		<-done
	}
	run(func(m *Manager) bool { return time.Until(m.Report().Next) > 59*time.Minute && m.Report().Phase == Idle })
	kept.Since = kept.Since.Add(-time.Hour) // an hour later
	first := *kept
	r.o.Load = func() *State { return &first }
	run(func(m *Manager) bool { return m.Report().Phase == Done })
	if !kept.Since.Equal(first.Since) {
		t.Errorf("the schedule began %v, now %v", first.Since, kept.Since)
	}
	r.unmount()
}

// What was bad in a snapshot is gone with it.
func TestRepairOfASnapshotThatIsGone(t *testing.T) {
	r := newRig(t, 3)
	r.fill(2)
	_, err := r.pool.SnapshotCreate(r.ctx, "old", false)
	r.must(err)
	r.must(r.pool.Wait(r.ctx, cluster.WaitSnapshots))
	d := cluster.Damage{Node: "m0", Label: "old", Leaf: cluster.Leaf{Inum: ondisk.InumRoot, Kind: ondisk.TypeIndirect}}
	r.must(r.pool.Repair(r.ctx, d)) // it can be read
	r.must(r.pool.SnapshotDelete(r.ctx, "old"))
	r.must(r.pool.Wait(r.ctx, cluster.WaitSnapshots))
	r.must(r.pool.Repair(r.ctx, d))
}
