package cluster

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

func (c *testCluster) pool(o Options) *Pool {
	c.t.Helper()
	o.Label = "HOME"
	var specs []MemberSpec
	for i := range c.disks {
		specs = append(specs, c.spec(i))
	}
	p, err := OpenPool(c.ctx, specs, o)
	check(c.t, err)
	return p
}

// The pool over the real engine, through a failing member, a mount without
// one, and each member's data read for itself.
func TestPoolOnEngine(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	content := bytes.Repeat([]byte("anvil "), 50000)
	inums := make(map[string]uint64)
	for i := range 5 {
		name := fmt.Sprint("file", i)
		inums[name] = makeFile(t, p, ondisk.InumRoot, name, ondisk.ObjFile)
		write(t, p, inums[name], 0, content)
		if i == 2 {
			c.fault[1].Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Flush})
		}
		mustSync(t, p)
	}
	untilEqual(t, p.engine.(*engine))
	check(t, p.Close(context.Background()))

	for without := range 3 {
		c.gone = make([]bool, 3)
		c.gone[without] = true
		p = c.pool(Options{})
		for name, inum := range inums {
			d, ok, err := p.Lookup(c.ctx, ondisk.InumRoot, name)
			if err != nil || !ok || d.Inum != inum {
				t.Fatalf("%s: %v %v %v", name, d, ok, err)
			}
			got := make([]byte, len(content))
			check(t, p.ReadData(c.ctx, inum, 0, got))
			if !bytes.Equal(got, content) {
				t.Errorf("%s differs without member %d", name, without)
			}
		}
		check(t, p.Close(context.Background()))
	}
}

// What was synced is read while it is in the logs only, and is in the trees when
// Settle returns.
func TestSettle(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	inum := makeFile(t, p, ondisk.InumRoot, "file", ondisk.ObjFile)
	var content []byte
	for i := range 5 {
		piece := bytes.Repeat([]byte{'a' + byte(i)}, 1000)
		write(t, p, inum, uint64(len(content)), piece)
		content = append(content, piece...)
		check(t, p.Sync(c.ctx))
		if p.state.Load().logged == nil {
			t.Fatal("a small txg that somebody waits for is not logged")
		}
		got := make([]byte, len(content))
		check(t, p.ReadData(c.ctx, inum, 0, got))
		if !bytes.Equal(got, content) {
			t.Fatalf("after %d syncs the file is another one", i+1)
		}
	}
	check(t, p.Settle(c.ctx))
	if p.state.Load().logged != nil {
		t.Error("something is in the log only")
	}
	untilEqual(t, p.engine.(*engine))
	check(t, p.Close(context.Background()))
}

// Whoever reads after a copy was overwritten gets the right one, on each member.
func TestOverwriteIsSeen(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	e := p.engine.(*engine)
	data := bytes.Repeat([]byte("abcdefgh"), 2000)
	check(t, commitOn(e, c.ctx, blockFile(t, e.nextT(), 2000, data)))
	untilEqual(t, e)
	p.refresh()
	for i := range 20 {
		want := bytes.Repeat([]byte{'A' + byte(i)}, len(data))
		change := blockFile(t, e.committed().T, 2000, want).Changes[1]
		node := e.attached()[i%3].report.Name
		check(t, p.Overwrite(c.ctx, node, "another", change, func(*chain.View) (bool, error) { return true, nil }))
		p.stateMu.Lock()
		for _, v := range p.state.Load().views {
			got := make([]byte, len(want))
			if err := v.View.ReadData(c.ctx, 2000, 0, got); v.Name == node && (err != nil || !bytes.Equal(got, want)) {
				t.Errorf("round %d: a reader gets the old copy of %s: %v", i, node, err)
			}
		}
		p.stateMu.Unlock()
	}
	check(t, p.Close(context.Background()))
}
