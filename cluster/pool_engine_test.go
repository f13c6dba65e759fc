package cluster

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// openPool opens the given members, all without any.
func (c *testCluster) openPool(o Options, members ...int) *Pool {
	c.t.Helper()
	if len(members) == 0 {
		for i := range c.disks {
			members = append(members, i)
		}
	}
	var specs []MemberSpec
	for _, i := range members {
		specs = append(specs, c.spec(i))
	}
	o.Label = "HOME"
	p, err := OpenPool(c.ctx, specs, o)
	check(c.t, err)
	return p
}

// The pool over the real protocol: members come and go while it is changed,
// and every two of three have everything afterwards.
func TestPoolOverMembers(t *testing.T) {
	c := newTestCluster(t, 3)
	m := &model{map[string]uint64{}, map[uint64][]byte{}}
	p := c.openPool(Options{Commit: 5 * time.Millisecond})
	r := &modelRun{t: t, p: p, m: m, rng: rand.New(rand.NewPCG(7, 7)), names: modelNames()}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { r.read(stop) })
	for i := range 200 {
		r.step()
		if i%40 == 20 {
			check(t, p.Sync(c.ctx))
		}
		switch i {
		case 60:
			check(t, p.NodeOffline(c.ctx, diskName(0)))
		case 120:
			check(t, p.NodeOnline(c.ctx, diskName(0)))
			check(t, p.Wait(c.ctx, WaitQuorum))
		}
	}
	close(stop)
	wg.Wait()
	check(t, compare(p, m))
	if s := p.Status(); !s.Quorum.Held || len(s.Nodes) != 3 || s.Quorum.Need != 2 {
		t.Errorf("status: %+v", s)
	}
	check(t, p.Close(c.ctx))
	for _, pair := range [][]int{{0, 1, 2}, {0, 1}, {1, 2}} {
		p := c.openPool(Options{}, pair...)
		if err := compare(p, m); err != nil {
			t.Errorf("members %v: %v", pair, err)
		}
		check(t, p.Close(c.ctx))
	}
}

func TestPoolOfOneMember(t *testing.T) {
	c := newTestCluster(t, 1)
	m := &model{map[string]uint64{}, map[uint64][]byte{}}
	for life := range 3 {
		p := c.openPool(Options{})
		r := &modelRun{t: t, p: p, m: m, rng: rand.New(rand.NewPCG(uint64(life), 3)), names: modelNames()}
		for range 60 {
			r.step()
		}
		check(t, p.Close(c.ctx))
		ro := c.openPool(Options{ReadOnly: true})
		check(t, compare(ro, m))
		if _, err := ro.Begin(c.ctx, Cost{}); err != ErrReadOnly {
			t.Errorf("begin on a read-only pool: %v", err)
		}
		check(t, ro.Close(c.ctx))
	}
}
