package sim

import (
	"flag"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/tests/bar"
)

var statesFlag = flag.Int("states", 0, "how many states TestExplore visits in each scope; -1 = all")

// scopes are small clusters and one txg of each primary that may make one.
// What their exploration costs grows down the list.
var scopes = []struct {
	name  string
	scope Scope
}{
	{"two masters", Scope{Masters: 2, Primaries: 2, Campaigns: 1, Proposals: 1}},
	{"elections", Scope{Masters: 3, Primaries: 2, Campaigns: 1}},
	{"a loss", Scope{Masters: 3, Primaries: 2, Campaigns: 1, Losses: 1}},
	{"a txg", Scope{Masters: 3, Primaries: 2, Campaigns: 1, Proposals: 1}},
	{"a txg, a crash and a loss", Scope{Masters: 3, Primaries: 2, Campaigns: 1, Proposals: 1, Crashes: 1, Losses: 1}},
	{"elected again", Scope{Masters: 3, Primaries: 2, Campaigns: 2, Proposals: 1, Crashes: 1}},
	{"three primaries", Scope{Masters: 3, Primaries: 3, Campaigns: 1, Proposals: 1, Crashes: 1, Losses: 1}},
}

// TestExplore visits every order of events of each scope, as far as the depth
// of the run allows, and says where that was all there is.
func TestExplore(t *testing.T) {
	g := bar.Goal{What: "distinct small-scope states", Quick: 10_000, Test: 200_000, Nightly: 20_000_000}
	want, left, total := g.N(t), len(scopes), 0
	var until time.Time
	long, bounded := bar.Long(t)
	if bounded {
		until = time.Now().Add(long / 2)
	}
	for _, s := range scopes {
		// A small scope leaves its share to those that follow.
		s.scope.States = max(1, (want-total+left-1)/left)
		if bounded {
			s.scope.Until = time.Now().Add(time.Until(until) / time.Duration(left))
		}
		if *statesFlag != 0 {
			s.scope.States = max(*statesFlag, 0)
		}
		left--
		start := time.Now()
		f, err := Explore(s.scope)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		total += f.States
		all := "not all there are"
		if f.Whole {
			all = "all there are"
		}
		t.Logf("%s: %d states, %s; %d steps, %d deep, %d commits, in %v", s.name, f.States, all, f.Steps, f.Deepest, f.Committed,
			time.Since(start).Round(time.Millisecond))
	}
	if *statesFlag == 0 {
		g.Check(t, total)
	}
}

// TestExploreNotices leaves out one rule after the other: a bounded number of
// walks through a small scope must find a violation.
func TestExploreNotices(t *testing.T) {
	again := Scope{Masters: 3, Primaries: 2, Campaigns: 2, Proposals: 1, Crashes: 1, Losses: 1}
	for _, r := range []struct {
		name string
		rule core.Rule
	}{
		{"candidate", core.OmitCandidate}, {"durable promise", core.OmitDurable}, {"late position", core.OmitLatePosition},
		{"fence", core.OmitFence}, {"quorum", core.OmitQuorum}, {"silent", core.OmitSilent},
	} {
		t.Run(r.name, func(t *testing.T) {
			s := again
			s.Omit = r.rule
			f, err := Walk(s, 1, 20000)
			if err == nil {
				t.Fatalf("leaving the rule out went unnoticed: %+v", f)
			}
			t.Logf("noticed after %d steps", f.Steps)
		})
	}
}
