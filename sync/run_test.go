package resync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

const label = "HOME"

// A bench is a cluster of three members in memory.
type bench struct {
	t    *testing.T
	devs []*memdev.Device
	gone []atomic.Bool // cannot be opened
	bad  []atomic.Bool // fails writes
	pool *cluster.Pool
	quit func() // ends the manager
	stop func() // and the mount
}

// A fragile device fails writes on demand.
type fragile struct {
	*memdev.Device
	bad *atomic.Bool
}

func (f *fragile) WriteAt(p []byte, off int64) (int, error) {
	if f.bad.Load() {
		return 0, errors.New("write error on demand")
	}
	return f.Device.WriteAt(p, off)
}

func newBench(t *testing.T, size int64) *bench {
	t.Helper()
	b := &bench{t: t, gone: make([]atomic.Bool, 3), bad: make([]atomic.Bool, 3)}
	ctx := context.Background()
	var vols []*chain.Volume
	var roles []ondisk.PFSType
	for i := range 3 {
		d := memdev.New(size).Named(fmt.Sprintf("m%d", i))
		b.devs = append(b.devs, d)
		if _, err := chain.Format(ctx, []ondisk.Device{d}, chain.FormatOptions{Labels: []chain.PFSSpec{{Label: label}}}); err != nil {
			t.Fatal(err)
		}
		v, err := chain.Open(ctx, []ondisk.Device{d}, chain.Options{})
		if err != nil {
			t.Fatal(err)
		}
		vols, roles = append(vols, v), append(roles, ondisk.PFSMaster)
	}
	if err := cluster.Found(ctx, vols, label, roles); err != nil {
		t.Fatal(err)
	}
	for i, v := range vols {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		b.devs[i].Reopen()
	}
	return b
}

// mount opens the pool on the members given and starts a manager.
func (b *bench) mount(members ...int) {
	b.t.Helper()
	var specs []cluster.MemberSpec
	for _, i := range members {
		specs = append(specs, cluster.MemberSpec{Name: fmt.Sprintf("m%d", i), Open: func(context.Context) ([]ondisk.Device, error) {
			if b.gone[i].Load() {
				return nil, fs.ErrNotExist
			}
			b.devs[i].Reopen()
			return []ondisk.Device{&fragile{b.devs[i], &b.bad[i]}}, nil
		}})
	}
	log := slog.New(slog.DiscardHandler)
	p, err := cluster.OpenPool(b.ctx(), specs, cluster.Options{Label: label, Logger: log})
	if err != nil {
		b.t.Fatal(err)
	}
	b.pool = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewManager(p, Options{Logger: log}).Run(ctx)
	}()
	b.quit = func() {
		cancel()
		<-done
	}
	b.stop = func() {
		b.quit()
		if err := p.Close(b.ctx()); err != nil {
			b.t.Error("close:", err)
		}
	}
}

// abandon ends a mount that cannot commit what it holds.
func (b *bench) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	b.quit()
	if err := b.pool.Close(ctx); err == nil {
		b.t.Error("close succeeded although changes could not be committed")
	}
}

// has reports whether a member has a PFS whose label begins so.
func (b *bench) has(i int, prefix string) bool {
	b.t.Helper()
	b.devs[i].Reopen()
	v, err := chain.Open(b.ctx(), []ondisk.Device{b.devs[i]}, chain.Options{ReadOnly: true})
	if err != nil {
		b.t.Fatal(err)
	}
	defer v.Close()
	list, err := v.PFSs(b.ctx())
	if err != nil {
		b.t.Fatal(err)
	}
	return slices.ContainsFunc(list, func(p chain.PFSInfo) bool { return strings.HasPrefix(p.Label, prefix) })
}

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	b.t.Cleanup(cancel)
	return ctx
}

