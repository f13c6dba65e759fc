package crashtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A Run is one workload, to be cut everywhere. It is the same each time.
type Run struct {
	Workload Workload
	Shape    Shape
	Seed     uint64
	Max      int    // images between two flushes, chosen by the seed; 0 = all
	Drop     int    // number of a flush that is lost, from 1; 0 = none
	Cut      string // only the image of that name; "" = all
}

// A Failure is an image that is not what it should be.
type Failure struct {
	Run   Run
	Cut   string // name of the image
	Again string // name of the image of its recovery, if that was cut too
	Err   error
}

// Error says what is wrong and how to see it again.
func (f *Failure) Error() string {
	again := ""
	if f.Again != "" {
		again = fmt.Sprintf(", and in recovery: %s", f.Again)
	}
	return fmt.Sprintf("workload %s on %s, seed %d, max %d, drop %d, cut %q%s:\n\t%v\nto see it again: -run TestReplay -replay '%s,%s,%d,%d,%d,%s'",
		f.Run.Workload.Name, f.Run.Shape.Name, f.Run.Seed, f.Run.Max, f.Run.Drop, f.Cut, again, f.Err,
		f.Run.Workload.Name, f.Run.Shape.Name, f.Run.Seed, f.Run.Max, f.Run.Drop, f.Cut)
}

// Counts add up what was looked at.
type Counts struct {
	Images    int // crash states
	Distinct  int // images of them that were judged
	Recovered int // of the images, those cut again while they recovered
	Commits   int // transactions cut through
	Aborted   int // transactions that found no space or were given up
	Reused    int // pages that blocks were written to again
}

// An Explorer judges images on all cores. It may be used for several runs,
// one after the other; images seen before are not judged again.
type Explorer struct {
	Deadline time.Time // zero = none
	Limit    int       // failures after which it stops; 0 = 1

	mu       sync.Mutex
	seen     map[uint64]uint64 // image -> digest of what it holds
	failures []*Failure
	counts   Counts
	full     atomic.Bool // no more images are wanted
}

// Counts returns what was looked at so far.
func (e *Explorer) Counts() Counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts
}

// Failures returns what was found so far.
func (e *Explorer) Failures() []*Failure {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.failures)
}

// Explore records a run and judges its images. Errors are those of the run
// itself, when nothing was cut.
func (e *Explorer) Explore(ctx context.Context, r Run) error {
	rec, err := record(ctx, r.Workload, r.Shape, r.Seed, r.Drop)
	if err != nil {
		return fmt.Errorf("workload %s on %s, seed %d: %w", r.Workload.Name, r.Shape.Name, r.Seed, err)
	}
	e.mu.Lock()
	if e.seen == nil {
		e.seen = make(map[uint64]uint64)
	}
	e.counts.Commits += len(rec.commits) - 1
	e.counts.Aborted += rec.aborted
	e.counts.Reused += rec.tap.Reused()
	e.mu.Unlock()
	x := &exploration{e: e, run: r, rec: rec, pages: rec.tap.pages()}
	jobs := make(chan crashdev.State)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for st := range jobs {
				x.image(ctx, st)
			}
		})
	}
	x.each(r.Max, func(st crashdev.State) bool {
		if r.Cut == "" || r.Cut == st.Name {
			jobs <- st
		}
		return !e.done()
	})
	close(jobs)
	wg.Wait()
	return nil
}

// done reports whether it is time to stop.
func (e *Explorer) done() bool {
	return e.full.Load() || !e.Deadline.IsZero() && time.Now().After(e.Deadline)
}

// An exploration is the images of one recording.
type exploration struct {
	e     *Explorer
	run   Run
	rec   *recording
	pages []pageRange
	outer string // cut that the recording starts from, if it is a recovery
}

// each calls fn with all states of the recording, until it returns false. At
// the moment of each answer the least that can be left comes first.
func (x *exploration) each(most int, fn func(crashdev.State) bool) {
	for _, c := range x.rec.commits {
		if !fn(x.rec.tap.Least(c.acked)) {
			return
		}
	}
	x.rec.tap.Each(crashdev.Options{Seed: x.run.Seed, Max: most}, fn)
}

// image judges one state, unless its image is known.
func (x *exploration) image(ctx context.Context, st crashdev.State) {
	if x.e.full.Load() {
		return
	}
	want := allowed(x.rec.commits, st.N)
	key := x.sum(st.Image)
	x.e.mu.Lock()
	digest, known := x.e.seen[key]
	x.e.counts.Images++
	x.e.mu.Unlock()
	if known {
		if choose(want, digest) == nil {
			x.fail(st, fmt.Errorf("not what was acknowledged by then: %s", names(want)))
		}
		return
	}
	again := x.outer == "" && (key%16 == 0 || x.run.Cut != "")
	var copied *memdev.Device
	if again {
		copied = st.Image.Clone()
	}
	digest, err := judge(ctx, st.Image, want)
	if err != nil {
		x.fail(st, err)
		return
	}
	x.e.mu.Lock()
	x.e.counts.Distinct++
	x.e.seen[key] = digest
	x.e.mu.Unlock()
	if again {
		if err := x.recover(ctx, st, copied, choose(want, digest)); err != nil {
			x.fail(st, fmt.Errorf("recovering: %w", err))
		}
	}
}

func names(list []*commit) (s string) {
	for _, c := range list {
		s += fmt.Sprintf("%q ", c.what)
	}
	return s
}

// recover opens an image under a recorder, goes on a little, and looks at the
// images of that.
func (x *exploration) recover(ctx context.Context, st crashdev.State, img *memdev.Device, from *commit) error {
	s, err := openSession(ctx, NewTap(img, 0), uint64(st.N), from.state)
	if err != nil {
		return err
	}
	if err := s.probe(); err != nil {
		return err
	}
	if err := s.close(); err != nil {
		return err
	}
	x.e.mu.Lock()
	x.e.counts.Recovered++
	x.e.mu.Unlock()
	y := &exploration{e: x.e, run: x.run, rec: &recording{tap: s.tap, commits: s.commits}, pages: s.tap.pages(), outer: st.Name}
	y.each(2, func(st crashdev.State) bool {
		y.image(ctx, st)
		return !x.e.done()
	})
	return nil
}

// sum identifies an image among all: run, and content as far as the recording
// ever wrote.
func (x *exploration) sum(img *memdev.Device) uint64 {
	sum := sumOf(fmt.Append(nil, x.run.Workload.Name, x.run.Shape.Name, x.run.Seed, x.run.Drop, x.outer))
	var buf []byte
	for _, p := range x.pages {
		if int64(len(buf)) < p.n {
			buf = make([]byte, p.n)
		}
		if _, err := img.ReadAt(buf[:p.n], p.off); err != nil {
			panic(err) // memory has no errors, and the pages were written
		}
		sum = sum*31 + ondisk.XXH64(buf[:p.n])
	}
	return sum
}

func (x *exploration) fail(st crashdev.State, err error) {
	f := &Failure{Run: x.run, Cut: st.Name, Err: err}
	if x.outer != "" {
		f.Cut, f.Again = x.outer, st.Name
	}
	x.e.mu.Lock()
	defer x.e.mu.Unlock()
	x.e.failures = append(x.e.failures, f)
	if len(x.e.failures) >= max(x.e.Limit, 1) {
		x.e.full.Store(true)
	}
}
