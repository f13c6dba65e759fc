package cluster

import (
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// What a majority has counts, not what a slower member still has.
func TestCounterIsTheNewest(t *testing.T) {
	var on counter
	for _, c := range []struct {
		name string
		at   ondisk.Tid // of the PFS; 0 = it is not there
		want string
	}{{"none", 0, ""}, {"slow", 7, "slow"}, {"quick", 9, "quick"}, {"too", 9, "quick"}, {"slower", 6, "quick"}} {
		infos := []chain.PFSInfo{{Label: "LOCAL", T: 99}}
		if c.at > 0 {
			infos = append(infos, chain.PFSInfo{Label: "HOME", T: c.at})
		}
		on.offer(nodeVolume{Name: c.name, Label: "HOME"}, infos)
		if on.n.Name != c.want {
			t.Errorf("after %s: %q, want %q", c.name, on.n.Name, c.want)
		}
	}
}
