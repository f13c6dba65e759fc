package crash

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/tests/bar"
)

var goalDiscard = bar.Goal{What: "distinct crash images of branches that are given up", Quick: 30, Test: 100, Nightly: 5000}

// TestDiscard cuts what node discard does to a branch: nothing of it comes, it
// is a member again or still the branch, and what it was is kept.
func TestDiscard(t *testing.T) {
	e := &crashtest.Explorer{Limit: 4}
	began := time.Now()
	for round := uint64(0); e.Counts().Distinct < goalDiscard.N(t) && !e.Done(); round++ {
		if d, ok := bar.Long(t); ok && e.Counts().Distinct >= goalDiscard.Test {
			e.Deadline = began.Add(d)
		}
		discardRound(t, e, *seed+round, "")
	}
	for _, f := range e.Failures() {
		t.Error(f)
	}
	t.Logf("%v", e.Counts())
	goalDiscard.Check(t, e.Counts().Distinct)
}

func discardRound(t *testing.T, e *crashtest.Explorer, seed uint64, only string) {
	t.Helper()
	c := &comeback{seed: seed, gives: true}
	rec, err := c.record(t.Context())
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	e.Explore(t.Context(), rec, crashtest.Job{Name: fmt.Sprintf("discard, seed %d", seed), Replay: fmt.Sprintf("discard,%d", seed),
		Seed: seed, Max: 3, Only: only})
}

// TestReplayDiscard shows one failure of TestDiscard again.
func TestReplayDiscard(t *testing.T) {
	part := strings.SplitN(*replay, ",", 3)
	if len(part) < 3 || part[0] != "discard" {
		t.Skip("nothing to replay")
	}
	n, err := strconv.ParseUint(part[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	e := &crashtest.Explorer{Limit: 4}
	discardRound(t, e, n, part[2])
	for _, f := range e.Failures() {
		t.Error(f)
	}
	if e.Counts().Images == 0 && len(e.Failures()) == 0 {
		t.Error("there is no such image")
	}
}
