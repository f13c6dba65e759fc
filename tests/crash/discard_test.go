package crash

import (
	"testing"

	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/tests/bar"
)

var goalDiscard = bar.Goal{What: "distinct crash images of branches that are given up", Quick: 30, Test: 100, Nightly: 5000}

// TestDiscard cuts what node discard does to a branch: nothing of it comes, it
// is a member again or still the branch, and what it was is kept.
func TestDiscard(t *testing.T) { cutRounds(t, goalDiscard, discardRound) }

func discardRound(t *testing.T, e *crashtest.Explorer, seed uint64, only string) {
	t.Helper()
	c := &comeback{seed: seed, gives: true}
	cutStory(t, e, "discard", seed, 3, only, c.record)
}

// TestReplayDiscard shows one failure of TestDiscard again.
func TestReplayDiscard(t *testing.T) { replayRound(t, "discard", discardRound) }
