package cluster

import "testing"

// A copy that is in sync and about to take a place has not taken it: who waits
// and then pulls the old device, or counts votes, would be too early.
func TestWaitsForPlaces(t *testing.T) {
	s := &Status{Health: PoolHealthy, Nodes: []NodeStatus{{Name: "a", State: NodeInSync}, {Name: "b", State: NodeInSync, Replaces: "a"}}}
	if s.resynced() || s.settled() {
		t.Error("b has not taken the place of a yet")
	}
	s.Nodes[1].Replaces = ""
	if !s.resynced() || !s.settled() {
		t.Error("there is nothing to wait for")
	}
}
