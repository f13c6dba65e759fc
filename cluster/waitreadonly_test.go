package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Of a pool that is open for reading it was said that no majority holds, and who
// waited for what nobody would do there waited in vain.
func TestWaitReadOnly(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	makeFile(t, p, ondisk.InumRoot, "f", ondisk.ObjFile)
	check(t, p.Settle(c.ctx))
	check(t, p.NodeOffline(c.ctx, "c.img"))
	makeFile(t, p, ondisk.InumRoot, "newer", ondisk.ObjFile)
	check(t, p.Close(c.ctx))
	p = c.openPool(Options{ReadOnly: true})
	if n := nodeNamed(t, p, "c.img"); n.State != NodeBehind {
		t.Fatalf("c is %s", n.State)
	}
	if st := p.Status(); !st.Quorum.Held || st.Quorum.InSync != 2 || st.Health != PoolReadOnly {
		t.Errorf("%+v, %s", st.Quorum, st.Health)
	}
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	check(t, p.Wait(ctx, WaitQuorum))
	check(t, p.Wait(ctx, WaitHealthy))
	for _, what := range []string{WaitResync, WaitSnapshots} {
		if err := p.Wait(ctx, what); !errors.Is(err, ErrReadOnly) {
			t.Errorf("wait for %s: %v", what, err)
		}
	}
	check(t, p.Close(c.ctx))
	alone := c.openPool(Options{ReadOnly: true}, 2)
	defer closePool(t, alone)
	if st := alone.Status(); st.Quorum.Held {
		t.Errorf("one of three: %+v", st.Quorum)
	}
}
