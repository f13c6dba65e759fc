package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A cacheRig is a cluster of three masters and a cache.
type cacheRig struct {
	*testCluster
	disk  *memdev.Device
	dev   *faultdev.Device              // of the last open
	rules atomic.Pointer[faultdev.Rule] // of the next, which may be opened at any time; nil = none
}

func newCacheRig(t *testing.T) *cacheRig {
	c := &cacheRig{testCluster: newTestCluster(t, 3), disk: memdev.New(testVolume).Named("fast")}
	e := c.mustStart(Options{})
	_, err := FormatCache(c.ctx, []ondisk.Device{c.disk}, "HOME", e.clusterID(), time.Now())
	check(t, err)
	check(t, e.close(c.ctx))
	return c
}

func (c *cacheRig) cacheSpec() MemberSpec {
	return MemberSpec{Name: "fast", Cache: true, Open: func(context.Context) ([]ondisk.Device, error) {
		c.disk.Reopen()
		c.dev = faultdev.New(c.disk)
		if r := c.rules.Load(); r != nil {
			c.dev.Add(*r)
		}
		return []ondisk.Device{c.dev}, nil
	}}
}

func (c *cacheRig) open(o Options) *Pool {
	c.t.Helper()
	o.Label = "HOME"
	if o.patience == 0 {
		o.patience = 10 * time.Second // the machine may be busy
	}
	p, err := OpenPool(c.ctx, []MemberSpec{c.spec(0), c.cacheSpec(), c.spec(1), c.spec(2)}, o)
	check(c.t, err)
	return p
}

// reach waits until the cache is as ok says.
func reach(t *testing.T, p *Pool, what string, ok func(CacheStatus) bool) CacheStatus {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		list := p.Status().Caches
		if len(list) == 1 && ok(list[0]) {
			return list[0]
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %+v", what, list)
		}
		<-time.After(time.Millisecond)
	}
}

// files writes some, each with content of its own, and returns it.
func files(t *testing.T, p *Pool, n int) map[uint64][]byte {
	t.Helper()
	all := make(map[uint64][]byte)
	rng := rand.NewChaCha8([32]byte{1})
	for i := range n {
		f := makeFile(t, p, ondisk.InumRoot, fmt.Sprintf("f%d", i), ondisk.ObjFile)
		data := make([]byte, 100_000)
		rng.Read(data[:50_000])
		rng.Read(data[90_000:]) // the rest compresses
		write(t, p, f, 0, data)
		all[f] = data
	}
	mustSync(t, p)
	return all
}

func readFiles(t *testing.T, p *Pool, all map[uint64][]byte) {
	t.Helper()
	for f, want := range all {
		got := make([]byte, len(want))
		if err := p.ReadData(context.Background(), f, 0, got); err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("inode %d: wrong bytes", f)
		}
	}
}

// deviceReads is how often members were read from.
func deviceReads(p *Pool) (n uint64) {
	for _, node := range p.Status().Nodes {
		n += node.IO.Read.Count
	}
	return n
}

func TestCacheAnswers(t *testing.T) {
	c := newCacheRig(t)
	p := c.open(Options{})
	reach(t, p, "on", func(s CacheStatus) bool { return s.State == CacheOn && s.Warm })
	all := files(t, p, 30)
	readFiles(t, p, all)
	reach(t, p, "filled", func(s CacheStatus) bool { return s.Blocks >= 60 })
	before := deviceReads(p)
	readFiles(t, p, all)
	if s := p.Status().Caches[0]; s.Hits < 60 || deviceReads(p) != before {
		t.Errorf("%d reads of members although the cache has it all: %+v", deviceReads(p)-before, s)
	}
	for f, data := range all { // what is changed is not taken from the cache
		data[70_000]++
		write(t, p, f, 70_000, data[70_000:70_001])
	}
	mustSync(t, p)
	readFiles(t, p, all)
	check(t, p.Close(c.ctx))

	p = c.open(Options{})
	reach(t, p, "warm", func(s CacheStatus) bool { return s.State == CacheOn && s.Warm && s.Blocks >= 60 })
	readFiles(t, p, all)
	if s := p.Status().Caches[0]; s.Hits < 30 || s.Bad != 0 {
		t.Errorf("after a restart: %+v", s)
	}
	check(t, p.NodeOffline(c.ctx, diskName(0))) // data is the same on all
	hits := p.Status().Caches[0].Hits
	readFiles(t, p, all)
	if now := p.Status().Caches[0].Hits; now < hits+30 {
		t.Errorf("%d hits without the first member", now-hits)
	}
	check(t, p.Close(c.ctx))

	p = c.open(Options{ReadOnly: true})
	readFiles(t, p, all)
	if s := p.Status().Caches[0]; s.State != CacheIdle || s.Hits != 0 {
		t.Errorf("read-only: %+v", s)
	}
	check(t, p.Close(c.ctx))
}

