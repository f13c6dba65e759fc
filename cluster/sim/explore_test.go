package sim

import (
	"flag"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
)

var statesFlag = flag.Int("states", 25000, "how many states TestExplore visits in each scope; 0 = all")

func TestExplore(t *testing.T) {
	for _, s := range []struct {
		name  string
		scope Scope
	}{
		{"one primary", Scope{Masters: 2, Primaries: 1, Campaigns: 1, Proposals: 1}},
		{"two masters", Scope{Masters: 2, Primaries: 2, Campaigns: 1, Proposals: 1}},
		{"elections", Scope{Masters: 3, Primaries: 2, Campaigns: 1}},
		{"two primaries", Scope{Masters: 3, Primaries: 2, Campaigns: 1, Proposals: 1}},
		{"a crash", Scope{Masters: 3, Primaries: 2, Campaigns: 1, Proposals: 1, Crashes: 1, Losses: 1}},
		{"again", Scope{Masters: 3, Primaries: 2, Campaigns: 2, Proposals: 1, Crashes: 1}},
	} {
		t.Run(s.name, func(t *testing.T) {
			s.scope.States = *statesFlag
			start := time.Now()
			f, err := Explore(s.scope)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v in %v", f, time.Since(start).Round(time.Millisecond))
		})
	}
}

func TestExploreNotices(t *testing.T) {
	for name, rule := range map[string]core.Rule{
		"candidate": core.OmitCandidate, "durable promise": core.OmitDurable, "late position": core.OmitLatePosition,
		"fence": core.OmitFence, "quorum": core.OmitQuorum, "silent": core.OmitSilent,
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Walk(Scope{Masters: 3, Primaries: 2, Campaigns: 2, Proposals: 1, Crashes: 1, Losses: 1, Omit: rule}, 1, 20000)
			if err == nil {
				t.Errorf("leaving the rule out went unnoticed: %+v", f)
			}
		})
	}
}
