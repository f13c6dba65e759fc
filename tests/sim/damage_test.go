package sim

import (
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/tests/bar"
)

// TestDamagedSeeds plays those seeds whose disks do worse than fail, beyond those
// of TestSeeds.
func TestDamagedSeeds(t *testing.T) {
	if *seedFlag != 0 || *seedsFlag != 0 {
		t.Skip("TestSeeds plays them")
	}
	g := bar.Goal{What: "more seeds with disks that damage headers and freemap, or fail reads", Quick: 200, Test: 200, Nightly: 20_000}
	base := uint64(0) // those of TestSeeds; it plays few of them in a quick run
	if bar.Of(t) != bar.Quick {
		base = 200_400 // a multiple of 12
	}
	begin, n := time.Now(), g.N(t)
	var sum Stats
	for _, first := range []uint64{2, 4} { // see newKind
		sum.add(playFrom(t, base+first, 12, n/2, Options{Volumes: true}, func(played int) bool { return g.Over(t, begin, 2*played) }))
	}
	g.Check(t, sum.Seeds)
	counted(t, map[bar.Goal]int{
		{What: "openings with headers damaged out of turn there", Quick: 10, Test: 15, Nightly: 1500}:       sum.Marred,
		{What: "openings that could not read all of the freemap there", Quick: 20, Test: 25, Nightly: 2500}: sum.Blind,
		{What: "failing reads there, sectors that stay bad apart", Quick: 10, Test: 15, Nightly: 1500}:      sum.FailedReads,
		{What: "silent faults of headers and freemap there", Quick: 10, Test: 15, Nightly: 1500}:            sum.BadHeads,
	})
}
