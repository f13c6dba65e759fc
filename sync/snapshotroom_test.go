package resync

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A spy sees what is reported of the snapshots of one member.
type spy struct {
	Peers
	node string
	told chan any
}

func (s *spy) SetResyncReport(name string, report any) {
	s.Peers.SetResyncReport(name, report)
	if rep, ok := report.(Report); name == s.node && (report == nil || ok && rep.Mode == ModeSnapshots) {
		s.told <- report
	}
}

// lacking mounts three members of which m2 lacks a snapshot of 14 MiB and has room
// bytes free. Each report on its snapshots waits until next takes it.
func lacking(t *testing.T, room uint64) (b *bench, seen *spy, next func() any) {
	t.Helper()
	b = newBench(t, 64<<20)
	b.o.BatchBytes = 1 << 20
	b.gone[2].Store(true)
	b.mount(0, 1, 2)
	inum := b.file("large", 14<<20, 1)
	b.snapshot("s")
	b.remove("large", inum)
	b.sync()
	b.stop()
	b.devs[2].Reopen()
	v, err := chain.Open(b.ctx(), []ondisk.Device{b.devs[2]}, chain.Options{})
	if err != nil {
		t.Fatal(err)
	}
	(&world{T: t, rnd: rand.New(rand.NewPCG(1, 2)), target: v}).crowd(room)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	b.gone[2].Store(false)
	seen = &spy{node: "m2", told: make(chan any)}
	b.spy = func(p Peers) Peers { seen.Peers = p; return seen }
	b.mount(0, 1, 2)
	return b, seen, func() any {
		select {
		case report := <-seen.told:
			return report
		case <-b.ctx().Done():
			t.Fatal("nothing more is told of the snapshots")
			return nil
		}
	}
}

// Symptom: that a member has no room for the snapshots it lacks was said for a moment
// only, and then that they are being copied, again and again; and it was still said when
// they had been deleted. What a copy had taken was not free for writers afterwards.
func TestNoRoomForSnapshotsIsRemembered(t *testing.T) {
	b, seen, next := lacking(t, 8<<20)
	for failed := 0; failed < 2; {
		switch rep := next().(Report); {
		case rep.State == Failed && (!rep.NoRoom || rep.NoRoomBefore != ""):
			t.Fatalf("%+v", rep)
		case rep.State == Failed:
			failed++
			for _, n := range b.pool.Status().Nodes {
				if n.Name == "m2" && n.Free < 6<<20 {
					t.Errorf("%d bytes are left by a copy that was given up", n.Free)
				}
			}
		case rep.State != Copying || (rep.NoRoomBefore != "") != (failed > 0):
			t.Fatalf("after %d failures: %+v", failed, rep)
		}
	}
	deleted := make(chan error, 1)
	go func() { deleted <- b.pool.SnapshotDelete(b.ctx(), "s") }()
	for next() != nil { // one more try may come before
	}
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	go func() {
		for range seen.told {
		}
	}()
	b.wait("healthy")
	b.stop()
	close(seen.told)
	b.snapshots()
}

// Symptom: a member on which a snapshot was being copied got full, and did not follow any
// more, when somebody wrote meanwhile what there had been room for.
func TestSnapshotCopyLeavesRoomForWriters(t *testing.T) {
	b, seen, tell := lacking(t, 22<<20)
	next := func() Report { rep, _ := tell().(Report); return rep }
	for next().BytesDone == 0 {
	}
	b.file("written", 12<<20, 3) // while the copy waits to be heard
	for rep := next(); rep.State == Copying; rep = next() {
	}
	go func() {
		for range seen.told {
		}
	}()
	b.rest()
	b.stop()
	close(seen.told)
	b.equal()
}

// Symptom: a member without room for a snapshot looked for space twice a minute, for ever.
// It is tried again within a minute where there is more room, or another list.
func TestSnapshotsWithoutRoomWait(t *testing.T) {
	w := newWorld(t, 256<<20)
	w.write(40, 300_000, true)
	began := time.Unix(1e9, 0)
	now := began
	m := NewManager(w, Options{Now: func() time.Time { return now }})
	target := cluster.SnapshotTarget{Name: "target", Volume: w.target, Stamp: "1"}
	n := m.node(snapshotsOf("target"))
	fail := func() {
		n.failures, n.noRoom, now = 20, "no room", began
		n.waitForRoom(&target, now)
	}
	taken := func(after time.Duration, want bool) {
		t.Helper()
		now = began.Add(after)
		if got := m.takeSnapshots(&target); got != want {
			t.Errorf("%v after a failure: tried %v, want %v", after, got, want)
		} else if got {
			n.end()
		}
	}
	fail()
	taken(15*time.Minute, false)
	taken(16*time.Minute, true)
	fail()
	target.Stamp = "2"
	taken(59*time.Second, false)
	taken(time.Minute, true)
	fail()
	w.both(w.empty())
	taken(59*time.Second, false)
	taken(time.Minute, true)
}
