package hostile_test

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/chain/hostile"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// Images that were not met well. The faults behind them have tests of their own
// where they were; a seed stands for its image as long as mutations stay.
var kept = []struct {
	base string
	seed uint64
	what string
}{
	{"attrs", 27, "show went round in circles"},
	{"snapshots", 59, "fsck went through one table many times over"},
	{"links", 157, "a header of a larger volume was a panic"},
	{"kinds", 166, "the promise of one member stalled all three"},
	{"deep", 1066, "a damaged table inside itself was printed for ever"},
	{"small", 2149, "a PFS root with inline content was a panic on the first change"},
	{"kinds", 5114, "a charter damaged on one member was taken over by all"},
	{"two-volumes", 20837, "bulkfree of a damaged member failed a write on all"},
	{"kinds", 22314, "the position of one member stalled all three"},
	{"kinds", 301653, "a tainted member's epoch was counted on from, further than the others promise"},
}

func TestKept(t *testing.T) {
	y := new(tally)
	for _, k := range kept {
		meet(t, y, k.base, k.seed)
	}
	for _, f := range y.failures {
		t.Error(f)
	}
}

// TestEveryMutation does each damage alone, on the first volume that has what
// it needs.
func TestEveryMutation(t *testing.T) {
	for i, name := range hostile.Mutations() {
		done := false
		for n, base := range []string{"kinds", "kinds", "snapshots", "snapshots", "comp-zlib", "small", "kinds"} {
			b := baseOf(t, base)
			im, ok := b.plan.With(name, uint64(100*i+n))
			if !ok {
				continue
			}
			if _, err := im.Check(t.Context(), b.sound); err != nil {
				t.Errorf("%v: %v", im, err)
			}
			done = true
			break
		}
		if !done {
			t.Errorf("%s is never done", name)
		}
	}
}

// The watch sees what it is for.
func TestWatch(t *testing.T) {
	for name, misuse := range map[string]func(w *hostile.Watch){
		"read beyond":  func(w *hostile.Watch) { w.ReadAt(make([]byte, 512), 4096-256) },
		"read before":  func(w *hostile.Watch) { w.ReadAt(make([]byte, 512), -512) },
		"write beyond": func(w *hostile.Watch) { w.WriteAt(make([]byte, 512), 1<<62) },
		"discard":      func(w *hostile.Watch) { w.Discard(0, 8192) },
	} {
		w := hostile.NewWatch(memdev.New(4096), 10)
		if misuse(w); w.Misuse() == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
	w := hostile.NewWatch(memdev.New(4096), 10)
	for range 10 {
		if _, err := w.ReadAt(make([]byte, 512), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.ReadAt(make([]byte, 512), 0); !errors.Is(err, hostile.ErrEndless) || !errors.Is(w.Misuse(), hostile.ErrEndless) {
		t.Errorf("read 11 of 10: %v", err)
	}
}
