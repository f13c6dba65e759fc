package chain

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// differences lists where two trees differ, and counts tables entered.
func differences(t *testing.T, src, dst *memPFS, limits DiffLimits) (list []string, tables int) {
	t.Helper()
	sv, dv := src.view(t), dst.view(t)
	for from, done := (Cursor{}), false; !done; {
		next, end, stats, err := Diff(context.Background(), sv, dv, 0, from, limits, func(c Change) error {
			list = append(list, fmt.Sprint(c.Inum, c.Kind, c.Key, c.Delete))
			return nil
		}, func(Touch) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		from, done, tables = next, end, tables+stats.Tables
	}
	slices.Sort(list)
	return slices.Compact(list), tables // an inode that a stop cut comes twice
}

// TestEquals: what is remembered of equal tables never hides a difference, and
// what was found equal is not looked at again.
func TestEquals(t *testing.T) {
	for seed := range uint64(6) {
		src, mid, dst, _ := fork(t, seed, true)
		for _, limits := range []DiffLimits{{Strict: true}, {Strict: true, Leaves: 200}, {Strict: true, Changes: 3, Sound: true, Bare: true}} {
			with := limits
			with.Equals = NewEquals()
			for round := range 2 {
				for _, p := range []*memPFS{src, mid, dst} {
					want, _ := differences(t, src, p, limits)
					if got, _ := differences(t, src, p, with); !slices.Equal(got, want) {
						t.Fatalf("seed %d, %+v, round %d: %d differences, want %d", seed, limits, round, len(got), len(want))
					}
				}
			}
		}
		resync(t, src, dst, 0, ondisk.MakeTid(3, 0), DiffLimits{})
		limits := DiffLimits{Strict: true, Leaves: 500, Equals: NewEquals()}
		if list, _ := differences(t, src, dst, limits); len(list) != 0 {
			t.Fatalf("seed %d: they differ after a resync: %v", seed, list)
		}
		limits.Leaves = 0
		if _, first := differences(t, src, dst, DiffLimits{Strict: true, Equals: limits.Equals}); first > 40 {
			t.Fatalf("seed %d: %d tables are entered again", seed, first)
		}
		m := newMaker(t, seed+50)
		dst.mustApply(t, m.batch(ondisk.MakeTid(3, 1), 20))
		want, all := differences(t, src, dst, DiffLimits{Strict: true})
		got, some := differences(t, src, dst, limits)
		if !slices.Equal(got, want) || some > all {
			t.Fatalf("seed %d: %d differences in %d tables, want %d in %d", seed, len(got), some, len(want), all)
		}
	}
}
