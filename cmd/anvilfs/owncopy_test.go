package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A device that is to become a member and is a copy of this very filesystem is told
// by its name there, with what brings it back.
func TestOwnCopy(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c", "d"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("b", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	clid, gone, off := ondisk.NewUUID(), ondisk.NewUUID(), ondisk.NewUUID()
	st := &mountStatus{}
	st.Server.Home, st.Server.Cluster = dir, clid.String()
	st.Nodes = []cluster.NodeStatus{
		{Name: "a", Role: "master", State: cluster.NodeInSync, Total: 1},
		{Name: "b", Fsid: off.String(), Role: "master", State: cluster.NodeOffline},
		{Name: "c", Role: "slave", State: cluster.NodeFailed},
		{Name: gone.String(), Fsid: gone.String(), Role: "master", State: cluster.NodeMissing},
	}
	holds := func(clid, fsid ondisk.UUID) []chain.PFSInfo {
		return []chain.PFSInfo{{Label: "LOCAL", Type: ondisk.PFSMaster}, {Label: "HOME", Type: ondisk.PFSMaster, Clid: clid, Fsid: fsid}}
	}
	missing := "d is a copy of this filesystem, its member " + gone.String() + ", which was not given to the mount: nothing was changed: " +
		"mount again with it, or anvilfs node replace -f '/m n' " + gone.String() + " d makes it anew"
	for _, c := range []struct {
		device string
		holds  []chain.PFSInfo
		want   string
	}{
		{"a", nil, "a is a copy of this filesystem, its node a, which is in use: nothing was changed: to have it made anew, anvilfs node offline '/m n' a, then anvilfs node replace -f '/m n' a a"},
		{"link", nil, "link is a copy of this filesystem, its node b, which is offline: nothing was changed: anvilfs node online '/m n' b brings it back, anvilfs node replace -f '/m n' b link makes it anew"},
		{"c", nil, "c is a copy of this filesystem, its node c, which is failed: nothing was changed: it comes back by itself when it can, anvilfs node replace -f '/m n' c c makes it anew"},
		{"d", holds(clid, gone), missing},
		{"d", holds(ondisk.NewUUID(), gone), missing}, // a branch
		{"d", holds(clid, off), "d is a copy of this filesystem, its node b, which is offline: nothing was changed: anvilfs node online '/m n' b brings it back, anvilfs node replace -f '/m n' b d makes it anew"}, // by a path that nobody knows
		{"d", holds(clid, ondisk.NewUUID()), "d has an old copy of this filesystem, which is no member any more: nothing was changed; give -f to overwrite it"},
		{"d", holds(ondisk.NewUUID(), ondisk.NewUUID()), ""},
		{"d", []chain.PFSInfo{{Label: "HOME", Type: ondisk.PFSCache, Clid: clid, Fsid: ondisk.NewUUID()}}, ""},
		{"d", nil, ""},
	} {
		got := ""
		if own := st.ownCopy("/m n", c.device, []string{filepath.Join(dir, c.device)}, c.holds); own != nil {
			got = own.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.device, got, c.want)
		}
	}
}

// Symptom: "anvilfs node online MNT MEMBER uses it again", for a member whose name is
// known.
func TestErrorAboutAnotherNode(t *testing.T) {
	c := &controller{server: serverStatus{Dir: "/m"}}
	const text = "anvilfs node online MNT NODE uses it again, anvilfs node remove MNT NODE gives it up"
	if err, want := c.aboutNode("replace", "a", &cluster.NodeError{Node: "b c", Err: errors.New(text)}),
		"node replace a: anvilfs node online /m 'b c' uses it again, anvilfs node remove /m 'b c' gives it up"; err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err, want := c.aboutNode("replace", "a", errors.New(text)),
		"node replace a: anvilfs node online /m a uses it again, anvilfs node remove /m a gives it up"; err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
