package cluster

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// A cache that failed is back by itself when its device is, and is told of once.
func TestCacheComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCacheRig(t)
		c.rules.Store(&faultdev.Rule{On: faultdev.Read, Times: faultdev.Always})
		p := c.open(Options{})
		is := func(want CacheState) CacheStatus {
			t.Helper()
			s := p.Status().Caches[0]
			if s.State != want {
				t.Fatalf("%s, want %s: %s", s.State, want, s.Error)
			}
			return s
		}
		began := is(CacheFailed).Since
		<-time.After(4 * time.Minute)
		if s := is(CacheFailed); s.Since != began {
			t.Errorf("failed again at %v, first at %v", s.Since, began)
		}
		c.rules.Store(nil)
		<-time.After(frontRetryMax)
		is(CacheOn)
		readFiles(t, p, files(t, p, 3))
		c.rules.Store(&faultdev.Rule{On: faultdev.Read, Times: faultdev.Always})
		check(t, p.NodeOffline(t.Context(), "fast"))
		<-time.After(frontRetryMax)
		is(CacheOffline) // by somebody, so for somebody to end
		if err := p.NodeOnline(t.Context(), "fast"); err == nil || !errors.Is(err, faultdev.ErrFault) {
			t.Errorf("a device that fails is on: %v", err)
		}
		c.rules.Store(nil)
		check(t, p.NodeOnline(t.Context(), "fast"))
		is(CacheOn)
		check(t, p.Close(t.Context()))
	})
}

// A device that lost what made it a cache says how it becomes one.
func TestCacheNotFormatted(t *testing.T) {
	c := newCacheRig(t)
	for _, off := range append(ondisk.SlotOffsets(uint64(c.disk.Size())), ondisk.SpareHeader) {
		_, err := c.disk.WriteAt(make([]byte, ondisk.HeaderSize), off)
		check(t, err)
	}
	p := c.open(Options{})
	s := reach(t, p, "failed", func(s CacheStatus) bool { return s.State == CacheFailed })
	if !strings.Contains(s.Error, "--role cache") {
		t.Errorf("no remedy: %s", s.Error)
	}
	check(t, p.Close(c.ctx))
}
