package hostile_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/tests/bar"
)

var (
	seed   = flag.Uint64("seed", 1, "of the first image; others follow")
	replay = flag.String("replay", "", "base,seed of an image that was not met well")
)

// A panic in a goroutine that an image started ends the program: all stacks
// are printed then, and those of meet have the seed as an argument.
func TestMain(m *testing.M) {
	debug.SetTraceback("all")
	flag.Parse()
	os.Exit(m.Run())
}

var goal = bar.Goal{What: "hostile images", Quick: 200, Test: 5_000, Nightly: 2_000_000}

const (
	slow = 60 * time.Second // for one image; the reads that end it come long before

	// maxMemory is what images may make the whole test program hold, with
	// all bases (about 60 MiB) and the images of all workers.
	maxMemory = 512 << 20
)

// A tally adds up what images went through.
type tally struct {
	healed atomic.Int64 // members that came back

	mu                                              sync.Mutex // guards what follows
	images, opened, whole, commits, noticed, pooled int
	reads                                           int64
	failures                                        []string
}

func (y *tally) full() bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.failures) >= 8
}

// TestHostile makes images by seed, of all bases in turn.
func TestHostile(t *testing.T) {
	order := schedule()
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(order), func(i, k int) { order[i], order[k] = order[k], order[i] })
	for _, name := range order {
		baseOf(t, name)
	}
	began := time.Now()
	top := watchMemory(t)
	y := new(tally)
	seeds := make(chan uint64)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) + 1 {
		wg.Go(func() {
			for s := range seeds {
				meet(t, y, order[s%uint64(len(order))], s)
			}
		})
	}
	for n := range uint64(goal.N(t)) {
		if y.full() || goal.Over(t, began, int(n)) {
			break
		}
		seeds <- *seed + n
	}
	close(seeds)
	wg.Wait()
	for _, f := range y.failures {
		t.Error(f)
	}
	t.Logf("%d images: %d opened, %d of their PFSs readable as a whole, %d commits worked, fsck noticed %d; %d were one of three, %d pools whole again; %d MiB at most",
		y.images, y.opened, y.whole, y.commits, y.noticed, y.pooled, y.healed.Load(), top()>>20)
	if !t.Failed() && (y.opened*2 < y.images || y.commits < y.images || y.noticed*3 < y.images) {
		t.Error("that is too little to say anything")
	}
	goal.Check(t, y.images)
}

// TestReplay meets one image again.
func TestReplay(t *testing.T) {
	if *replay == "" {
		t.Skip("nothing to replay")
	}
	name, num, _ := strings.Cut(*replay, ",")
	s, err := strconv.ParseUint(num, 10, 64)
	if err != nil {
		t.Fatalf("%q: want base,seed", *replay)
	}
	y := new(tally)
	meet(t, y, name, s)
	for _, f := range y.failures {
		t.Error(f)
	}
}

// meet puts the image of a seed to everything.
//
//go:noinline
func meet(t testing.TB, y *tally, name string, seed uint64) {
	b := baseOf(t, name)
	im := b.plan.New(seed)
	ctx, cancel := context.WithTimeout(t.Context(), slow)
	defer cancel()
	late := time.AfterFunc(2*slow, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("%v: no end; to see it again: %s", im, again(name, seed)))
	})
	defer late.Stop()
	r, err := im.Check(ctx, b.sound)
	pool := pooled{b, im, y}
	if err == nil {
		err = pool.check(ctx)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.images++
	if b.others[0] != nil {
		y.pooled++
	}
	if r.Opened {
		y.opened++
	}
	if r.Noticed {
		y.noticed++
	}
	y.whole += r.Read
	y.commits += r.Commits
	y.reads += r.Reads
	if err != nil {
		y.failures = append(y.failures, fmt.Sprintf("%v\n\t%v\nto see it again: %s", im, err, again(name, seed)))
	}
}

func again(name string, seed uint64) string {
	return fmt.Sprintf("go test ./chain/hostile -run TestReplay -replay %s,%d", name, seed)
}

// watchMemory samples what the program holds; the result is the most it was,
// and the test fails if that is more than maxMemory.
func watchMemory(t *testing.T) (most func() uint64) {
	debug.SetGCPercent(100) // what was not collected yet counts
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	top := uint64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(sample)
			top = max(top, sample[0].Value.Uint64())
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		if top > maxMemory {
			t.Errorf("%d bytes held, more than %d", top, maxMemory)
		}
		return top
	}
}
