package bar

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A recorder is a testing.TB that keeps verdicts to itself.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()                           {}
func (r *recorder) Log(args ...any)                   {}
func (r *recorder) Error(args ...any)                 { r.failed = true }
func (r *recorder) Errorf(format string, args ...any) { r.failed = true }
func (r *recorder) Fatalf(format string, args ...any) { r.failed = true }

func TestOver(t *testing.T) {
	g := Goal{"things", 1, 10, 100}
	for _, c := range []struct {
		depth, long string
		ago         time.Duration
		n           int
		want        bool
	}{
		{"test", "1m", time.Hour, 50, false},
		{"nightly", "", time.Hour, 50, false},
		{"nightly", "1m", time.Hour, 50, true},
		{"nightly", "1m", time.Hour, 10, true},
		{"nightly", "1m", time.Hour, 9, false},
		{"nightly", "1m", time.Second, 50, false},
	} {
		t.Setenv("ANVILFS_DEPTH", c.depth)
		t.Setenv("ANVILFS_LONG", c.long)
		if got := g.Over(t, time.Now().Add(-c.ago), c.n); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestCheck(t *testing.T) {
	g := Goal{"things", 1, 10, 100}
	for _, c := range []struct {
		depth, long string
		n           int
		fails       bool
	}{
		{"", "", 1, false},
		{"", "", 0, true},
		{"quick", "", 1, false},
		{"test", "", 9, true},
		{"test", "1m", 9, true},
		{"test", "", 10, false},
		{"nightly", "", 99, true},
		{"nightly", "", 100, false},
		{"nightly", "1m", 99, false},
		{"nightly", "1m", 9, true},
		{"nightly", "soon", 100, true},
		{"deep", "", 100, true},
	} {
		counts := filepath.Join(t.TempDir(), "counts")
		t.Setenv("ANVILFS_DEPTH", c.depth)
		t.Setenv("ANVILFS_LONG", c.long)
		t.Setenv("ANVILFS_COUNTS", counts)
		r := &recorder{TB: t}
		g.Check(r, c.n)
		if r.failed != c.fails {
			t.Errorf("%+v: failed is %v", c, r.failed)
		}
		if text, err := os.ReadFile(counts); err != nil || !strings.Contains(string(text), "things") {
			t.Errorf("%+v: counts: %q, %v", c, text, err)
		}
	}
}
