package crash

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/tests/bar"
)

// A cutRound records one story by its seed and cuts it everywhere, or, to show a
// failure again, only where only says.
type cutRound func(t *testing.T, e *crashtest.Explorer, seed uint64, only string)

// cutRounds plays rounds until the goal is reached, or the time of a night.
func cutRounds(t *testing.T, goal bar.Goal, round cutRound) {
	t.Helper()
	e := &crashtest.Explorer{Limit: 4}
	began := time.Now()
	for n := uint64(0); e.Counts().Distinct < goal.N(t) && !e.Done(); n++ {
		if d, ok := bar.Long(t); ok && e.Counts().Distinct >= goal.Test {
			e.Deadline = began.Add(d)
		}
		round(t, e, *seed+n, "")
	}
	for _, f := range e.Failures() {
		t.Error(f)
	}
	t.Logf("%v", e.Counts())
	goal.Check(t, e.Counts().Distinct)
}

// cutStory cuts the story that record tells from a seed, up to most cuts deep.
func cutStory(t *testing.T, e *crashtest.Explorer, name string, seed uint64, most int, only string,
	record func(context.Context) (*crashtest.Recording, error)) {
	t.Helper()
	rec, err := record(t.Context())
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	e.Explore(t.Context(), rec, crashtest.Job{Name: fmt.Sprintf("%s, seed %d", name, seed), Replay: fmt.Sprintf("%s,%d", name, seed),
		Seed: seed, Max: most, Only: only})
}

// replayRound shows one failure again, if -replay names one of these rounds.
func replayRound(t *testing.T, name string, round cutRound) {
	t.Helper()
	part := strings.SplitN(*replay, ",", 3)
	if len(part) < 3 || part[0] != name {
		t.Skip("nothing to replay")
	}
	n, err := strconv.ParseUint(part[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	e := &crashtest.Explorer{Limit: 4}
	round(t, e, n, part[2])
	for _, f := range e.Failures() {
		t.Error(f)
	}
	if e.Counts().Images == 0 && len(e.Failures()) == 0 {
		t.Error("there is no such image")
	}
}
