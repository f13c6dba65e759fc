package sim

import (
	"testing"

	"github.com/anvilfs/anvilfs/tests/bar"
)

// TestDamagedSeeds plays those seeds of TestSeeds whose disks do worse than
// fail. Deeper runs of that have enough of them.
func TestDamagedSeeds(t *testing.T) {
	if *seedFlag != 0 || *seedsFlag != 0 || bar.Of(t) != bar.Quick {
		t.Skip("TestSeeds plays them")
	}
	var sum Stats
	for _, first := range []uint64{2, 4} { // see newKind
		sum.add(playFrom(t, first, 12, 100, Options{Volumes: true}))
	}
	bar.Goal{What: "openings with headers damaged out of turn", Quick: 10}.Check(t, sum.Marred)
	bar.Goal{What: "openings that could not read all of the freemap", Quick: 20}.Check(t, sum.Blind)
}
