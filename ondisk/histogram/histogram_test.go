package histogram

import (
	"sync"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	for _, c := range []struct {
		d      time.Duration
		bucket int
	}{
		{0, 0}, {-1, 0}, {10 * time.Microsecond, 0}, {10*time.Microsecond + 1, 1}, {3 * time.Millisecond, 8},
		{30 * time.Second, len(Bounds) - 1}, {time.Hour, len(Bounds)},
	} {
		var h Histogram
		h.Add(c.d)
		if s := h.Snapshot(); s.Counts[c.bucket] != 1 || s.Count() != 1 || s.Sum != c.d {
			t.Errorf("%v: %v", c.d, s)
		}
	}
	for i := 1; i < len(Bounds); i++ {
		if Bounds[i] <= Bounds[i-1] {
			t.Errorf("bounds %d and %d are out of order", i-1, i)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	var h Histogram
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 1000 {
				h.Add(time.Duration(i) * time.Millisecond)
			}
		})
	}
	wg.Wait()
	if s := h.Snapshot(); s.Count() != 8000 || s.Sum != 28*time.Second {
		t.Errorf("%d durations, sum %v", s.Count(), s.Sum)
	}
}