// The device is damaged, pulled, hangs, is replaced, while it is read.
func TestCacheFailsUnderLoad(t *testing.T) {
	for _, f := range []struct {
		name string
		do   func(c *cacheRig, p *Pool)
		want CacheState
	}{
		{"flips", func(c *cacheRig, _ *Pool) {
			c.dev.Add(faultdev.Rule{On: faultdev.Read, Do: faultdev.Flip, Arg: 77, Times: faultdev.Always})
		}, CacheOn},
		{"pulled", func(c *cacheRig, _ *Pool) {
			c.dev.Add(faultdev.Rule{On: faultdev.Read, Times: faultdev.Always})
			c.dev.Add(faultdev.Rule{On: faultdev.Write, Times: faultdev.Always})
		}, CacheFailed},
		{"hangs", func(c *cacheRig, _ *Pool) {
			c.dev.Add(faultdev.Rule{On: faultdev.Read, Do: faultdev.Hang, Times: faultdev.Always})
			c.dev.Add(faultdev.Rule{On: faultdev.Write, Do: faultdev.Hang, Times: faultdev.Always})
		}, CacheHung},
		{"offline", func(c *cacheRig, p *Pool) { check(c.t, p.NodeOffline(c.ctx, "fast")) }, CacheOffline},
	} {
		t.Run(f.name, func(t *testing.T) {
			c := newCacheRig(t)
			c.testCluster.t = t
			p := c.open(Options{Deadline: 2 * time.Second, patience: 20 * time.Millisecond})
			reach(t, p, "on", func(s CacheStatus) bool { return s.State == CacheOn })
			all := files(t, p, 20)
			readFiles(t, p, all)
			reach(t, p, "filled", func(s CacheStatus) bool { return s.Blocks >= 40 })
			// What was filled lately is still in memory: a restart has it read.
			check(t, p.NodeOffline(c.ctx, "fast"))
			check(t, p.NodeOnline(c.ctx, "fast"))
			reach(t, p, "on again", func(s CacheStatus) bool { return s.State == CacheOn && s.Warm && s.Blocks >= 40 })
			var stop atomic.Bool
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					for !stop.Load() {
						readFiles(t, p, all)
					}
				})
			}
			f.do(c, p)
			reach(t, p, f.name, func(s CacheStatus) bool {
				return s.State == f.want && (f.want != CacheOn || s.Bad > 0)
			})
			readFiles(t, p, all)
			stop.Store(true)
			wg.Wait()
			if s := p.Status(); s.Health != PoolHealthy || len(s.Nodes) != 3 {
				t.Errorf("the pool is %s with %d nodes", s.Health, len(s.Nodes))
			}
			c.dev.Release()
			check(t, p.Close(c.ctx))
		})
	}
}

// A device that hangs from the start keeps nobody from mounting or unmounting.
func TestCacheHangsAtOpen(t *testing.T) {
	c := newCacheRig(t)
	c.rules.Store(&faultdev.Rule{On: faultdev.Read, Do: faultdev.Hang, Times: faultdev.Always})
	p := c.open(Options{})
	all := files(t, p, 3)
	readFiles(t, p, all)
	if s := p.Status().Caches[0]; s.State != CacheOpening {
		t.Errorf("%+v", s)
	}
	if err := p.NodeRemove(c.ctx, "fast"); err != nil || len(p.Status().Caches) != 0 {
		t.Errorf("removed: %v, %+v", err, p.Status().Caches)
	}
	check(t, p.Close(c.ctx))
	c.dev.Release()
}

func TestCacheOfOthers(t *testing.T) {
	c := newCacheRig(t)
	p := c.openPool(Options{})
	other := memdev.New(testVolume)
	_, err := FormatCache(c.ctx, []ondisk.Device{other}, "HOME", ondisk.NewUUID(), time.Now())
	check(t, err)
	spec := MemberSpec{Name: "other", Open: func(context.Context) ([]ondisk.Device, error) {
		other.Reopen()
		return []ondisk.Device{other}, nil
	}}
	if err := p.NodeAdd(c.ctx, spec, ondisk.PFSCache, false); err == nil || len(p.Status().Caches) != 0 {
		t.Errorf("the cache of another cluster was taken: %v", err)
	}
	check(t, p.NodeAdd(c.ctx, spec, ondisk.PFSCache, true))
	if err := p.NodeAdd(c.ctx, c.cacheSpec(), ondisk.PFSCache, false); !errors.Is(err, errOneCache) {
		t.Errorf("a second cache: %v", err)
	}
	if err := p.NodeSetRole(c.ctx, "other", ondisk.PFSMaster); err == nil {
		t.Error("a cache became a master")
	}
	check(t, p.NodeRemove(c.ctx, "other"))
	check(t, p.NodeAdd(c.ctx, spec, ondisk.PFSCache, false)) // it is ours now
	all := files(t, p, 3)
	readFiles(t, p, all)
	reach(t, p, "filled", func(s CacheStatus) bool { return s.State == CacheOn && s.Blocks > 0 })
	check(t, p.Close(c.ctx))
	c.disk.Reopen()
	if _, err := OpenPool(c.ctx, []MemberSpec{{Name: "fast", Open: c.cacheSpec().Open}}, Options{Label: "HOME"}); err == nil {
		t.Error("a cache was mounted as a member")
	}
}

