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
	gone []atomic.Bool  // cannot be opened
	bad  []atomic.Bool  // fails writes
	fuse []atomic.Int64 // writes until all of them fail, up to the next opening; 0 = never
	o    Options        // of the manager
	spy  func(Peers) Peers
	pool *cluster.Pool
	quit func() // ends the manager
	stop func() // and the mount
}

// A fragile device fails writes on demand.
type fragile struct {
	*memdev.Device
	bad  *atomic.Bool
	fuse *atomic.Int64
}

func (f *fragile) WriteAt(p []byte, off int64) (int, error) {
	if n := f.fuse.Load(); n > 1 {
		f.fuse.Add(-1)
	} else if n == 1 {
		return 0, errors.New("write error after some that worked")
	}
	if f.bad.Load() {
		return 0, errors.New("write error on demand")
	}
	return f.Device.WriteAt(p, off)
}

func newBench(t *testing.T, size int64) *bench {
	t.Helper()
	b := &bench{t: t, gone: make([]atomic.Bool, 3), bad: make([]atomic.Bool, 3), fuse: make([]atomic.Int64, 3)}
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
			if b.fuse[i].Load() == 1 {
				b.fuse[i].Store(0)
			}
			return []ondisk.Device{&fragile{b.devs[i], &b.bad[i], &b.fuse[i]}}, nil
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
		peers := Peers(p)
		if b.spy != nil {
			peers = b.spy(p)
		}
		NewManager(peers, b.o).Run(ctx)
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
	// What is still under way is closed behind Close.
	for i := range b.devs {
		for {
			if _, err := b.devs[i].ReadAt(make([]byte, 1), 0); err != nil {
				break
			}
			select {
			case <-time.After(time.Millisecond):
			case <-b.ctx().Done():
				b.t.Fatalf("member %d is not closed", i)
			}
		}
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

// syncOn syncs until that member has what the others cannot take.
func (b *bench) syncOn(member string) {
	b.t.Helper()
	at := func() string {
		for _, n := range b.pool.Status().Nodes {
			if n.Name == member {
				return n.T
			}
		}
		b.t.Fatalf("no member %s", member)
		return ""
	}
	before := at()
	ctx, cancel := context.WithCancel(b.ctx())
	result := make(chan error, 1)
	go func() { result <- b.pool.Sync(ctx) }()
	for changed := b.pool.Changed(); at() == before && ctx.Err() == nil; changed = b.pool.Changed() {
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		}
	}
	cancel()
	if err := <-result; err == nil {
		b.t.Fatal("sync succeeded without a majority")
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
func (b *bench) content(i int) map[string]string { return b.contentOf(i, label) }

func (b *bench) contentOf(i int, label string) map[string]string {
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
