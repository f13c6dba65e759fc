package crashtest

import (
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/tests/bar"
)

var growthGoal = bar.Goal{What: "distinct crash images of volumes that grow", Quick: 100, Test: 250, Nightly: 100_000}

// TestGrow cuts the growth itself, in every way that volumes can grow, closed or
// in use. A night leaves out no subset of the writes between two flushes.
func TestGrow(t *testing.T) {
	e := &Explorer{Limit: 4}
	began := time.Now()
	for round := uint64(0); round == 0 || e.Counts().Distinct < growthGoal.N(t) && !e.Done(); round++ {
		if growthGoal.Over(t, began, e.Counts().Distinct) {
			break
		}
		for _, s := range Shapes() {
			for _, w := range growWorkloads() {
				if !w.fits(s) {
					continue
				}
				r := run{w, s}
				_, c := r.explore(t, e, *seed+round, 0, Job{Max: min(perWindow(t, int(round)), 4)})
				t.Logf("%-30s %v", r.name(), c)
			}
		}
	}
	for _, f := range e.Failures() {
		t.Error(f)
	}
	growthGoal.Check(t, e.Counts().Distinct)
}
