package resync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// small makes a run take many commits, through a shadow.
var small = Options{DirectBytes: 1, DirectChanges: 1, StepBytes: 1}

// A mortal device is gone after a number of flushes.
type mortal struct {
	*memdev.Device
	left int
}

var errGone = errors.New("the power is off")

func (m *mortal) WriteAt(p []byte, off int64) (int, error) {
	if m.left <= 0 {
		return 0, errGone
	}
	return m.Device.WriteAt(p, off)
}

func (m *mortal) Flush() error {
	if m.left--; m.left < 0 {
		return errGone
	}
	return m.Device.Flush()
}

// behind is a world whose target missed something.
func behind(t *testing.T) *world {
	w := newWorld(t, 1<<30)
	w.write(300, 3000, true)
	w.write(20, 70000, true)
	for range 3 {
		w.write(150, 130000, false)
	}
	return w
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		mode Mode
	}{{"direct", Options{}, ModeDirect}, {"shadow", small, ModeShadow}} {
		t.Run(c.name, func(t *testing.T) {
			w := behind(t)
			rep := w.run(c.o)
			if rep.State != Done || rep.Mode != c.mode || w.joined == nil || *w.joined != w.pos {
				t.Fatalf("%+v", rep)
			}
			if !w.same() {
				t.Error("leaves differ")
			}
			w.clean()
			if rep.BytesDone == 0 || rep.Goal != w.pos.T.String() || rep.Round != 1 {
				t.Errorf("%+v", rep)
			}
			if slices.ContainsFunc(w.labels(), func(l string) bool { return strings.HasPrefix(l, ".") }) {
				t.Errorf("left: %q", w.labels())
			}
			// As a source later, it must not prune what it got: a second copy
			// from nothing in common finds no difference, a third node none
			// that the source does not have.
			w.write(10, 100, false)
			if rep := w.run(c.o); rep.State != Done || rep.LeavesDone > 60 || !w.same() {
				t.Errorf("again: %+v", rep)
			}
		})
	}
}

// The power goes at each flush of a resync through a shadow; the next run
// ends it. In between the node is in its old state or the new one.
func TestCrashAtEveryCommit(t *testing.T) {
	w := behind(t)
	if err := w.target.Close(); err != nil {
		t.Fatal(err)
	}
	before := w.dev
	before.Reopen()
	old := cluster.Position{}
	for flushes := 1; ; flushes++ {
		w.dev = before.Clone()
		m := &mortal{w.dev, 1 << 30}
		v, err := chain.Open(bg, []ondisk.Device{m}, chain.Options{})
		if err != nil {
			t.Fatal(err)
		}
		w.target, w.joined = v, nil
		e, _ := v.State(w.fsid(v))
		old = cluster.Position{T: e.T, H: e.H}
		m.left = flushes
		first := w.run(small)
		_ = v.Close()
		if first.State == Done {
			t.Logf("%d flushes", flushes)
			break
		}
		w.dev.Reopen()
		w.clean()
		w.target = w.format(w.dev, false)
		e, _ = w.target.State(w.fsid(w.target))
		if pos := (cluster.Position{T: e.T, H: e.H}); pos != old && pos != w.pos {
			t.Fatalf("after %d flushes the node is at %v", flushes, pos)
		} else if same := w.same(); same != (pos == w.pos) {
			t.Fatalf("after %d flushes the node is at %v, but equal: %v", flushes, pos, same)
		}
		second := w.run(small)
		if second.State != Done || !w.same() {
			t.Fatalf("after %d flushes: %+v", flushes, second)
		}
		w.clean()
		if err := w.target.Close(); err != nil {
			t.Fatal(err)
		}
		w.target = nil
	}
	w.target = nil
}

// What was copied before a crash is not copied again.
func TestResume(t *testing.T) {
	w := behind(t)
	r := NewRun(w, "target", small)
	for r.Report().BytesDone < 10<<20 {
		if !r.Step(bg) {
			t.Fatalf("ended early: %+v", r.Report())
		}
	}
	first := r.Report()
	r.Close()
	w.write(5, 1000, false)
	second := w.run(small)
	if second.State != Done || !w.same() {
		t.Fatalf("%+v", second)
	}
	whole := behind(t).run(small).BytesDone
	if again := first.BytesDone + second.BytesDone - whole; again > 1<<20 {
		t.Errorf("%d bytes were copied twice", again)
	}
	w.clean()
}

