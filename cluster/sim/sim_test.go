package sim

import (
	"flag"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "play this seed only, with a log")
	seedsFlag = flag.Int("seeds", 0, "play this many seeds, however long it takes")
)

func TestSeeds(t *testing.T) {
	if *seedFlag != 0 {
		if _, err := Run(Options{Seed: *seedFlag, Verbose: t.Logf}); err != nil {
			t.Fatal(err)
		}
		return
	}
	n, budget := 3000, 12*time.Second
	if *seedsFlag > 0 {
		n, budget = *seedsFlag, 24*time.Hour
	}
	if testing.Short() {
		n = 200
	}
	var sum Stats
	start := time.Now()
	played := 0
	for seed := uint64(1); seed <= uint64(n) && time.Since(start) < budget; seed++ {
		s, err := Run(Options{Seed: seed})
		if err != nil {
			t.Fatalf("%v\nreplay: go test ./cluster/sim -run TestSeeds -seed %d -v", err, seed)
		}
		played++
		sum.add(s)
	}
	t.Logf("%d seeds in %v: %+v", played, time.Since(start).Round(time.Millisecond), sum)
}

func TestRulesAreNeeded(t *testing.T) {
	rules := []struct {
		name string
		opt  Options
	}{
		{"candidate", Options{Omit: core.OmitCandidate}},
		{"durable promise", Options{Omit: core.OmitDurable}},
		{"late position", Options{Omit: core.OmitLatePosition}},
		{"fence", Options{Omit: core.OmitFence}},
		{"previous", Options{Omit: core.OmitPrevious}},
		{"raise", Options{Omit: core.OmitRaise}},
		{"barrier", Options{Omit: core.OmitBarrier}},
		{"quorum", Options{Omit: core.OmitQuorum}},
		{"silent", Options{Omit: core.OmitSilent}},
		{"immutable", Options{Omit: core.OmitImmutable}},
		{"joint", Options{Omit: core.OmitJoint}},
		{"lease", Options{Omit: core.OmitLease}},
		{"open flush", Options{NoOpenFlush: true}},
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			start := time.Now()
			for seed := uint64(1); seed < 20000 && time.Since(start) < 20*time.Second; seed++ {
				o := r.opt
				o.Seed = seed
				if _, err := Run(o); err != nil {
					t.Logf("noticed: %v", err)
					return
				}
			}
			t.Error("leaving the rule out went unnoticed")
		})
	}
}

func (s *Stats) add(o Stats) {
	s.Steps += o.Steps
	s.Messages += o.Messages
	s.Faults += o.Faults
	s.Elections += o.Elections
	s.Commits += o.Commits
	s.Resyncs += o.Resyncs
	s.Changes += o.Changes
}
