package cluster

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

func FuzzDecodeBranch(f *testing.F) {
	f.Add(EncodeBranch(&Branch{Cluster: ondisk.UUID{1}, Node: ondisk.UUID{2}, Base: Position{T: ondisk.MakeTid(3, 4), H: History{5}},
		BaseInum: 1030, Promised: core.Ballot{Epoch: 3, Cand: 6}, Since: time.Unix(7, 8)}))
	f.Add(make([]byte, lenBranch))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := DecodeBranch(p)
		if err == nil && !bytes.Equal(EncodeBranch(b), p) {
			t.Fatalf("%x becomes %x", p, EncodeBranch(b))
		}
	})
}

// A soft master that is mounted alone becomes a cluster of its own, which no
// member of the old one is mounted with by accident; read-only it does not.
func TestBranch(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 2, ondisk.PFSSoftMaster)
	p := c.openPool(Options{}, 0, 1, 2)
	untilNode(t, p, "c.img", inSync)
	makeFile(t, p, ondisk.InumRoot, "before", ondisk.ObjFile)
	check(t, p.NodeOffline(c.ctx, "c.img"))
	left := nodeNamed(t, p, "c.img")
	clid := p.ID()
	check(t, p.Close(c.ctx))

	p = c.openPool(Options{ReadOnly: true}, 2)
	if st := p.Status(); st.Shown == nil || st.Branch != nil || st.Shown.T != left.T {
		t.Fatalf("read-only it shows %+v, branch %+v", st.Shown, st.Branch)
	}
	check(t, p.Close(c.ctx))

	var own ondisk.UUID
	for range 2 { // the second mount finds it as the first left it
		p = c.openPool(Options{}, 2)
		st := p.Status()
		if st.Branch == nil || st.Branch.Base != left.T || st.Branch.Cluster != clid.String() || st.Health != PoolHealthy {
			t.Fatalf("%+v, %s", st.Branch, st.Health)
		}
		if p.ID() == clid || !own.IsZero() && p.ID() != own {
			t.Fatalf("its id is %v, was %v, the cluster's is %v", p.ID(), own, clid)
		}
		own = p.ID()
		if err := p.NodeAdd(c.ctx, c.spec(0), ondisk.PFSMaster, true); err == nil || !strings.Contains(err.Error(), "branch") {
			t.Fatalf("a branch can grow: %v", err)
		}
		makeFile(t, p, ondisk.InumRoot, "on the way "+p.Committed().T.String(), ondisk.ObjFile)
		check(t, p.Close(c.ctx))
	}

	// The other members are not asked to follow it, nor it them.
	p = c.openPool(Options{}, 0, 1, 2)
	untilNode(t, p, "c.img", func(n NodeStatus) bool { return n.State == NodeBranch })
	if _, ok, _ := p.Lookup(c.ctx, ondisk.InumRoot, "before"); !ok || p.ID() != clid {
		t.Fatalf("mounted is %v", p.ID())
	}
	if list := p.Branches(); len(list) != 1 || list[0].Branch.Base.T.String() != left.T {
		t.Fatalf("%+v", list)
	}
	if st := p.Status(); st.Health != PoolHealthy || st.resynced() {
		t.Fatalf("with a branch it is %s", st.Health)
	}
	check(t, p.Close(c.ctx))
	if _, err := OpenPool(c.ctx, []MemberSpec{c.spec(0), c.spec(2)}, Options{Label: "HOME"}); err == nil {
		t.Fatal("a branch counts for the quorum of its cluster")
	}
}