// A shadow made from another state than the node is in now is of no use.
func TestStaleShadow(t *testing.T) {
	w := behind(t)
	r := NewRun(w, "target", small)
	for r.Report().Mode != ModeShadow || r.Report().BytesDone == 0 {
		r.Step(bg)
	}
	r.Close()
	b := w.txg(1, 10)
	b.T = ondisk.MakeTid(1, 2) + 1 // the node goes its own way
	w.commit(w.target, b, cluster.Position{T: b.T, H: cluster.History{1}})
	rep := w.run(Options{})
	if rep.State != Done || rep.Mode != ModeDirect || !w.same() {
		t.Errorf("%+v", rep)
	}
	w.clean()
}

// The source writes all the time, more than the primary keeps.
func TestMovingSource(t *testing.T) {
	for _, o := range []Options{{}, small} {
		w := behind(t)
		w.known = false
		w.onPin = func() { w.write(3, 70000, false) }
		rep := w.run(o)
		if rep.State != Done || w.held != 1 || *w.joined != w.pos || !w.same() {
			t.Errorf("held %d: %+v", w.held, rep)
		}
		if rep.Round > maxRounds+1 {
			t.Errorf("%d rounds", rep.Round)
		}
		w.clean()
	}
}

// A node that went another way loses its tail, which stays as a snapshot.
func TestTail(t *testing.T) {
	for _, o := range []Options{{}, small} {
		w := newWorld(t, 1<<30)
		w.write(100, 3000, true)
		shared := w.pos
		own := w.txg(10, 3000)
		w.commit(w.target, own, cluster.Position{T: own.T, H: cluster.History{7}})
		w.lineage = *w.lineage.WithEpoch(2, shared)
		w.pos = cluster.Position{T: ondisk.MakeTid(2, 0), H: cluster.History{8}}
		w.write(10, 3000, false)
		target := w.lineage
		target.Epochs = target.Epochs[:1]
		rep := w.run(o)
		if rep.State != Done || !w.same() {
			t.Fatalf("%+v", rep)
		}
		if rep.LeavesDone > 200 {
			t.Errorf("%d leaves for 60 that differ", rep.LeavesDone)
		}
		label := fmt.Sprintf("diverged-1.%d", own.T.Seq())
		if rep.Kept != label || !slices.Contains(w.labels(), label) {
			t.Errorf("kept %q, labels %q", rep.Kept, w.labels())
		}
		w.clean()
	}
}

func TestNoRoom(t *testing.T) {
	w := newWorld(t, 64<<20)
	w.write(100, 3000, true)
	for range 4 {
		w.write(100, 300_000, false)
	}
	old := w.labels()
	rep := w.run(Options{})
	if rep.State != Failed || !strings.Contains(rep.Err, ErrNoRoom.Error()) || !rep.NoRoom || w.joined != nil {
		t.Errorf("%+v", rep)
	}
	if !slices.Equal(w.labels(), old) {
		t.Errorf("left: %q", w.labels())
	}
	w.clean()
}

// A node whose numbers are from the future cannot be built on.
func TestNumbersFromTheFuture(t *testing.T) {
	w := newWorld(t, 1<<30)
	w.write(100, 3000, true)
	b := w.txg(1, 10)
	b.T = ondisk.MakeTid(9, 9)
	w.commit(w.target, b, cluster.Position{})
	w.write(10, 3000, false)
	rep := w.run(Options{})
	if rep.State != Done || rep.Mode != ModeShadow || !w.same() {
		t.Errorf("%+v", rep)
	}
	w.clean()
}

func TestRetryAfter(t *testing.T) {
	var got []string
	for n := 1; n <= 12; n++ {
		got = append(got, retryAfter(n).String())
	}
	want := "1s 2s 4s 8s 16s 32s 1m0s 1m0s 1m0s 1m0s 1m0s 1m0s"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("%s, want %s", s, want)
	}
}

