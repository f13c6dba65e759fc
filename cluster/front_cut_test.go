package cluster

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A written device counts what changes it.
type written struct {
	ondisk.Device
	n atomic.Int64
}

func (d *written) WriteAt(p []byte, off int64) (int, error) {
	d.n.Add(1)
	return d.Device.WriteAt(p, off)
}

func (d *written) Discard(off, n int64) error {
	d.n.Add(1)
	return d.Device.Discard(off, n)
}

// The making of a device a cache is cut everywhere. What is left is a cache, or is
// used and overwritten by nobody who does not force it; forced, it becomes one.
func TestCacheMadeAndCut(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.openPool(Options{})
	base := memdev.New(testVolume)
	_, err := chain.Format(c.ctx, []ondisk.Device{base}, chain.FormatOptions{}) // it holds something else
	check(t, err)
	rec := crashdev.New(base)
	add := func(d ondisk.Device, force bool) error {
		return p.NodeAdd(c.ctx, MemberSpec{Name: "fast", Open: func(context.Context) ([]ondisk.Device, error) { return []ondisk.Device{d}, nil }}, ondisk.PFSCache, force)
	}
	made := 0
	_, err = FormatCache(c.ctx, []ondisk.Device{rec}, "HOME", p.engine.clusterID(), time.Now())
	check(t, err)
	states, last := 0, rec.Events()
	rec.Each(crashdev.Options{Seed: 1, Max: 6}, func(st crashdev.State) bool {
		states++
		d := &written{Device: st.Image}
		err := add(d, false)
		switch {
		case err == nil:
			made++
			check(t, p.NodeRemove(c.ctx, "fast"))
		case st.N == last:
			t.Errorf("%s: it was made, and is none: %v", st.Name, err)
		case d.n.Load() > 0:
			t.Errorf("%s: refused (%v), and changed", st.Name, err)
		}
		if len(p.Status().Caches) > 0 {
			t.Errorf("%s: %+v", st.Name, p.Status().Caches)
		}
		st.Image.Reopen()
		if err := add(st.Image, true); err != nil {
			t.Errorf("%s: forced: %v", st.Name, err)
		}
		check(t, p.NodeRemove(c.ctx, "fast"))
		return !t.Failed()
	})
	if t.Logf("%d of %d images are a cache", made, states); made == 0 || made == states {
		t.Error("it was cut before or after all, not within")
	}
	check(t, p.Close(c.ctx))
}
