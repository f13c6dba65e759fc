package cluster

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// A device that hangs while a member grows: who asked is told after the deadline,
// the others go on, and the member is back when the device answers.
func TestExtendHangs(t *testing.T) {
	base := newTestClusterOf(t, 1100<<20, 3)
	for _, c := range []struct {
		name       string
		own, other []faultdev.Rule
		before     bool // the member does not wait for the new device
	}{
		{name: "own, read", own: []faultdev.Rule{{Do: faultdev.Hang, On: faultdev.Read}}},
		{name: "own, write", own: []faultdev.Rule{{Do: faultdev.Hang, On: faultdev.Write}}},
		{name: "own, flush", own: []faultdev.Rule{{Do: faultdev.Hang, On: faultdev.Flush}}},
		{name: "new, read", other: []faultdev.Rule{{Do: faultdev.Hang, On: faultdev.Read}}, before: true},
		{name: "new, write", other: []faultdev.Rule{{Do: faultdev.Hang, On: faultdev.Write}}, before: true},
		{name: "new, last flush", other: []faultdev.Rule{{Do: faultdev.Hang, On: faultdev.Flush, Nth: 5}}},
		{name: "new, opening", before: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newExtension(t, base)
				defer x.p.Close(context.Background())
				content := bytes.Repeat([]byte("anvil "), 5000)
				inum := makeFile(t, x.p, ondisk.InumRoot, "file", ondisk.ObjFile)
				mustSync(t, x.p)
				x.own, x.other = c.own, c.other
				add, goOn := x.addition(), make(chan struct{})
				var other atomic.Pointer[faultdev.Device] // opened late, perhaps
				open := add.Open
				add.Open = func(ctx context.Context) (ondisk.Device, error) {
					if c.own == nil && c.other == nil {
						<-goOn
					}
					d, err := open(ctx)
					if f, ok := d.(*faultdev.Device); ok {
						other.Store(f)
					}
					return d, err
				}
				began := time.Now()
				err := x.extend(add)
				took := time.Since(began)
				if !errors.Is(err, errHangs) || took < defaultHung || took > 2*defaultHung {
					t.Fatalf("after %v: %v", took, err)
				}
				if strings.Contains(err.Error(), "nothing was changed") != c.before && c.own == nil { // others use its own device, too

					t.Errorf("it says: %v", err)
				}
				if !c.before {
					untilNode(t, x.p, "b.img", func(n NodeStatus) bool { return n.State == NodeHung })
				} else if n := x.p.Status().Nodes[1]; n.State != NodeInSync {
					t.Errorf("the member is %s", n.State)
				}
				write(t, x.p, inum, 0, content)
				mustSync(t, x.p)
				close(goOn)
				if f := other.Load(); f != nil {
					f.Release()
				}
				x.fault[1].Release()
				untilEqual(t, x.p.engine.(*engine))
				if has := x.p.Status().Nodes; !named(has, "b.img") && !named(has, "b.img:more.img") {
					t.Errorf("%+v", has)
				}
			})
		})
	}
}
