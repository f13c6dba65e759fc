package fs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

const testLabel = "HOME"

// A testPool is a cluster on memory devices, which outlive its pools.
type testPool struct {
	t     testing.TB
	disks []*memdev.Device
	pool  *cluster.Pool
	dir   string
	srv   *Server
}

func newTestPool(t testing.TB, members int, size int64) *testPool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	p := &testPool{t: t, dir: tempDir(t)}
	ctx := context.Background()
	var vols []*chain.Volume
	var roles []ondisk.PFSType
	for i := range members {
		d := memdev.New(size).Named(fmt.Sprintf("m%d", i))
		p.disks = append(p.disks, d)
		_, err := chain.Format(ctx, []ondisk.Device{d}, chain.FormatOptions{Labels: []chain.PFSSpec{{Label: testLabel}}})
		p.check(err)
		v, err := chain.Open(ctx, []ondisk.Device{d}, chain.Options{})
		p.check(err)
		vols, roles = append(vols, v), append(roles, ondisk.PFSMaster)
	}
	p.check(cluster.Found(ctx, vols, testLabel, roles))
	for _, v := range vols {
		p.check(v.Close())
	}
	t.Cleanup(p.umount)
	p.mount(MountOptions{})
	return p
}

func (p *testPool) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// mount opens the pool anew and mounts it.
func (p *testPool) mount(o MountOptions) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var specs []cluster.MemberSpec
	for _, d := range p.disks {
		specs = append(specs, cluster.MemberSpec{Name: d.Name(), Open: func(context.Context) ([]ondisk.Device, error) {
			d.Reopen()
			return []ondisk.Device{d}, nil
		}})
	}
	var err error
	p.pool, err = cluster.OpenPool(ctx, specs, cluster.Options{
		Label: testLabel, ReadOnly: o.ReadOnly, Logger: slog.Default(), Commit: 500 * time.Millisecond,
	})
	p.check(err)
	o.AllowOther = true
	o.Closing = func() error { return p.pool.Close(context.Background()) }
	p.srv, err = Mount(ctx, OnPool(p.pool), p.dir, o)
	p.check(err)
}

func (p *testPool) umount() {
	p.t.Helper()
	if p.srv == nil {
		return
	}
	if err := p.srv.Unmount(); err != nil {
		p.t.Error(err)
	}
	p.srv = nil
}

// remount shows what is on the media.
func (p *testPool) remount() {
	p.t.Helper()
	p.umount()
	p.mount(MountOptions{})
}

func TestPOSIXPool(t *testing.T) {
	p := newTestPool(t, 3, 2<<30)
	runPOSIX(t, p.dir)
	p.remount()
	n := 0
	walk, err := p.pool.Orphans(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	err = walk(context.Background(), func(inum uint64) bool { n++; return true })
	p.check(err)
	list, err := os.ReadDir(p.dir)
	p.check(err)
	if n != 0 || len(list) != 0 {
		t.Errorf("%d orphans and %d names are left", n, len(list))
	}
}

func TestPOSIXPoolAlone(t *testing.T) {
	p := newTestPool(t, 1, 2<<30)
	runPOSIX(t, p.dir)
}
