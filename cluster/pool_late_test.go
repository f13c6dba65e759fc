package cluster

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// A member that hangs where an inode, a name or the end of a file is read
// held its caller for as long as it hung; and where nothing was written any
// more, since the callers stood, nobody found out.
func TestPoolPassesOverAHungMember(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	var inums []uint64
	for i := range 40 {
		inums = append(inums, makeFile(t, p, ondisk.InumRoot, fmt.Sprint("file", i), ondisk.ObjFile))
		write(t, p, inums[i], 0, bytes.Repeat([]byte("x"), 1000))
	}
	mustSync(t, p)
	untilEqual(t, p.engine.(*engine))
	check(t, p.Close(context.Background()))

	p = c.pool(Options{}) // nothing is in its caches
	untilEqual(t, p.engine.(*engine))
	p.refresh()
	first := p.state.Load().views[0].Node
	c.fault[first].Add(faultdev.Rule{Do: faultdev.Hang, On: faultdev.Read, Times: faultdev.Always})
	held := time.AfterFunc(10*time.Second, func() {
		c.fault[first].Clear()
		c.fault[first].Release()
	})
	for i, inum := range inums {
		if d, ok, err := p.Lookup(c.ctx, ondisk.InumRoot, fmt.Sprint("file", i)); err != nil || !ok || d.Inum != inum {
			t.Fatalf("lookup: %v %v %v", d, ok, err)
		}
		if in, ok, err := p.Inode(c.ctx, inum); err != nil || !ok || in.Meta.Size != 1000 {
			t.Fatalf("inode: %v %v", ok, err)
		}
	}
	write(t, p, inums[0], 100000, []byte("behind the end")) // reads the block at the end
	n := 0
	check(t, p.ReadDir(c.ctx, ondisk.InumRoot, 0, func(ondisk.Dirent) bool { n++; return true }))
	if n != len(inums) {
		t.Errorf("%d names of %d", n, len(inums))
	}
	if !held.Stop() {
		t.Error("the callers were held until it answered")
	}
	c.fault[first].Clear()
	c.fault[first].Release()
	check(t, p.Close(context.Background()))
}

// What two masters have wrong was answered with an error while the third, which
// has it right, was a txg behind for a moment.
func TestReadWaitsForALateMember(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{NoLog: true})
	data := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	f := makeFile(t, p, ondisk.InumRoot, "f", ondisk.ObjFile)
	write(t, p, f, 0, data)
	mustSync(t, p)
	check(t, p.Close(context.Background()))

	p = c.pool(Options{NoLog: true}) // nothing is in its caches
	untilEqual(t, p.engine.(*engine))
	c.fault[1].Add(faultdev.Rule{Do: faultdev.Hang, On: faultdev.Flush, Times: 1})
	makeFile(t, p, ondisk.InumRoot, "g", ondisk.ObjFile)
	mustSync(t, p) // by the two others
	for _, i := range []int{0, 2} {
		c.fault[i].Add(faultdev.Rule{Do: faultdev.Flip, On: faultdev.Read, Times: faultdev.Always})
	}
	for _, v := range p.engine.views() {
		if v.Node == 1 {
			t.Error("the scenario is wrong: nobody is late")
		}
		v.View.Release()
	}
	time.AfterFunc(200*time.Millisecond, c.fault[1].Release)
	if got := readAll(t, p, f, len(data)); !bytes.Equal(got, data) {
		t.Error("wrong data")
	}
	for _, i := range []int{0, 2} {
		c.fault[i].Clear()
	}
	check(t, p.Close(context.Background()))
}
