package matrix

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// soon is how long whoever plugs a device in may wait for it, copy included.
const soon = 15 * time.Second

// plugged plays a story of a mount with member 1 in a bubble.
func plugged(t *testing.T, story func(r *run)) {
	t.Helper()
	t.Parallel()
	b, err := baseOne()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, cell{row: &row{name: "a member comes back"}, member: 1, at: idle}, b)
		defer r.end()
		story(r)
	})
}

// within demands that something comes in that time.
func (r *run) within(limit time.Duration, what string, ok func() bool) {
	r.t.Helper()
	began := time.Now()
	r.until(what, ok)
	if took := time.Since(began); took > limit {
		r.fail("%s took %v", what, took)
	}
}

func (r *run) inSync() bool { return r.status().State == cluster.NodeInSync }

// Symptom: who plugged a disk back in waited up to a minute for it.
func TestPluggedInAgain(t *testing.T) {
	plugged(t, func(r *run) {
		r.check(r.open(), "mounting")
		r.work(3)
		r.caughtUp()
		r.m.Pull()
		r.work(3)
		<-time.After(20*time.Minute + 30*time.Second) // not when it would be tried each minute
		r.m.Plug(nil)
		r.within(soon, "the member that was plugged in", r.inSync)
		r.finish()
	})
}

// Symptom: a member that was not there at the mount was never looked for,
// though the status said so.
func TestPluggedInAfterMount(t *testing.T) {
	plugged(t, func(r *run) {
		r.m.Pull()
		r.check(r.open(), "mounting")
		r.work(3)
		<-time.After(20 * time.Minute)
		r.m.Plug(nil)
		r.within(soon, "the member that was plugged in", r.inSync)
		r.finish()
	})
}

// Symptom: calls that waited for a majority went on up to a minute after it
// could have been there: the disk was mended, and not tried again.
func TestMendedWithoutQuorum(t *testing.T) {
	plugged(t, func(r *run) {
		r.check(r.open(), "mounting")
		r.work(3)
		r.caughtUp()
		other := r.w.Members[(r.cell.member+1)%masters]
		broken := faultdev.Rule{Do: faultdev.Fail, On: faultdev.Write, Times: faultdev.Always}
		r.m.Fault().Add(broken)
		r.work(3)
		<-time.After(20 * time.Minute)
		opens := r.m.Opens()
		r.until("another attempt", func() bool { return r.m.Opens() > opens })
		r.work(1) // it fails again, and the next one is most of a minute away
		r.until("it failed", func() bool { return r.status().State == cluster.NodeFailed })
		other.Fault().Add(broken)
		pending := r.changeAndSync()
		<-time.After(3 * time.Second)
		r.m.Fault().Clear()
		r.within(soon, "the quorum", func() bool { return r.life.pool.Status().Quorum.Held })
		r.resumed(pending)
		other.Fault().Clear()
		r.finish()
	})
}

// A member that opens and fails at once is not opened again and again.
func TestFlapping(t *testing.T) {
	plugged(t, func(r *run) {
		r.check(r.open(), "mounting")
		r.work(3)
		r.caughtUp()
		r.m.Fault().Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Write, Times: faultdev.Always})
		r.work(3)
		before := r.m.Opens()
		<-time.After(20 * time.Minute)
		if n := r.m.Opens() - before; n < 20 || n > 30 {
			r.fail("it was opened %d times in 20 minutes", n)
		}
		r.m.Fault().Clear()
		r.finish()
	})
}

// Symptom: of a member that hung while it was opened the status said that this had
// taken as long as a request may, which nobody had waited for, and not what comes next.
func TestSlowToOpen(t *testing.T) {
	plugged(t, func(r *run) {
		hang(r)
		r.check(r.open(), "mounting")
		r.work(3)
		took := time.Since(r.begun)
		n := r.status()
		if n.State != cluster.NodeHung || n.Error != "opening takes longer than 2s" || n.Next == "" || took >= deadline {
			r.fail("after %v it is %s: %s; %q", took, n.State, n.Error, n.Next)
		}
		r.m.Fault().Clear()
		r.m.Fault().Release()
		r.within(soon, "the member that answers again", r.inSync)
		r.finish()
	})
}
