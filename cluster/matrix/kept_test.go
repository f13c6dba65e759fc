package matrix

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// playOnly plays the cells of some rows, each with its first seed.
func playOnly(t *testing.T, rows string) {
	t.Helper()
	all, _ := cells()
	played := 0
	for i, c := range all {
		c.seed = uint64(i)
		if regexp.MustCompile(rows).MatchString(c.String()) {
			played++
			t.Run(c.String(), func(t *testing.T) {
				t.Parallel()
				c.play(t)
			})
		}
	}
	if played == 0 {
		t.Fatalf("no cell is called %s", rows)
	}
}

// Symptom: a member that came back without the snapshot that was just rolled back
// to failed each time that it was opened, until something was written.
func TestRollbackWithoutSnapshot(t *testing.T) {
	playOnly(t, "^a rollback meets a member without its snapshot, ")
}

// Symptom: node discard of a member that went away while its change was being
// kept said that it was done, and it was not.
func TestDiscardOfOneThatLeaves(t *testing.T) {
	b, err := baseOne()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ro := discardRow("a change is discarded", false)
		r := newRun(t, cell{row: ro, member: 1, at: idle, seed: 3}, b)
		defer r.end()
		f := r.changedElsewhere()
		r.check(r.open(), "mounting")
		r.caughtUp()
		l := r.life
		left := make(chan error, 1)
		f.Arm(&rig.Trap{On: faultdev.Write, Do: func() {
			go func() { left <- l.pool.NodeOffline(l.ctx, f.Name) }()
			<-time.After(time.Second) // it is away by then, and waits for this write
		}})
		if err := l.pool.NodeDiscard(context.Background(), f.Name); err == nil || !strings.Contains(err.Error(), "went away") {
			r.fail("a change was discarded of a member that left: %v", err)
		}
		r.check(<-left, "node offline")
		r.check(l.pool.NodeOnline(l.ctx, f.Name), "node online")
		r.until("a change that is still there", func() bool { return r.statusOf(f.Name).State == cluster.NodeForeign })
		r.check(l.pool.NodeDiscard(l.ctx, f.Name), "node discard")
		r.finish()
	})
}

// A few cells of each errand, for who breaks something on purpose.
func TestErrands(t *testing.T) {
	playOnly(t, "^a cache that (hangs|returns other bytes), (being read|idle)|"+
		"^a member grows and a device fails, master b.img, (idle|between flushes)|"+
		"^a branch is merged and a device fails, (master a|soft master e).img, mid-apply|"+
		"^a rollback and a device fails, .*, one master away")
}

// What is in the intent log, or on its way there, at each of its moments.
func TestLogMoments(t *testing.T) {
	playOnly(t, "^(power cut|process crash|write error), (master a|slave d).img, (mid-record|logged only|mid-replay|ring begins anew), seed")
}
