package crashtest

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

	"github.com/anvilfs/anvilfs/ondisk/golden"
	"github.com/anvilfs/anvilfs/tests/bar"
)

var (
	seed   = flag.Uint64("seed", 1, "of the first round; others follow")
	replay = flag.String("replay", "", "workload,shape,seed,drop,cut of a failure")
)

var goal = bar.Goal{What: "distinct crash images of volumes", Quick: 1200, Test: 60_000, Nightly: 6_000_000}

// perWindow is how many images of each window are judged in a round. The first
// round is short, so that none is left out.
func perWindow(t *testing.T, round int) int {
	switch {
	case bar.Of(t) == bar.Quick:
		return 1
	case bar.Of(t) == bar.Test || round == 0:
		return 8
	}
	return 0
}

// A run is a workload on a shape.
type run struct {
	workload Workload
	shape    Shape
}

func (r run) name() string { return r.workload.Name + " on " + r.shape.Name }

// explore records a run and cuts it.
func (r run) explore(t *testing.T, e *Explorer, seed uint64, drop int, j Job) (*recording, Counts) {
	t.Helper()
	rec, err := record(t.Context(), r.workload, r.shape, seed, drop)
	if err != nil {
		t.Fatalf("%s, seed %d: %v", r.name(), seed, err)
	}
	j.Name = fmt.Sprintf("%s, seed %d, lost flush %d", r.name(), seed, drop)
	j.Replay = fmt.Sprintf("%s,%s,%d,%d", r.workload.Name, r.shape.Name, seed, drop)
	j.Seed = seed
	return rec, e.Explore(t.Context(), &rec.Recording, j)
}

// report prints what was done to each workload, and fails those that saw
// nothing.
func report(t *testing.T, names []string, done map[string]*Counts) {
	t.Helper()
	for _, name := range names {
		c := done[name]
		if c == nil {
			c = new(Counts)
		}
		if t.Logf("%-30s %v", name, *c); c.Distinct == 0 || c.Torn == 0 {
			t.Errorf("%s: no image, or none that is torn", name)
		}
	}
}

// mixed puts runs in an order drawn by lot in which every workload comes once
// before any comes again.
func mixed(runs []run, rng *rand.Rand) []run {
	var turns [][]run
	seen := make(map[string]int)
	for _, i := range rng.Perm(len(runs)) {
		n := seen[runs[i].workload.Name]
		if seen[runs[i].workload.Name]++; n == len(turns) {
			turns = append(turns, nil)
		}
		turns[n] = append(turns[n], runs[i])
	}
	return slices.Concat(turns...)
}

// TestExplore cuts every workload on every shape, with one seed after the
// other, until the goal is reached. A quick run may leave out shapes.
func TestExplore(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // memory is not what is short
	var runs []run
	var names []string
	for _, w := range Workloads() {
		names = append(names, w.Name)
		for _, s := range Shapes() {
			if w.fits(s) {
				runs = append(runs, run{w, s})
			}
		}
	}
	e := &Explorer{Limit: 4}
	began := time.Now()
	done := make(map[string]*Counts)
	commits, aborted, reused, restored := 0, 0, 0, 0
	for round := 0; round == 0 || e.Counts().Distinct < goal.N(t) && !e.Done(); round++ {
		enough := len(runs) // that must not be left out
		if bar.Of(t) == bar.Quick {
			enough = len(names)
		}
		for i, r := range mixed(runs, rand.New(rand.NewPCG(*seed, uint64(round)))) {
			if (round > 0 || i >= enough) && e.Counts().Distinct >= goal.N(t) || e.Done() {
				break
			}
			if d, ok := bar.Long(t); ok && round > 0 && e.Counts().Distinct >= goal.Test {
				e.Deadline = began.Add(d) // not before every workload had its turn
			}
			rec, c := r.explore(t, e, *seed+uint64(round), 0, Job{Max: perWindow(t, round)})
			if done[r.workload.Name] == nil {
				done[r.workload.Name] = new(Counts)
			}
			done[r.workload.Name].Add(c)
			commits, aborted, reused = commits+len(rec.commits)-1, aborted+rec.aborted, reused+rec.Tap.Reused()
			restored += rec.restored
		}
	}
	for _, f := range e.Failures() {
		t.Error(f)
	}
	report(t, names, done)
	t.Logf("%v; %d transactions, %d aborted, %d pages reused, %d blocks out of snapshots", e.Counts(), commits, aborted, reused, restored)
	if c := e.Counts(); !t.Failed() && (c.Again == 0 || aborted == 0 || reused == 0 || restored == 0) {
		t.Error("no second crash, no want of space, no reuse of space, or nothing out of snapshots")
	}
	goal.Check(t, e.Counts().Distinct)
}

// TestLostFlush proves that the explorer sees what it is for: no flush of a
// transaction that changes anything can be left out unnoticed. With one slot the
// first of three can: the header goes to the spare place behind it, where
// nobody looks while slot 0 is whole, and the next flush covers both.
func TestLostFlush(t *testing.T) {
	w := workload(t, "two-pfs")
	w.Steps = 2
	for _, s := range Shapes()[:2] {
		rec, err := record(t.Context(), w, s, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		flushes := 0
		for _, c := range rec.commits[1:] {
			for k := c.before + 1; k <= c.upto; k++ {
				if c.upto-c.before == 3 && k == c.before+1 {
					continue
				}
				flushes++
				e := &Explorer{}
				run{w, s}.explore(t, e, 1, k, Job{})
				if len(e.Failures()) == 0 {
					t.Errorf("%s: flush %d, in transaction %q, was lost and nobody noticed", s.Name, k, c.What)
				}
			}
		}
		if flushes < 6 {
			t.Errorf("%s: only %d flushes were lost", s.Name, flushes)
		}
	}
}

// TestReplay shows one failure again, from what the failure says.
func TestReplay(t *testing.T) {
	if *replay == "" || strings.HasPrefix(*replay, lostName+",") {
		t.Skip("nothing to replay")
	}
	part := strings.SplitN(*replay, ",", 5)
	if len(part) < 5 {
		t.Fatalf("%q: want workload,shape,seed,drop,cut", *replay)
	}
	var num [2]int
	for i := range num {
		var err error
		if num[i], err = strconv.Atoi(part[2+i]); err != nil {
			t.Fatal(err)
		}
	}
	e := &Explorer{Limit: 4}
	r := run{workload(t, part[0]), shape(t, part[1])}
	if _, c := r.explore(t, e, uint64(num[0]), num[1], Job{Only: part[4]}); c.Images == 0 && len(e.Failures()) == 0 {
		t.Error("there is no such image")
	}
	for _, f := range e.Failures() {
		t.Error(f)
	}
}

func workload(t *testing.T, name string) Workload {
	t.Helper()
	for _, w := range append(append(Workloads(), foreignWorkload()), growWorkloads()...) {
		if w.Name == name {
			return w
		}
	}
	t.Fatalf("no workload %q", name)
	return Workload{}
}

// shape finds one by name; golden volumes are shapes too.
func shape(t *testing.T, name string) Shape {
	t.Helper()
	for _, s := range Shapes() {
		if s.Name == name {
			return s
		}
	}
	dev := golden.Device(t, name)
	return Shape{Name: name, Sizes: []int64{dev.Size()}, Base: dev}
}
