package crash

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/tests/bar"
)

var goalMerge = bar.Goal{What: "distinct crash images of branches that come back", Quick: 120, Test: 600, Nightly: 20_000}

// TestMerge cuts the return of a branch everywhere: its merge, in one
// story of three given up half way and begun again, in another one whose branch is
// taken away meanwhile, its end, and the conflicts that are decided.
func TestMerge(t *testing.T) { cutRounds(t, goalMerge, mergeRound) }

func mergeRound(t *testing.T, e *crashtest.Explorer, seed uint64, only string) {
	t.Helper()
	c := &comeback{seed: seed, race: seed%2 == 1}
	cutStory(t, e, "merge", seed, 1, only, func(ctx context.Context) (*crashtest.Recording, error) {
		rec, err := c.record(ctx)
		if err == nil {
			err = c.asPlanned()
		}
		return rec, err
	})
}

// asPlanned demands that the merge decides what it is meant to: all ways in
// which an item can end are among them.
func (c *comeback) asPlanned() error {
	names := func(lines []string) (list []string) {
		for _, line := range lines {
			if !isConflict(line) {
				name, _, _ := strings.Cut(line, " ")
				list = append(list, name)
			}
		}
		slices.Sort(list)
		return list
	}
	last := len(c.shows) - 1
	for _, want := range []struct {
		phase     int
		names     string
		conflicts int
	}{
		{phaseMerged, "/ /account /account/f /account/more /account/n /account/tree /account/tree/a /account/tree/deep /account/tree/deep/b " +
			"/both /both.conflict-m1-1 /both2 /both2.conflict-m1-1 /d /d/y /kept /large /more /new /new/f /new/g /one /same /two", 3},
		{last, "/ /account /account/f /account/more /account/n /account/tree /account/tree/a /account/tree/deep /account/tree/deep/b " +
			"/both /both2 /d /d/y /kept /large /more /new /new/f /new/g /one /same /two", 0},
	} {
		if got := strings.Join(names(c.shows[want.phase]), " "); got != want.names {
			return fmt.Errorf("phase %d shows %s", want.phase, got)
		}
		n := 0
		for _, line := range c.shows[want.phase] {
			if isConflict(line) {
				n++
			}
		}
		if n != want.conflicts {
			return fmt.Errorf("phase %d has %d conflicts, want %d", want.phase, n, want.conflicts)
		}
	}
	if last != phaseEnded+3 {
		return fmt.Errorf("%d phases", last)
	}
	return nil
}

// TestReplayMerge shows one failure of TestMerge again.
func TestReplayMerge(t *testing.T) { replayRound(t, "merge", mergeRound) }