// What has no room, and no more than before, is not tried each minute: that costs others.
func TestRetryRoom(t *testing.T) {
	for n, want := range map[int]time.Duration{1: time.Second, 7: 64 * time.Second, 11: 16 * time.Minute, 40: 16 * time.Minute} {
		if got := retryRoom(n); got != want {
			t.Errorf("after %d failures %v, want %v", n, got, want)
		}
	}
}

// A node that failed often is not tried for a while, unless it is asked for.
func TestRetryNow(t *testing.T) {
	w := newWorld(t, 1<<30)
	now := time.Unix(1e9, 0)
	m := NewManager(w, Options{Now: func() time.Time { return now }})
	m.nodes["target"] = &node{failures: 9, notUntil: now.Add(retryAfter(9))}
	if m.take("target") {
		t.Error("it is tried again at once")
	}
	m.RetryNow()
	if !m.take("target") || m.nodes["target"].failures != 0 {
		t.Errorf("it is not tried when it is asked for: %+v", m.nodes["target"])
	}
}

// A leaver wants a copy until its device is gone, and comes in sync by txgs when it
// is back.
type leaver struct {
	*world
	wants bool
	shown any
}

func (l *leaver) ResyncWanted() []string {
	if l.wants {
		return []string{"target"}
	}
	return nil
}

func (l *leaver) AcquireTarget(string) (*cluster.ResyncTarget, func(), error) {
	return nil, nil, errors.New("no space left on device")
}

func (l *leaver) SetResyncReport(_ string, report any) { l.shown = report }

// Why a copy failed is shown as long as one is wanted: a node in sync was said to
// have failed, and one that caught up could not be brought in sync.
func TestFailureIsForgotten(t *testing.T) {
	l := &leaver{world: newWorld(t, 1<<30), wants: true}
	m := NewManager(l, Options{})
	round := func() {
		ctx, cancel := context.WithCancel(bg)
		m.after = func(time.Duration) <-chan time.Time { cancel(); return nil }
		m.Run(ctx)
	}
	m.take("target")
	m.drive(bg, "target")
	if rep, ok := l.shown.(Report); !ok || rep.State != Failed {
		t.Fatalf("a failed run is shown as %+v", l.shown)
	}
	m.nodes["target"].notUntil = time.Now().Add(time.Hour)
	round()
	if rep, ok := l.shown.(Report); !ok || rep.State != Failed {
		t.Errorf("while it waits for the next one it is shown as %+v", l.shown)
	}
	l.wants = false
	round()
	if l.shown != nil {
		t.Errorf("shown of a node that wants none: %+v", l.shown)
	}
	l.shown = "snapshots"
	round()
	if l.shown != "snapshots" {
		t.Errorf("taken away again: %v", l.shown)
	}
	if !m.take("target") {
		t.Error("it waits once more when its device is opened again")
	}
}

// A counter counts what is written to a device.
type counter struct {
	*memdev.Device
	n int64
}

func (c *counter) WriteAt(p []byte, off int64) (int, error) {
	atomic.AddInt64(&c.n, int64(len(p)))
	return c.Device.WriteAt(p, off)
}

// What is read and written goes by what changed, not by what is there.
func TestCost(t *testing.T) {
	w := newWorld(t, 1<<30)
	for range 8 {
		w.write(1000, 9000, true)
	}
	w.write(150, 9000, false)
	changed := w.lastBytes
	if err := w.target.Close(); err != nil {
		t.Fatal(err)
	}
	w.dev.Reopen()
	c := &counter{Device: w.dev}
	v, err := chain.Open(bg, []ondisk.Device{c}, chain.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.target = v
	began := time.Now()
	rep := w.run(Options{})
	if rep.State != Done || !w.same() {
		t.Fatalf("%+v", rep)
	}
	n := atomic.LoadInt64(&c.n)
	t.Logf("%d of 8000 files and %d bytes changed: %d leaves, %d bytes, %d bytes written to the device, %d leaves compared, %v",
		150, changed, rep.LeavesDone, rep.BytesDone, n, rep.Compared, time.Since(began))
	if rep.BytesDone != changed || n > changed*2+2<<20 {
		t.Errorf("%d bytes copied, %d written for %d that changed", rep.BytesDone, n, changed)
	}
	if rep.Compared > 2*8000 {
		t.Errorf("%d leaves compared", rep.Compared)
	}
}