// A cache was made of a member that was offline, with force: its copy was lost, and
// the status went on to advise that it be taken online. As a member it is refused.
func TestCacheIsNoMember(t *testing.T) {
	c := newCacheRig(t)
	p := c.open(Options{})
	for _, role := range []ondisk.PFSType{ondisk.PFSMaster, ondisk.PFSCache} {
		if err := p.NodeAdd(c.ctx, c.cacheSpec(), role, true); err == nil {
			t.Errorf("the cache was added as a %v", role)
		}
	}
	if err := p.NodeReplace(c.ctx, "b.img", c.cacheSpec(), true); err == nil {
		t.Error("the cache took the place of a member")
	}
	check(t, p.NodeRemove(c.ctx, "fast"))
	check(t, p.NodeOffline(c.ctx, "b.img"))
	alias := c.spec(1)
	alias.Name = "by-id"
	for _, spec := range []MemberSpec{c.spec(1), alias} {
		if err := p.NodeAdd(c.ctx, spec, ondisk.PFSCache, true); err == nil {
			t.Errorf("%s, the device of a member, became the cache", spec.Name)
		}
		if err := p.NodeAdd(c.ctx, spec, ondisk.PFSMaster, true); err == nil {
			t.Errorf("%s, the device of a member, was added as another", spec.Name)
		}
		if err := p.NodeReplace(c.ctx, "a.img", spec, true); err == nil {
			t.Errorf("%s, the device of a member, took the place of another", spec.Name)
		}
	}
	// The commands in the text are about the member, not about who it was given for.
	err, other := p.NodeReplace(c.ctx, "a.img", alias, true), new(NodeError)
	if !errors.As(err, &other) || other.Node != "b.img" || !strings.Contains(err.Error(), "the copy of b.img") || !strings.Contains(err.Error(), "node online MNT NODE") {
		t.Errorf("%v, about %q", err, other.Node)
	}
	check(t, p.NodeOnline(c.ctx, "b.img"))
	check(t, p.NodeOffline(c.ctx, "b.img"))
	check(t, p.NodeReplace(c.ctx, "b.img", alias, true)) // its own place
	check(t, p.Close(c.ctx))
}

// Symptom: a member that was named as the cache by mistake was to be made a cache, by
// the command that status gave.
func TestMemberNamedAsCache(t *testing.T) {
	c := newCacheRig(t)
	said := func(dev *memdev.Device) string {
		t.Helper()
		spec := MemberSpec{Name: "fast", Cache: true, Open: func(context.Context) ([]ondisk.Device, error) {
			dev.Reopen()
			return []ondisk.Device{dev}, nil
		}}
		p, err := OpenPool(c.ctx, []MemberSpec{c.spec(0), spec, c.spec(1)}, Options{Label: "HOME"})
		check(t, err)
		defer p.Close(c.ctx)
		return reach(t, p, "failed", func(s CacheStatus) bool { return s.State == CacheFailed }).Error
	}
	all := func() []byte {
		b := make([]byte, testVolume)
		c.disks[2].Reopen()
		_, err := c.disks[2].ReadAt(b, 0)
		check(t, err)
		return b
	}
	before := all()
	if got := said(c.disks[2]); !strings.Contains(got, ", a member of this very filesystem") || strings.Contains(got, "node add") {
		t.Error(got)
	}
	if !bytes.Equal(before, all()) {
		t.Error("it was written")
	}
	ext := memdev.New(testVolume)
	_, err := ext.WriteAt([]byte("\x53\xef"), 0x438)
	check(t, err)
	if got := said(ext); !strings.Contains(got, "it carries an ext2, ext3 or ext4 filesystem") || !strings.Contains(got, "-f") {
		t.Error(got)
	}
	other := memdev.New(testVolume)
	_, err = FormatCache(c.ctx, []ondisk.Device{other}, "ELSE", ondisk.NewUUID(), time.Now())
	check(t, err)
	if got := said(other); !strings.Contains(got, "it carries a HAMMER2 volume with a cache of ELSE") {
		t.Error(got)
	}
	if got := said(memdev.New(testVolume)); !strings.Contains(got, "--role cache makes it one") || strings.Contains(got, "-f") {
		t.Error(got)
	}
}
