package cluster

import (
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// survey is what member i has, as a scan sees it.
func (c *testCluster) survey(i int) []Holding {
	c.t.Helper()
	devs, err := c.spec(i).Open(c.ctx)
	check(c.t, err)
	list, err := Survey(c.ctx, devs)
	check(c.t, err)
	return list
}

// A volume alone says of which cluster it is, who else is, and how far it came,
// what is only in its intent log included.
func TestSurvey(t *testing.T) {
	c := newTestCluster(t, 3)
	m, before := c.media(1)
	b := file(ondisk.MakeTid(before.Pos.T.Epoch(), 1), 2000, "content")
	x := &core.Txg{Prev: before.Pos, Pos: Position{T: b.T, H: NextH(before.Pos.H, b.T, 1, Manifest(b))}, Batch: b}
	check(t, m.Perform(&core.Job{Ballot: before.Promised, Txg: x}, before))
	check(t, m.Volume().Close())
	var first Holding
	for i := range 3 {
		list := c.survey(i)
		if len(list) != 1 {
			t.Fatalf("%s: %d filesystems, want one: %+v", diskName(i), len(list), list)
		}
		h, want := list[0], before.Pos.T
		if i == 1 {
			want = b.T
		}
		if h.Label != "HOME" || h.Role != ondisk.PFSMaster || h.T != want || h.Why != "" {
			t.Errorf("%s: %s, %v at %v (%s); want HOME, a master at %v", diskName(i), h.Label, h.Role, h.T, h.Why, want)
		}
		if h.Charter == nil || len(h.Charter.Config.Members) != 3 {
			t.Errorf("%s: charter %+v, want one of three members", diskName(i), h.Charter)
		}
		if i == 0 {
			first = h
		} else if h.Clid != first.Clid || h.Fsid == first.Fsid {
			t.Errorf("%s is of %v, and %v there; the first of %v, and %v", diskName(i), h.Clid, h.Fsid, first.Clid, first.Fsid)
		}
	}
}

// What another system changed is listed with the reason why it does not count.
func TestSurveyOfForeignChange(t *testing.T) {
	c := newTestCluster(t, 1)
	m, _ := c.media(0)
	txn, err := m.Volume().Begin(c.ctx)
	check(t, err)
	info, err := findPFS(c.ctx, m.Volume(), "HOME")
	check(t, err)
	check(t, txn.Apply(c.ctx, "HOME", file(info.T+1, 2000, "theirs")))
	check(t, txn.CreatePFS(c.ctx, chain.PFSSpec{Label: "SECOND"}))
	check(t, txn.Commit(c.ctx))
	check(t, m.Volume().Close())
	list := c.survey(0)
	if len(list) != 2 {
		t.Fatalf("%d filesystems, want two: %+v", len(list), list)
	}
	for _, h := range list {
		if (h.Label == "HOME") != (h.Why != "") || (h.Label == "HOME") != (h.Charter != nil) {
			t.Errorf("%s: %q, charter %v", h.Label, h.Why, h.Charter)
		}
	}
}
