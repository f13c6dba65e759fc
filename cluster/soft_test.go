package cluster

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

func nodeNamed(t *testing.T, p *Pool, name string) NodeStatus {
	t.Helper()
	for _, n := range p.Status().Nodes {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("no node %s", name)
	return NodeStatus{}
}

func untilNode(t *testing.T, p *Pool, name string, ok func(n NodeStatus) bool) NodeStatus {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		n := nodeNamed(t, p, name)
		if ok(n) {
			return n
		}
		if time.Now().After(end) {
			t.Fatalf("%s stays %+v", name, n)
		}
		select {
		case <-p.Changed():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func inSync(n NodeStatus) bool { return n.State == NodeInSync }

// A soft slave is read first, counts for nothing, is missed by nobody, and
// leaves with all that was written.
func TestSoftSlave(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3, ondisk.PFSSoftSlave)
	begin := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	var hours atomic.Int64
	clock := func() time.Time { return begin.Add(time.Duration(hours.Load()) * time.Hour) }
	p := c.openPool(Options{Now: clock}, 0, 1, 2, 3)
	for i := range 3 { // one of them may have been late for the election
		untilNode(t, p, diskName(i), inSync)
	}
	untilNode(t, p, "d.img", func(n NodeStatus) bool { return inSync(n) && n.Focus })
	if st := p.Status(); st.Quorum.Masters != 3 || st.Quorum.Need != 2 {
		t.Fatalf("it counts: %+v", st.Quorum)
	}
	hours.Add(1)
	makeFile(t, p, ondisk.InumRoot, "last", ondisk.ObjFile)
	check(t, p.NodeOffline(c.ctx, "d.img"))
	if n := nodeNamed(t, p, "d.img"); n.T != p.Committed().T.String() || n.State != NodeOffline {
		t.Fatalf("it left at %s (%s), committed is %v", n.T, n.State, p.Committed().T)
	}
	if st := p.Status(); st.Health != PoolHealthy {
		t.Fatalf("without it the pool is %s", st.Health)
	}
	left, at := p.Committed().T, clock()
	hours.Add(1)
	makeFile(t, p, ondisk.InumRoot, "newer", ondisk.ObjFile)
	check(t, p.Close(c.ctx))

	if _, err := OpenPool(c.ctx, []MemberSpec{c.spec(3)}, Options{Label: "HOME"}); !errors.Is(err, ErrSoftAlone) {
		t.Fatalf("alone, for writing: %v", err)
	}
	p = c.openPool(Options{ReadOnly: true}, 3)
	st := p.Status()
	if st.Shown == nil || st.Shown.T != left.String() || !st.Shown.Time.Equal(at) {
		t.Fatalf("alone it shows %+v, it left at %v, %v", st.Shown, left, at)
	}
	if _, ok, err := p.Lookup(c.ctx, ondisk.InumRoot, "last"); !ok || err != nil {
		t.Fatalf("what was written before it left: %v, %v", ok, err)
	}
	if _, ok, _ := p.Lookup(c.ctx, ondisk.InumRoot, "newer"); ok {
		t.Fatal("it has what was written after it left")
	}
	check(t, p.Close(c.ctx))
}

// Whatever befalls a soft slave, calls go on, and no master looks ill.
func TestSoftSlaveFails(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]faultdev.Rule{
		"reads":  {Do: faultdev.Fail, On: faultdev.Read, Times: faultdev.Always},
		"writes": {Do: faultdev.Fail, On: faultdev.Write, Times: faultdev.Always},
		"full":   {Do: faultdev.Full, On: faultdev.Write, Times: faultdev.Always},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTestCluster(t, 3, ondisk.PFSSoftSlave)
			p := c.openPool(Options{}, 0, 1, 2, 3)
			for i := range 4 {
				untilNode(t, p, diskName(i), inSync)
			}
			c.fault[3].Add(rule)
			for i := range 10 {
				inum := makeFile(t, p, ondisk.InumRoot, string(rune('a'+i)), ondisk.ObjFile)
				write(t, p, inum, 0, make([]byte, 300000))
				mustSync(t, p)
			}
			if st := p.Status(); st.Health != PoolHealthy || st.Quorum.InSync != 3 {
				t.Fatalf("%s, %+v", st.Health, st.Quorum)
			}
			c.fault[3].Clear()
			check(t, p.Close(c.ctx))
		})
	}
}

// Masters that were given and do not answer are not masters that were not given:
// that would be mounted read-only by itself.
func TestSoftSlaveAmongMastersThatHang(t *testing.T) {
	c := newTestCluster(t, 3, ondisk.PFSSoftSlave)
	p := c.openPool(Options{}, 0, 1, 2, 3)
	check(t, p.Wait(c.ctx, WaitHealthy))
	check(t, p.Close(c.ctx))
	release := make(chan struct{})
	specs := []MemberSpec{c.spec(3)}
	for i := range 3 {
		spec := c.spec(i)
		spec.Open = func(context.Context) ([]ondisk.Device, error) {
			<-release
			return nil, errors.New("given up")
		}
		specs = append(specs, spec)
	}
	_, err := OpenPool(c.ctx, specs, Options{Label: "HOME", Deadline: 100 * time.Millisecond})
	close(release)
	if errors.Is(err, ErrSoftAlone) || !errors.Is(err, ErrNoQuorum) || !strings.Contains(err.Error(), "a.img") {
		t.Fatal(err)
	}
}
