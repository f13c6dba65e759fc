package sim

import (
	"testing"

	"github.com/anvilfs/anvilfs/tests/bar"
)

// TestLyingSeeds plays the protocol with a disk that acknowledges flushes that
// it has not done, while others fall behind: nothing is lost without a word.
func TestLyingSeeds(t *testing.T) {
	g := bar.Goal{What: "simulated seeds with a disk that lies about flushes", Quick: 500, Test: 5000, Nightly: 100_000}
	sum := play(t, g, Options{Lies: true})
	happened(t, map[string]int{"liars found out": sum.Condemned, "named refusals": sum.Refused})
	if sum.Refused > sum.Seeds/4 {
		t.Errorf("%d of %d seeds end in a refusal: little is shown", sum.Refused, sum.Seeds)
	}
}
