package cluster

import (
	"bytes"
	"context"
	"fmt"
	"testing"

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
