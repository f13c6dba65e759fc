package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// An extension is a pool of three whose second member gets one more device.
type extension struct {
	*testCluster
	p     *Pool
	opens int
	added *memdev.Device
	own   []faultdev.Rule // for the member's own device while it grows
	other []faultdev.Rule // for the new one
	hit   func() bool     // one of them was applied
}

func newExtension(t *testing.T, base *testCluster) *extension {
	t.Helper()
	c := &testCluster{t: t, ctx: t.Context(), fault: make([]*faultdev.Device, 3), gone: make([]bool, 3)}
	for i, d := range base.disks {
		c.disks = append(c.disks, d.Clone().Named(diskName(i)))
	}
	x := &extension{testCluster: c, added: memdev.New(300 << 20).Named("more.img"), hit: func() bool { return false }}
	var specs []MemberSpec
	for i := range c.disks {
		s := c.spec(i)
		if open := s.Open; i == 1 {
			s.Open = func(ctx context.Context) ([]ondisk.Device, error) {
				x.opens++
				return open(ctx)
			}
		}
		specs = append(specs, s)
	}
	var err error
	x.p, err = OpenPool(c.ctx, specs, Options{Label: "HOME"})
	check(t, err)
	return x
}

// extend adds the device while the faults are there.
func (x *extension) extend(add Addition) error {
	x.fault[1].Add(x.own...)
	if len(x.own) > 0 {
		x.watch(x.fault[1])
	}
	x.own = nil
	_, _, err := x.p.NodeExtend(x.ctx, "b.img", add)
	return err
}

func (x *extension) watch(d *faultdev.Device) {
	before := x.hit
	x.hit = func() bool { return before() || len(d.Log()) > 0 }
}

func (x *extension) addition() Addition {
	return Addition{Name: "more.img", Open: func(context.Context) (ondisk.Device, error) {
		x.added.Reopen()
		d := faultdev.New(x.added)
		if len(x.other) > 0 {
			d.Add(x.other...)
			x.watch(d)
			x.other = nil
		}
		return d, nil
	}}
}

// Whatever fails while a device is added, the member is as before or has it, is
// in sync before long, and can be given the device again without force.
func TestExtendFails(t *testing.T) {
	base := newTestClusterOf(t, 1100<<20, 3)
	content := bytes.Repeat([]byte("anvil "), 50000)
	for _, on := range []faultdev.Op{faultdev.Write, faultdev.Flush} {
		for _, own := range []bool{true, false} {
			for nth := 1; ; nth++ {
				x := newExtension(t, base)
				rule := []faultdev.Rule{{Do: faultdev.Fail, On: on, Nth: nth}}
				if own {
					x.own = rule
				} else {
					x.other = rule
				}
				inum := makeFile(t, x.p, ondisk.InumRoot, "file", ondisk.ObjFile)
				write(t, x.p, inum, 0, content)
				mustSync(t, x.p)
				name := fmt.Sprintf("%v, own device %v", rule[0], own)
				before := x.p.Status()
				err := x.extend(x.addition())
				hit := x.hit()
				if err == nil && hit {
					t.Errorf("%s: no error", name)
				}
				untilEqual(t, x.p.engine.(*engine))
				if has := x.p.Status().Nodes; !named(has, "b.img:more.img") {
					if err == nil || !named(has, "b.img") {
						t.Fatalf("%s: %v: %+v", name, err, has)
					}
					if check(t, x.extend(x.addition())); !named(x.p.Status().Nodes, "b.img:more.img") {
						t.Fatalf("%s: it has no new name", name)
					}
					untilEqual(t, x.p.engine.(*engine))
				}
				if now := x.p.Status(); now.Space.Total != before.Space.Total {
					t.Errorf("%s: the space of the smallest is %d, was %d", name, now.Space.Total, before.Space.Total)
				}
				write(t, x.p, inum, 0, content[:100])
				check(t, x.p.Close(context.Background()))
				x.alone(name, inum, content)
				if !hit {
					break
				}
			}
		}
	}
}

func named(nodes []NodeStatus, name string) bool {
	return slices.ContainsFunc(nodes, func(n NodeStatus) bool { return n.Name == name && n.State == NodeInSync })
}

