package sim

import (
	"flag"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/tests/bar"
)

var (
	statesFlag = flag.Int("states", 0, "how many states TestExplore visits in each scope; -1 = all")
	scopeFlag  = flag.String("scope", "", "visit the states of that scope only")
)

// scopes are small clusters and one txg of each primary that may make one.
// What their exploration costs grows down the list. What is never delivered
// stands for what is lost: only the last of them count losses.
var scopes = []struct {
	name  string
	scope Scope
}{
	{"two masters", Scope{Masters: 2, Primaries: 2, Campaigns: 1, Proposals: 1}},
	{"two masters, a crash", Scope{Masters: 2, Primaries: 2, Campaigns: 1, Proposals: 1, Crashes: 1}},
	{"a soft master", Scope{Masters: 2, Soft: 1, Primaries: 2, Campaigns: 1, Proposals: 1}},
	{"elections", Scope{Masters: 3, Primaries: 2, Campaigns: 1}},
	{"a txg", Scope{Masters: 3, Primaries: 2, Campaigns: 1, Proposals: 1}},
	{"a txg and a crash", Scope{Masters: 3, Primaries: 2, Campaigns: 1, Proposals: 1, Crashes: 1}},
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
		if *scopeFlag != "" && s.name != *scopeFlag {
			continue
		}
		// A small scope leaves its share to those that follow.
		s.scope.States = max(1, (want-total+left-1)/left)
		if bounded {
			s.scope.Until = time.Now().Add(time.Until(until) / time.Duration(left))
			s.scope.Least = (g.Test - total + left - 1) / left // what make test visits, whatever the time
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
	if *statesFlag == 0 && *scopeFlag == "" {
		g.Check(t, total)
	}
}

// TestExploreNotices leaves out one rule after the other: a bounded number of
// walks through a small scope must find a violation, and so must a bounded part
// of the states that are left when all are named anew.
func TestExploreNotices(t *testing.T) {
	const walks, states = 20_000, 300_000
	again := Scope{Masters: 3, Primaries: 2, Campaigns: 2, Proposals: 1, Crashes: 1, Losses: 1}
	elections := Scope{Masters: 3, Primaries: 2, Campaigns: 1, States: states} // 130,000 are all
	txg := Scope{Masters: 3, Primaries: 2, Campaigns: 1, Proposals: 1, States: states}
	for _, r := range []struct {
		name  string
		rule  core.Rule
		small Scope
	}{
		{"candidate", core.OmitCandidate, elections}, {"durable promise", core.OmitDurable, elections},
		{"late position", core.OmitLatePosition, elections}, {"fence", core.OmitFence, elections},
		{"quorum", core.OmitQuorum, elections},
		{"fence, beside a soft master", core.OmitFence, Scope{Masters: 2, Soft: 1, Primaries: 2, Campaigns: 1, Proposals: 1, States: states}},
		// What positions prove makes up for it most of the time.
		{"silent", core.OmitSilent | core.OmitProven, txg},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			again, small := again, r.small
			again.Omit, small.Omit = r.rule, r.rule
			f, err := Walk(again, 1, walks)
			if err == nil {
				t.Errorf("leaving the rule out went unnoticed: %+v", f)
			}
			g, err := Explore(small)
			if err == nil {
				t.Errorf("leaving the rule out went unnoticed by all orders: %+v", g)
			}
			t.Logf("noticed after %d steps, and in %d states", f.Steps, g.States)
		})
	}
}

// TestReductionLosesNothing: every state of the disks, and of what was promised
// and committed, that plain exploration comes to, with messages lost besides,
// is there without it, but for names.
func TestReductionLosesNothing(t *testing.T) {
	for _, s := range []Scope{
		{Masters: 1, Primaries: 2, Campaigns: 2, Crashes: 1},
		{Masters: 2, Primaries: 1, Campaigns: 2, Proposals: 1, Crashes: 1},
		{Masters: 2, Primaries: 2, Campaigns: 1, Proposals: 1},
		{Masters: 2, Primaries: 2, Campaigns: 1, Crashes: 1},
		{Masters: 3, Primaries: 1, Campaigns: 1, Proposals: 1},
		{Masters: 1, Soft: 1, Primaries: 2, Campaigns: 1, Proposals: 1},
	} {
		plain := s
		plain.Plain, plain.Losses = true, 1
		all, most := outcomes(t, plain)
		got, few := outcomes(t, s)
		for k := range all {
			if !got[k] {
				t.Errorf("%+v: of %d outcomes of %d states, the %d of %d states lack some", s, len(all), most, len(got), few)
				break
			}
		}
		for k := range got {
			if !all[k] {
				t.Errorf("%+v: some of the %d outcomes are made up, there are %d", s, len(got), len(all))
				break
			}
		}
		t.Logf("%d masters, %d primaries: %d outcomes; %d states instead of %d", s.Masters, s.Primaries, len(all), few, most)
	}
}

func outcomes(t *testing.T, s Scope) (seen map[uint64]bool, states int) {
	t.Helper()
	seen = make(map[uint64]bool)
	s.outcomes = seen
	f, err := Explore(s)
	if err != nil || !f.Whole {
		t.Fatalf("%+v: %+v, %v", s, f, err)
	}
	return seen, f.States
}
