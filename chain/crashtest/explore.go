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

// A Recording is something that was done to a Tap, and who judges what a cut
// leaves of it.
type Recording struct {
	Tap     *Tap
	Moments []Moment // in order; the first is how it began, acknowledged after 0 events

	// Judge demands that an image, which it may change, is one of the moments
	// in want, that all is well with it and that it can be used. It returns
	// the digest of what it found.
	Judge func(ctx context.Context, img *memdev.Device, want []int) (digest uint64, err error)

	// Recover uses an image, which is at that moment, and records that.
	Recover func(ctx context.Context, img *memdev.Device, from int, salt uint64) (*Recording, error)
}

// A Moment is a state that a cut may leave: it was begun after so many events,
// and acknowledged after so many. Moments that were not acknowledged by
// themselves have Acked of a later one that was.
type Moment struct {
	What         string
	Begun, Acked int
	Digest       uint64 // of what is there
}

// allowed is what may be there after n events: the last moment acknowledged by
// then, and those begun after it.
func (r *Recording) allowed(n int) []int {
	last := 0
	for i := range r.Moments {
		if r.Moments[i].Acked <= n {
			last = i
		}
	}
	list := []int{last}
	for i := last + 1; i < len(r.Moments) && r.Moments[i].Begun < n; i++ {
		list = append(list, i)
	}
	return list
}

// choose finds the moment with that digest among those allowed.
func (r *Recording) choose(want []int, digest uint64) (moment int, ok bool) {
	for _, i := range want {
		if r.Moments[i].Digest == digest {
			return i, true
		}
	}
	return 0, false
}

// A Job is a recording that is to be cut everywhere.
type Job struct {
	Name   string // in failures
	Replay string // what -replay needs, but for the cut
	Seed   uint64
	Max    int    // images between two flushes, chosen by the seed; 0 = all
	Every  int    // of a recovery that is cut again, only every so many windows; 0 = each
	Only   string // only the image of that name; "" = all
	Stop   int    // distinct images after which it may end; 0 = none
}

// A Failure is an image that is not what it should be.
type Failure struct {
	Job   Job
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
	return fmt.Sprintf("%s, cut %q%s:\n\t%v\nto see it again: -run TestReplay -replay '%s,%s'", f.Job.Name, f.Cut, again, f.Err, f.Job.Replay, f.Cut)
}

// Counts add up what was looked at.
type Counts struct {
	Images   int // crash states
	Distinct int // images of them that were judged
	Torn     int // of these, with a write that is there in part
	Again    int // of these, cut again while they recovered
}

// Add adds what was looked at elsewhere.
func (c *Counts) Add(o Counts) {
	c.Images += o.Images
	c.Distinct += o.Distinct
	c.Torn += o.Torn
	c.Again += o.Again
}

func (c Counts) String() string {
	return fmt.Sprintf("%d images, %d distinct, %d torn, %d cut again in recovery", c.Images, c.Distinct, c.Torn, c.Again)
}

// An Explorer judges images on all cores. It may be used for several jobs,
// one after the other.
type Explorer struct {
	Deadline time.Time // zero = none
	Limit    int       // failures after which it stops; 0 = 1

	mu       sync.Mutex
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

// Done reports whether it is time to stop.
func (e *Explorer) Done() bool {
	return e.full.Load() || !e.Deadline.IsZero() && time.Now().After(e.Deadline)
}

// Explore judges the images of a recording, equal ones once, and returns how
// many there were.
func (e *Explorer) Explore(ctx context.Context, rec *Recording, j Job) Counts {
	x := &exploration{e: e, job: &j, rec: rec, seen: make(map[uint64]uint64), counts: new(Counts)}
	jobs := make(chan crashdev.State, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for st := range jobs {
				x.image(ctx, st)
			}
		})
	}
	x.each(j.Max, func(st crashdev.State) bool {
		jobs <- st
		return !x.done()
	})
	close(jobs)
	wg.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts.Add(*x.counts)
	return *x.counts
}

// An exploration is the images of one recording.
type exploration struct {
	e     *Explorer
	job   *Job
	rec   *Recording
	outer string // cut that the recording starts from, if it is a recovery

	seen   map[uint64]uint64 // image -> digest of what it holds; e.mu guards it
	counts *Counts           // e.mu guards them; a recovery's are its outer one's
}