// alone reads the member that was grown, for itself, and looks whether its device
// alone is refused.
func (x *extension) alone(name string, inum uint64, want []byte) {
	x.t.Helper()
	x.disks[1].Reopen()
	_, err := chain.Open(x.ctx, []ondisk.Device{x.disks[1]}, chain.Options{ReadOnly: true})
	var missing *chain.MissingVolume
	if !errors.As(err, &missing) {
		x.t.Errorf("%s: without the new device: %v", name, err)
	}
	x.disks[1].Reopen()
	x.added.Reopen()
	v, err := chain.Open(x.ctx, []ondisk.Device{x.disks[1], x.added}, chain.Options{ReadOnly: true})
	check(x.t, err)
	defer v.Close()
	view, err := v.View(x.ctx, "HOME")
	check(x.t, err)
	defer view.Release()
	in, ok, err := view.Inode(x.ctx, inum)
	if err != nil || !ok || in.SharedMeta().Size != uint64(len(want)) {
		x.t.Errorf("%s: the file is not there: %v", name, err)
	}
}

// Two ask at once for one more device of a member: the first gets it, and the
// other hears that it is busy, or later that nobody has that name.
func TestExtendTwiceAtOnce(t *testing.T) {
	x := newExtension(t, newTestClusterOf(t, 1100<<20, 3))
	defer x.p.Close(context.Background())
	first := x.addition()
	open, looked, goOn := first.Open, make(chan struct{}), make(chan struct{})
	first.Open = func(ctx context.Context) (ondisk.Device, error) {
		close(looked)
		<-goOn
		return open(ctx)
	}
	done := make(chan error, 1)
	go func() {
		_, _, err := x.p.NodeExtend(x.ctx, "b.img", first)
		done <- err
	}()
	<-looked
	second := Addition{Name: "second.img", Open: func(context.Context) (ondisk.Device, error) {
		return memdev.New(300 << 20).Named("second.img"), nil
	}}
	if _, _, err := x.p.NodeExtend(x.ctx, "b.img", second); err == nil || !strings.Contains(err.Error(), "at this moment") {
		t.Errorf("the second: %v", err)
	}
	close(goOn)
	check(t, <-done)
	if _, _, err := x.p.NodeExtend(x.ctx, "b.img", second); err == nil || !strings.Contains(err.Error(), "no member") {
		t.Errorf("by its old name: %v", err)
	}
	if !named(x.p.Status().Nodes, "b.img:more.img") {
		t.Errorf("%+v", x.p.Status().Nodes)
	}
}

// What is not to be added is refused, and the member stays as it is.
func TestExtendRefused(t *testing.T) {
	x := newExtension(t, newTestClusterOf(t, 1100<<20, 3))
	defer x.p.Close(context.Background())
	try := func(node, want string) {
		t.Helper()
		_, _, err := x.p.NodeExtend(x.ctx, node, x.addition())
		if err == nil || !strings.Contains(err.Error(), want) || x.opens != 1 {
			t.Errorf("%v, opened %d times; want %s", err, x.opens, want)
		}
	}
	try("x.img", "no member")
	put := func(p []byte) {
		x.added.Reopen()
		_, err := x.added.WriteAt(p, 0x438)
		check(t, err)
	}
	put([]byte("\x53\xef"))
	try("b.img", "it carries an ext2, ext3 or ext4 filesystem: nothing was changed; give -f")
	put([]byte("xx"))
	try("b.img", "the device is not empty, and what it carries is not known")
	put(make([]byte, 2))
	large := x.added
	x.added = memdev.New(100 << 20).Named("few.img")
	try("b.img", "at least 136 MiB are needed")
	x.added = large
	check(t, x.p.NodeOffline(x.ctx, "b.img"))
	try("b.img", "it is offline")
	if _, _, err := x.p.NodeGrow(x.ctx, "b.img"); err == nil || !strings.Contains(err.Error(), "it is offline") {
		t.Error(err)
	}
	// What has no reason to show is told without one.
	e := x.p.engine.(*engine)
	e.ask(func() { e.byName("c.img").enter(NodeBranch, "", "") })
	try("c.img", "it is branch: it can be grown when it is back in sync")
	e.ask(func() { e.byName("c.img").enter(NodeInSync, "", "") })
}
