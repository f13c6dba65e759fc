package scrub

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// Blocks that snapshots share are one place on the disk: found, counted and
// repaired once.
func TestScrubCountsPlacesOnce(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(6)
	for i := range 3 {
		_, err := r.pool.SnapshotCreate(r.ctx, fmt.Sprint("s", i), false)
		r.must(err)
	}
	r.unmount()
	was := r.block(1, label, inums[2], 0)
	r.flip(1, was)
	r.flip(1, r.block(1, label, inums[4], 1<<16))
	r.mount()
	rep := r.scrub()
	if rep.Phase != Done || rep.Bad != 2 || rep.Repaired != 2 || rep.Unrepaired != 0 || r.end != nil {
		t.Errorf("%+v", rep)
	}
	if n := repairedOn(r, "m1"); n != 2 {
		t.Errorf("the member was written to %d times", n)
	}
	rep = r.scrub()
	if rep.Bad+rep.Repaired != 0 {
		t.Errorf("again: %+v", rep)
	}
	for _, l := range rep.Lanes { // else a scrub is said to be at its end with most still to do
		if l.Bytes > l.Total*3/2 {
			t.Errorf("%s: %d bytes were read of about %d", l.Node, l.Bytes, l.Total)
		}
	}
	r.unmount()
	if now := r.block(1, label, inums[2], 0); now.Off() != was.Off() {
		t.Errorf("the block went from %#x to %#x, and is not shared any more", was.Off(), now.Off())
	}
	r.alone(inums)
}

// What has no good copy is one place too, and it is told for each path once.
func TestScrubCountsLostPlacesOnce(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(3)
	for i := range 2 {
		_, err := r.pool.SnapshotCreate(r.ctx, fmt.Sprint("s", i), false)
		r.must(err)
	}
	r.unmount()
	for m := range 3 {
		r.flip(m, r.block(m, label, inums[1], 0))
	}
	r.mount()
	rep := r.scrub()
	if rep.Bad != 3 || rep.Repaired != 0 || rep.Unrepaired != 3 || len(rep.Lost) != 3 {
		t.Errorf("%+v", rep)
	}
	for _, l := range rep.Lost {
		for _, other := range []string{"m0", "m1", "m2"} {
			if !strings.Contains(l.What, other) {
				t.Errorf("of %s is not said that %s has it wrong, too: %s", l.Node, other, l.What)
			}
		}
	}
	r.unmount()
}

func repairedOn(r *rig, node string) uint64 {
	for _, n := range r.pool.Status().Nodes {
		if n.Name == node {
			return n.Repaired
		}
	}
	return 1 << 40
}

// Who is told that a wrong copy was overwritten reads the right one from then on.
func TestScrubTellsOfWrongCopies(t *testing.T) {
	r := newRig(t, 3)
	inums := r.fill(6)
	r.unmount()
	r.swap(1, label, inums[2], inums[4])
	r.mount()
	var told []Overwritten
	r.o.Overwrote = func(o Overwritten) {
		told = append(told, o)
		for range 3 { // of whichever member
			got := make([]byte, 150_000)
			if err := r.pool.ReadData(r.ctx, o.Inum, 0, got); err != nil || !bytes.Equal(got, content(2)) {
				t.Errorf("read when told: wrong (%v)", err)
			}
		}
	}
	if rep := r.scrub(); rep.Differing != 1 || rep.Repaired != 1 {
		t.Errorf("%+v", rep)
	}
	if len(told) != 1 || told[0].Inum != inums[2] || told[0].Snapshot != "" || len(told[0].Names) != 0 {
		t.Errorf("told of %+v", told)
	}
	r.unmount()
}
