package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

const testVolume = 256 << 20

// A testCluster is a set of memory devices that outlives its engines.
type testCluster struct {
	t     *testing.T
	disks []*memdev.Device
	fault []*faultdev.Device // of the last open
	gone  []bool
	ctx   context.Context
}

func newTestCluster(t *testing.T, masters int, others ...ondisk.PFSType) *testCluster {
	t.Helper()
	return newTestClusterOf(t, testVolume, masters, others...)
}

// newTestClusterOf makes one of devices of that size.
func newTestClusterOf(t *testing.T, size int64, masters int, others ...ondisk.PFSType) *testCluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	c := &testCluster{t: t, ctx: ctx}
	var vols []*chain.Volume
	roles := append(slices.Repeat([]ondisk.PFSType{ondisk.PFSMaster}, masters), others...)
	for range roles {
		d := memdev.New(size).Named(diskName(len(c.disks)))
		c.disks = append(c.disks, d)
		_, err := chain.Format(ctx, []ondisk.Device{d}, chain.FormatOptions{Labels: []chain.PFSSpec{{Label: "HOME", Type: ondisk.PFSMaster}}})
		check(t, err)
		v, err := chain.Open(ctx, []ondisk.Device{d}, chain.Options{})
		check(t, err)
		vols = append(vols, v)
	}
	check(t, Found(ctx, vols, "HOME", roles))
	for _, v := range vols {
		check(t, v.Close())
	}
	c.fault, c.gone = make([]*faultdev.Device, len(roles)), make([]bool, len(roles))
	return c
}

func diskName(i int) string { return string(rune('a'+i)) + ".img" }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *testCluster) spec(i int) MemberSpec {
	return MemberSpec{Name: diskName(i), Open: func(context.Context) ([]ondisk.Device, error) {
		if c.gone[i] {
			return nil, fmt.Errorf("no such device")
		}
		c.disks[i].Reopen()
		c.fault[i] = faultdev.New(c.disks[i])
		return []ondisk.Device{c.fault[i]}, nil
	}}
}

func (c *testCluster) start(o Options, members ...int) (*engine, error) {
	if len(members) == 0 {
		for i := range c.disks {
			members = append(members, i)
		}
	}
	var specs []MemberSpec
	for _, i := range members {
		specs = append(specs, c.spec(i))
	}
	if o.Label == "" {
		o.Label = "HOME"
	}
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(testWriter{c.t}, nil))
	}
	e, err := startEngine(c.ctx, specs, o)
	return e, err
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (c *testCluster) mustStart(o Options, members ...int) *engine {
	c.t.Helper()
	e, err := c.start(o, members...)
	check(c.t, err)
	c.t.Cleanup(func() { e.close(context.Background()) })
	return e
}

// file is a batch that makes an inode with that content.
func file(T ondisk.Tid, inum uint64, content string) *chain.Batch {
	meta := ondisk.NewInodeMeta(inum, ondisk.ObjFile)
	meta.OpFlags, meta.Nlinks, meta.Size = ondisk.OpDirectData, 1, uint64(len(content))
	return &chain.Batch{T: T, Changes: []chain.Change{{Inum: inum, Kind: chain.KindInode, Inode: &meta, Inline: []byte(content)}}}
}

func put(t *testing.T, e *engine, inum uint64, content string) {
	t.Helper()
	check(t, commitOn(e, t.Context(), file(e.nextT(), inum, content)))
}

// get reads from every node that may be read.
func get(t *testing.T, e *engine, inum uint64) []string {
	t.Helper()
	var out []string
	for _, v := range e.views() {
		in, ok, err := v.View.Inode(t.Context(), inum)
		check(t, err)
		s := "-"
		if ok {
			s = string(in.Inline[:in.Meta.Size])
		}
		out = append(out, s)
		v.View.Release()
	}
	return out
}

// until waits for a condition on the reports.
func until(t *testing.T, e *engine, what string, ok func([]NodeReport) bool) {
	t.Helper()
	var rs []NodeReport
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if rs = e.nodes(); ok(rs) { // positions move without a change being told
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatalf("%s does not come: %+v", what, rs)
}

func states(rs []NodeReport) string {
	var s []string
	for _, r := range rs {
		s = append(s, string(r.State))
	}
	return strings.Join(s, " ")
}

func untilStates(t *testing.T, e *engine, want string) {
	t.Helper()
	until(t, e, want, func(rs []NodeReport) bool { return states(rs) == want })
}

// untilEqual waits until three members are in sync at one position.
func untilEqual(t *testing.T, e *engine) {
	t.Helper()
	until(t, e, "everybody in sync", func(rs []NodeReport) bool {
		return states(rs) == "in-sync in-sync in-sync" && rs[0].Position == rs[1].Position && rs[1].Position == rs[2].Position
	})
}

func commitOn(e *engine, ctx context.Context, b *chain.Batch) error {
	_, err := e.commit(ctx, b)
	return err
}