// file creates a file of n bytes in the root.
func (b *bench) file(name string, n int, fill byte) uint64 {
	b.t.Helper()
	t, err := b.pool.Begin(b.ctx(), cluster.Cost{Leaves: 4, Bytes: int64(n)})
	if err != nil {
		b.t.Fatal(err)
	}
	defer t.End()
	m := ondisk.NewInodeMeta(t.NewInum(), ondisk.ObjFile)
	m.Nlinks, m.Mode, m.Iparent, m.Size = 1, 0o644, ondisk.InumRoot, uint64(n)
	m.CompAlgo, m.CheckAlgo = uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64)
	t.PutInode(&cluster.Inode{Meta: m})
	if err := t.AddDirent(ondisk.InumRoot, name, m.Inum, ondisk.ObjFile); err != nil {
		b.t.Fatal(err)
	}
	data := make([]byte, n)
	for i := range data {
		data[i] = fill + byte(i*i>>8)
	}
	if err := t.WriteData(b.ctx(), m.Inum, 0, data); err != nil {
		b.t.Fatal(err)
	}
	return m.Inum
}

func (b *bench) remove(name string, inum uint64) {
	b.t.Helper()
	t, err := b.pool.BeginFree(b.ctx())
	if err != nil {
		b.t.Fatal(err)
	}
	defer t.End()
	if err := t.RemoveDirent(ondisk.InumRoot, name); err != nil {
		b.t.Fatal(err)
	}
	t.DeleteInode(inum)
}

func (b *bench) sync() {
	b.t.Helper()
	if err := b.pool.Sync(b.ctx()); err != nil {
		b.t.Fatal("sync:", err)
	}
}

func (b *bench) wait(what string) {
	b.t.Helper()
	if err := b.pool.Wait(b.ctx(), what); err != nil {
		st := b.pool.Status()
		b.t.Fatalf("wait for %s: %v\n%+v", what, err, st)
	}
}

// rest lets all members come to one state.
func (b *bench) rest() {
	b.t.Helper()
	b.sync()
	b.wait("healthy")
}

