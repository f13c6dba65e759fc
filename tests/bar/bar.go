// Package bar says how much a harness has to do before its silence counts as
// proof, and keeps the count.
//
// How deep a run goes is set from outside by ANVILFS_DEPTH:
//
//	quick    (or unset)  seconds, for whoever changes code
//	test     the column of make test
//	nightly  the column of make test-long, or what is done by the end of ANVILFS_LONG,
//	         but no less than the column of make test
//
// A harness asks a Goal how much it is to do, does it, and hands in its count.
// A count below the goal fails the run. Counts are appended to the file that
// ANVILFS_COUNTS names, one line each, for make to print at the end.
package bar

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// A Depth is how much is to be done.
type Depth int

// The depths, in order.
const (
	Quick Depth = iota
	Test
	Nightly
)

var names = [...]string{"quick", "test", "nightly"}

func (d Depth) String() string { return names[d] }

// Of returns the depth of this run.
func Of(t testing.TB) Depth {
	t.Helper()
	env := os.Getenv("ANVILFS_DEPTH")
	if env == "" {
		return Quick
	}
	for d, name := range names {
		if env == name {
			return Depth(d)
		}
	}
	t.Fatalf("ANVILFS_DEPTH=%s: quick, test or nightly", env)
	return Quick
}

// Long is when a nightly run ends although its goal is not reached. At other
// depths, and without ANVILFS_LONG, ok is false: only the goal ends the run.
func Long(t testing.TB) (d time.Duration, ok bool) {
	t.Helper()
	env := os.Getenv("ANVILFS_LONG")
	if Of(t) != Nightly || env == "" {
		return 0, false
	}
	d, err := time.ParseDuration(env)
	if err != nil {
		t.Fatalf("ANVILFS_LONG: %v", err)
	}
	return d, true
}

// A Goal is how much of something is to be done at each depth.
type Goal struct {
	What                 string // plural: "distinct crash images"
	Quick, Test, Nightly int
}

// N is how much is to be done in this run.
func (g Goal) N(t testing.TB) int {
	t.Helper()
	return [...]int{g.Quick, g.Test, g.Nightly}[Of(t)]
}

// Over reports whether a run that began then, and has done n, is ended by its
// time: not before it has done what make test asks for.
func (g Goal) Over(t testing.TB, began time.Time, n int) bool {
	t.Helper()
	d, bounded := Long(t)
	return bounded && n >= g.Test && time.Since(began) >= d
}

// Check records that n were done and fails the test if that is too little. A
// nightly run that its time ended must have done what make test asks for.
func (g Goal) Check(t testing.TB, n int) {
	t.Helper()
	need := g.N(t)
	if _, bounded := Long(t); bounded {
		need = min(need, g.Test)
	}
	line := fmt.Sprintf("%9d %s (%s: at least %d)", n, g.What, Of(t), need)
	t.Log(line)
	if n < need {
		t.Errorf("too little to say anything: %s", line)
	}
	if path := os.Getenv("ANVILFS_COUNTS"); path != "" {
		if err := record(path, line); err != nil {
			t.Error(err)
		}
	}
}

// record appends in one write: the test programs of packages run side by side.
func record(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("count: %w", err)
	}
	_, err = f.WriteString(line + "\n")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
