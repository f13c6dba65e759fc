package cluster

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// What a file takes is not final until it is in the trees, and whoever was told before
// is told of that.
func TestPendingUntilOnTrees(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	defer closePool(t, p)
	var came atomic.Int64
	p.OnTrees(func() { came.Add(1) })
	say(t, p, "f", strings.Repeat("text that compresses ", 10000))
	d, ok, err := p.Lookup(c.ctx, ondisk.InumRoot, "f")
	if check(t, err); !ok {
		t.Fatal("the file is not there")
	}
	if n, err := p.Blocks(c.ctx, d.Inum); err != nil || !p.Pending(d.Inum) || n < 200_000 {
		t.Errorf("in memory it takes %d, pending %v, %v", n, p.Pending(d.Inum), err)
	}
	check(t, p.Settle(c.ctx))
	if n, err := p.Blocks(c.ctx, d.Inum); err != nil || p.Pending(d.Inum) || n > 20_000 {
		t.Errorf("on the media it takes %d, pending %v, %v", n, p.Pending(d.Inum), err)
	}
	if came.Load() == 0 {
		t.Error("nobody was told that it is there")
	}
}