// content is every leaf of a member, by a walk of its own volume.
func (b *bench) content(i int) map[string]string {
	b.t.Helper()
	ctx := b.ctx()
	b.devs[i].Reopen()
	v, err := chain.Open(ctx, []ondisk.Device{b.devs[i]}, chain.Options{ReadOnly: true})
	if err != nil {
		b.t.Fatal(err)
	}
	defer v.Close()
	w, err := v.View(ctx, label)
	if err != nil {
		b.t.Fatal(err)
	}
	defer w.Release()
	out := map[string]string{"T": w.T().String()}
	err = w.Inodes(ctx, 0, ^uint64(0), func(in *chain.InodeRec) bool {
		data := make([]byte, in.Meta.Size)
		if err := w.ReadData(ctx, in.Meta.Inum, 0, data); err != nil {
			b.t.Fatal(err)
		}
		out[fmt.Sprintf("inode %d", in.Meta.Inum)] = fmt.Sprintf("%v %x %d", in.Meta, bytes.Trim(data, "\x00"), in.Ref.ModifyTid)
		return true
	})
	if err != nil {
		b.t.Fatal(err)
	}
	err = w.Dirents(ctx, ondisk.InumRoot, 0, ^uint64(0), func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
		out["entry "+d.Name] = fmt.Sprint(d.Inum, d.Type, d.Key)
		return true
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// equal demands the same leaves on all members.
func (b *bench) equal() {
	b.t.Helper()
	want := b.content(0)
	if len(want) < 3 {
		b.t.Fatalf("only %d leaves", len(want))
	}
	for i := 1; i < len(b.devs); i++ {
		have := b.content(i)
		if maps.Equal(want, have) {
			continue
		}
		for k := range want {
			if want[k] != have[k] {
				b.t.Errorf("member %d: %s: %.300s\nmember 0: %.300s", i, k, have[k], want[k])
			}
		}
		for k := range have {
			if _, ok := want[k]; !ok {
				b.t.Errorf("member %d has %s", i, k)
			}
		}
	}
}

func TestOfflineAndBack(t *testing.T) {
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	inums := make(map[string]uint64)
	for i := range 300 {
		name := fmt.Sprintf("before%d", i)
		inums[name] = b.file(name, 3000+i, byte(i))
	}
	b.sync()
	if err := b.pool.NodeOffline(b.ctx(), "m1"); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		b.file(fmt.Sprintf("during%d", i), 70000, byte(i))
		if i%10 == 0 {
			b.sync()
		}
	}
	for i := range 50 {
		name := fmt.Sprintf("before%d", i)
		b.remove(name, inums[name])
	}
	b.sync()
	if err := b.pool.NodeOnline(b.ctx(), "m1"); err != nil {
		t.Fatal(err)
	}
	b.wait("healthy")
	b.file("after", 5000, 1)
	b.rest()
	b.stop()
	b.equal()
}

// TestAwayForLong forces a copy: what happened is not retained any more,
// since another mount did it.
func TestAwayForLong(t *testing.T) {
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	first := b.file("first", 200000, 3)
	for i := range 500 {
		b.file(fmt.Sprintf("old%d", i), 1000, byte(i))
	}
	b.stop()
	b.gone[2].Store(true)
	b.mount(0, 1, 2)
	b.remove("first", first)
	for i := range 20 {
		b.file(fmt.Sprintf("new%d", i), 66000, byte(i))
	}
	b.stop()
	b.gone[2].Store(false)
	b.mount(0, 1, 2)
	b.wait("healthy")
	st := b.pool.Status()
	for _, n := range st.Nodes {
		if rep, ok := n.Resync.(Report); ok && n.Name == "m2" {
			if rep.LeavesDone > 200 {
				t.Errorf("%d changes copied for about 65 that were made", rep.LeavesDone)
			}
			t.Logf("copied %d changes, %d bytes, compared %d leaves", rep.LeavesDone, rep.BytesDone, rep.Compared)
		}
	}
	b.stop()
	b.equal()
}

// TestDivergent gives one member a tail that the others never saw: they fail
// when it is written.
func TestDivergent(t *testing.T) {
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	b.file("shared", 70000, 1)
	b.sync()
	b.bad[0].Store(true)
	b.bad[1].Store(true)
	b.file("lost", 70000, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	if err := b.pool.Sync(ctx); err == nil {
		t.Fatal("sync succeeded without a majority")
	}
	cancel()
	b.abandon()
	if st := b.content(2); st["entry lost"] == "" {
		t.Fatal("the scenario is wrong: member 2 has no tail")
	}
	b.bad[0].Store(false)
	b.bad[1].Store(false)
	b.mount(0, 1) // a majority that knows nothing of "lost"
	b.file("kept", 70000, 3)
	b.stop()
	b.mount(0, 1, 2)
	b.rest()
	b.stop()
	b.equal()
	st := b.content(2)
	if st["entry lost"] != "" || st["entry kept"] == "" {
		t.Error("member 2 is not in the state of the majority")
	}
	if !b.has(2, divergedPrefix) {
		t.Error("what only member 2 had was not kept as a snapshot")
	}
}

// TestSourceMoves writes all the time while a member is brought back.
func TestSourceMoves(t *testing.T) {
	b := newBench(t, 512<<20)
	b.mount(0, 1, 2)
	b.file("first", 70000, 1)
	b.stop()
	b.gone[1].Store(true)
	b.mount(0, 1, 2)
	for i := range 400 {
		b.file(fmt.Sprintf("away%d", i), 66000, byte(i))
	}
	b.stop()
	b.gone[1].Store(false)
	b.mount(0, 1, 2)
	for i := 0; ; i++ {
		b.file(fmt.Sprintf("busy%d", i), 10000, byte(i))
		if i%5 == 0 {
			b.sync()
		}
		if st := b.pool.Status(); st.Health == cluster.PoolHealthy && i > 50 {
			break
		}
		if i > 20000 {
			t.Fatal("it never joined")
		}
	}
	b.rest()
	b.stop()
	b.equal()
}
