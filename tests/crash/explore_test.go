package crash

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/tests/bar"
)

var (
	seed   = flag.Uint64("seed", 1, "of the first round; others follow")
	replay = flag.String("replay", "", "workload,seed,cut of a failure")
	only   = flag.String("only", "", "explore the workload of that name only")
)

var (
	goal      = bar.Goal{What: "distinct crash images of filesystems", Quick: 800, Test: 40_000, Nightly: 4_000_000}
	goalPairs = bar.Goal{What: "pairs of calls cut through", Quick: 24, Test: 29 * 29 * 3, Nightly: 29 * 29 * 3}
)

// A tally adds up what was done.
type tally struct {
	e     *crashtest.Explorer
	done  map[string]*crashtest.Counts
	calls int
	pairs int
	told  int // failures

	shared int // blocks of snapshots that files got
}

func (a *tally) run(t *testing.T, r Run, j crashtest.Job) {
	t.Helper()
	rec, s, err := r.record(t.Context())
	if err != nil {
		t.Fatalf("%s on %s, seed %d: %v", r.Workload, r.Shape.Name, r.Seed, err)
	}
	j.Name = fmt.Sprintf("%s on %s, seed %d", r.Workload, r.Shape.Name, r.Seed)
	j.Replay = fmt.Sprintf("%s,%d", r.Workload, r.Seed)
	j.Seed = r.Seed
	c := a.e.Explore(t.Context(), rec, j)
	for _, f := range a.e.Failures()[a.told:] {
		t.Error(f) // now: a long run may be ended from outside
		a.told++
	}
	name, _, pairs := strings.Cut(r.Workload, "-")
	if pairs = pairs && name == "pairs"; pairs {
		a.pairs += len(r.steps)
	} else {
		name = strings.TrimSuffix(r.Workload, plainly)
	}
	name += " on " + r.Shape.Name
	if a.done[name] == nil {
		a.done[name] = new(crashtest.Counts)
	}
	a.done[name].Add(c)
	a.calls += len(s.moments) - 1
	a.shared += s.shared
}

// perWindow is how many images of each window are judged in a round.
func perWindow(t *testing.T, round int) int {
	switch {
	case bar.Of(t) == bar.Quick || round == 0:
		return 1 // so that every pair has its turn
	case bar.Of(t) == bar.Test:
		return 6
	}
	return 0
}

// recoveries is how many windows there are for each that is cut in a recovery.
// A recovery opens, copies and closes much as others do: with each window, more
// than half of all images would be of recoveries.
func recoveries(t *testing.T) int {
	if bar.Of(t) == bar.Nightly {
		return 1
	}
	return 3
}

// TestExplore cuts all pairs of calls, and what is done to members, with one
// seed after the other until the goal is reached. A quick run judges a few
// pairs, others with each seed.
func TestExplore(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // memory is not what is short
	a := &tally{e: &crashtest.Explorer{Limit: 4}, done: make(map[string]*crashtest.Counts)}
	began := time.Now()
	for round := 0; round == 0 || a.e.Counts().Distinct < goal.N(t) && !a.e.Done(); round++ {
		s := *seed + uint64(round)
		runs := append(Workloads(s), Pairs(s)...)
		for i := range runs {
			// Half of them in a directory with an account, the others in the
			// next round: without, txgs go into the intent log.
			if (round+i)%2 == 1 {
				runs[i] = runs[i].asPlain()
			}
		}
		if *only != "" {
			runs = slices.DeleteFunc(runs, func(r Run) bool { return strings.TrimSuffix(r.Workload, plainly) != strings.TrimSuffix(*only, plainly) })
		}
		if len(runs) == 0 {
			t.Fatalf("there is no workload %q", *only)
		}
		must := len(runs)
		if bar.Of(t) == bar.Quick {
			must = len(Workloads(s)) + 4
		}
		for i, r := range runs {
			if (round > 0 || i >= must) && a.e.Counts().Distinct >= goal.N(t) || a.e.Done() {
				break
			}
			if d, ok := bar.Long(t); ok && round > 0 && a.e.Counts().Distinct >= goal.Test {
				a.e.Deadline = began.Add(d) // not before every pair had its turn
			}
			a.run(t, r, crashtest.Job{Max: perWindow(t, round), Every: recoveries(t)})
		}
		if round == 0 {
			rand.New(rand.NewPCG(s, 1)).Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
		}
	}
	a.report(t)
	t.Logf("%v; %d calls, %d pairs, %d blocks out of snapshots", a.e.Counts(), a.calls, a.pairs, a.shared)
	if !t.Failed() && a.e.Counts().Again == 0 {
		t.Error("nothing was cut again in recovery")
	}
	if *only == "" {
		if goalPairs.Check(t, a.pairs); a.shared == 0 {
			t.Error("no file got a block of a snapshot")
		}
	}
	goal.Check(t, a.e.Counts().Distinct)
}

// report prints what was done to each workload, and fails those that saw
// nothing.
func (a *tally) report(t *testing.T) {
	t.Helper()
	names := []string{"pairs on alone", "pairs on alone-four-slots", "pairs on three"}
	for _, r := range Workloads(1) {
		names = append(names, r.Workload+" on "+r.Shape.Name)
	}
	for _, name := range names {
		if workload, _, _ := strings.Cut(name, " "); *only != "" && workload != *only {
			continue
		}
		c := a.done[name]
		if c == nil {
			c = new(crashtest.Counts)
		}
		if t.Logf("%-30s %v", name, *c); c.Distinct == 0 || c.Torn == 0 {
			t.Errorf("%s: no image, or none that is torn", name)
		}
	}
}

// TestReplay shows one failure again, from what the failure says.
func TestReplay(t *testing.T) {
	if *replay == "" || strings.HasPrefix(*replay, "merge,") || strings.HasPrefix(*replay, "scrub,") || strings.HasPrefix(*replay, "discard,") || strings.HasPrefix(*replay, "repair,") {
		t.Skip("nothing to replay")
	}
	part := strings.SplitN(*replay, ",", 3)
	if len(part) < 3 {
		t.Fatalf("%q: want workload,seed,cut", *replay)
	}
	n, err := strconv.Atoi(part[1])
	if err != nil {
		t.Fatal(err)
	}
	a := &tally{e: &crashtest.Explorer{Limit: 4}, done: make(map[string]*crashtest.Counts)}
	for _, r := range append(Workloads(uint64(n)), Pairs(uint64(n))...) {
		if r.Workload+plainly == part[0] {
			r = r.asPlain()
		}
		if r.Workload == part[0] {
			a.run(t, r, crashtest.Job{Only: part[2]})
		}
	}
	if a.e.Counts().Images == 0 && len(a.e.Failures()) == 0 {
		t.Error("there is no such workload or image")
	}
}
