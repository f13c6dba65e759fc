package main

import (
	"testing"

	"github.com/anvilfs/anvilfs/cluster"
)

// A member that has two devices since, and is given with the first of them.
func TestAnnotateJoinsPartsOfAMember(t *testing.T) {
	s := &sightings{home: "/h", known: map[string]sighting{
		"id-a": {Devices: []seenDevice{{Path: "/h/a"}}},
		"id-b": {Devices: []seenDevice{{Path: "/h/b"}, {Path: "/x/more"}}},
	}}
	nodes := func(next string) []cluster.NodeStatus {
		return []cluster.NodeStatus{
			{Name: "b", State: cluster.NodeFailed, Role: "none", Next: next},
			{Name: "id-b", Fsid: "id-b", State: cluster.NodeMissing, Role: "master"},
			{Name: "id-a", Fsid: "id-a", State: cluster.NodeMissing, Role: "master"},
		}
	}
	got := s.annotate(nodes("name it with all"))
	if len(got) != 2 || got[0].Fsid != "id-b" || got[0].Role != "master" || got[1].Fsid != "id-a" || got[1].LastSeen != "/h/a" {
		t.Fatalf("%+v", got)
	}
	if want := "mount again, and name it with all of its devices, as b:/x/more"; got[0].Next != want {
		t.Errorf("%q, want %q", got[0].Next, want)
	}
	if got := s.annotate(nodes("")); len(got) != 3 { // it fails for another reason
		t.Errorf("%+v", got)
	}
	s.home = "/elsewhere"
	if got := s.annotate(nodes("name it with all")); len(got) != 3 {
		t.Errorf("another device: %+v", got)
	}
}