func (x *exploration) done() bool {
	if x.job.Stop > 0 {
		x.e.mu.Lock()
		defer x.e.mu.Unlock()
		return x.counts.Distinct >= x.job.Stop || x.e.Done()
	}
	return x.e.Done()
}

// each calls fn with all states of the recording, until it returns false. The
// least that can be left at the moment of each answer comes first, and is not
// counted: if all was flushed, it is one of the others.
func (x *exploration) each(most int, fn func(crashdev.State) bool) {
	if x.outer != "" {
		o := crashdev.Options{Seed: x.job.Seed, Max: most}
		if most > 0 && x.job.Every > 1 { // other windows of each recovery
			o.Every, o.First = x.job.Every, int(sumOf([]byte(x.outer))/20%uint64(x.job.Every))
		}
		x.rec.Tap.Each(o, fn)
		return
	}
	for i := range x.rec.Moments {
		st := x.rec.Tap.Least(x.rec.Moments[i].Acked)
		if (x.job.Only == "" || x.job.Only == st.Name) && !fn(st) {
			return
		}
	}
	x.rec.Tap.Each(crashdev.Options{Seed: x.job.Seed, Max: most, Only: x.job.Only}, fn)
}

// image judges one state, unless its image is known.
func (x *exploration) image(ctx context.Context, st crashdev.State) {
	if x.e.full.Load() {
		return
	}
	defer st.Image.Recycle()
	want := x.rec.allowed(st.N)
	if st.Sum == 0 {
		if _, err := x.rec.Judge(ctx, st.Image, want); err != nil {
			x.fail(st, err)
		}
		return
	}
	x.e.mu.Lock()
	digest, known := x.seen[st.Sum]
	x.counts.Images++
	x.e.mu.Unlock()
	if known {
		if _, ok := x.rec.choose(want, digest); !ok {
			x.fail(st, fmt.Errorf("not what was acknowledged by then: %s", x.names(want)))
		}
		return
	}
	// One image in twenty is cut again.
	again := x.outer == "" && x.rec.Recover != nil && (sumOf([]byte(st.Name))%20 == 0 || x.job.Only != "")
	var copied *memdev.Device
	if again {
		copied = st.Image.Clone()
		defer copied.Recycle()
	}
	digest, err := x.rec.Judge(ctx, st.Image, want)
	if err != nil {
		x.fail(st, err)
		return
	}
	x.e.mu.Lock()
	if _, known = x.seen[st.Sum]; !known {
		x.counts.Distinct++
		if x.seen[st.Sum] = digest; st.Torn {
			x.counts.Torn++
		}
	}
	x.e.mu.Unlock()
	if again && !known {
		if err := x.again(ctx, st, copied, want, digest); err != nil {
			x.fail(st, fmt.Errorf("recovering: %w", err))
		}
	}
}

func (x *exploration) names(list []int) (s string) {
	for _, i := range list {
		s += fmt.Sprintf("%q ", x.rec.Moments[i].What)
	}
	return s
}

// again records how an image recovers, and looks at the images of that.
func (x *exploration) again(ctx context.Context, st crashdev.State, img *memdev.Device, want []int, digest uint64) error {
	from, _ := x.rec.choose(want, digest)
	rec, err := x.rec.Recover(ctx, img, from, uint64(st.N))
	if err != nil {
		return err
	}
	x.e.mu.Lock()
	x.counts.Again++
	x.e.mu.Unlock()
	y := &exploration{e: x.e, job: x.job, rec: rec, outer: st.Name, seen: make(map[uint64]uint64), counts: x.counts}
	most := 1
	if x.job.Only != "" {
		most = 0
	}
	y.each(most, func(st crashdev.State) bool {
		y.image(ctx, st)
		return !x.done()
	})
	return nil
}

func (x *exploration) fail(st crashdev.State, err error) {
	f := &Failure{Job: *x.job, Cut: st.Name, Err: err}
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

// sumOf is a hash of parts, one behind the other.
func sumOf(parts ...[]byte) uint64 {
	pooled := scratch.Get().(*[]byte)
	defer scratch.Put(pooled)
	*pooled = (*pooled)[:0]
	for _, p := range parts {
		*pooled = append(*pooled, p...)
	}
	return ondisk.XXH64(*pooled)
}

// scratch is for what is looked at and forgotten: images are many.
var scratch = sync.Pool{New: func() any { return new([]byte) }}
