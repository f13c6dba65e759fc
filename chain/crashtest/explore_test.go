package crashtest

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk/golden"
)

var (
	long   = flag.Duration("long", 0, "explore for that long; or set ANVILFS_LONG")
	seed   = flag.Uint64("seed", 1, "of the first round; others follow")
	replay = flag.String("replay", "", "workload,shape,seed,max,drop,cut of a failure")
)

// budget is how long TestExplore takes.
func budget(t *testing.T) time.Duration {
	d := *long
	if env := os.Getenv("ANVILFS_LONG"); d == 0 && env != "" {
		var err error
		if d, err = time.ParseDuration(env); err != nil {
			t.Fatal(err)
		}
	}
	if d == 0 {
		d = 8 * time.Second
	}
	return d
}

// TestExplore cuts every workload on every shape, with one seed after the
// other, until its time is over. The first round gives each its share of it.
func TestExplore(t *testing.T) {
	var runs []Run
	for _, w := range Workloads() {
		for _, shape := range Shapes() {
			if w.fits(shape) {
				runs = append(runs, Run{Workload: w, Shape: shape})
			}
		}
	}
	d := budget(t)
	end := time.Now().Add(d)
	e := &Explorer{Limit: 4}
	for round := 0; round == 0 || time.Now().Before(end) && len(e.Failures()) < e.Limit; round++ {
		if round > 0 { // whoever comes last may come too late
			rand.New(rand.NewPCG(*seed, uint64(round))).Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
		}
		for i, r := range runs {
			if r.Seed, r.Max = *seed+uint64(round), 2; round > 0 {
				r.Max = 12
			}
			e.Deadline = end
			if round == 0 {
				e.Deadline = time.Now().Add(time.Until(end) / time.Duration(len(runs)-i))
			}
			if err := e.Explore(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, f := range e.Failures() {
		t.Error(f)
	}
	c := e.Counts()
	t.Logf("explored %d crash images, %d distinct, %d cut again in recovery; %d transactions, %d aborted, %d pages reused",
		c.Images, c.Distinct, c.Recovered, c.Commits, c.Aborted, c.Reused)
	if !t.Failed() && (c.Distinct < 500 || c.Recovered < 5 || c.Aborted == 0 || c.Reused == 0) {
		t.Error("that is too little to say anything")
	}
}

// TestLostFlush proves that the explorer sees what it is for: no flush of a
// transaction that changes anything can be left out unnoticed. With one slot the
// first of three can: the header goes to the spare place behind it, where
// nobody looks while slot 0 is whole, and the next flush covers both.
func TestLostFlush(t *testing.T) {
	ctx, w := t.Context(), workload(t, "two-pfs")
	w.Steps = 2
	for _, s := range Shapes()[:2] {
		rec, err := record(ctx, w, s, 1, 0)
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
				if err := e.Explore(ctx, Run{Workload: w, Shape: s, Seed: 1, Drop: k}); err != nil {
					t.Fatal(err)
				}
				if len(e.Failures()) == 0 {
					t.Errorf("%s: flush %d, in transaction %q, was lost and nobody noticed", s.Name, k, c.what)
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
	if *replay == "" {
		t.Skip("nothing to replay")
	}
	part := strings.SplitN(*replay, ",", 6)
	if len(part) < 6 {
		t.Fatalf("%q: want workload,shape,seed,max,drop,cut", *replay)
	}
	var num [3]int
	for i := range num {
		var err error
		if num[i], err = strconv.Atoi(part[2+i]); err != nil {
			t.Fatal(err)
		}
	}
	e := &Explorer{Limit: 4}
	r := Run{Workload: workload(t, part[0]), Shape: shape(t, part[1]), Seed: uint64(num[0]), Max: num[1], Drop: num[2], Cut: part[5]}
	if err := e.Explore(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if e.Counts().Images == 0 {
		t.Error("there is no such image")
	}
	for _, f := range e.Failures() {
		t.Error(f)
	}
}

func workload(t *testing.T, name string) Workload {
	t.Helper()
	for _, w := range append(Workloads(), foreignWorkload()) {
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
	return Shape{Name: name, Size: dev.Size(), Base: dev}
}
