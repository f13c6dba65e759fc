package resync

import (
	"context"
	"strings"
	"testing"
)

// cloneOnFirst has a clone made whose txg reaches the first member only, and ends
// the process.
func (b *bench) cloneOnFirst(snapshot, label string) {
	b.t.Helper()
	b.bad[1].Store(true)
	b.bad[2].Store(true)
	ctx, cancel := context.WithCancel(b.ctx())
	made := make(chan error, 1)
	go func() { made <- b.pool.SnapshotClone(ctx, snapshot, label, false) }()
	for has := false; !has; {
		changed := b.pool.Changed()
		st := b.pool.Status()
		for _, n := range st.Nodes {
			has = has || n.Name == "m0" && n.T > st.Committed
		}
		if has {
			break
		}
		select {
		case <-changed:
		case err := <-made:
			b.t.Fatalf("it ended before a member had it: %v", err)
		}
	}
	cancel()
	if err := <-made; err == nil {
		b.t.Error("made with one of three")
	}
	b.abandon()
	b.bad[1].Store(false)
	b.bad[2].Store(false)
	if has := [3]bool{b.has(0, label), b.has(1, label), b.has(2, label)}; has != [3]bool{true, false, false} {
		b.t.Fatalf("members with the clone: %v", has)
	}
}

// Symptom: a clone that only one member had made when the process ended, and that
// was given up, stayed there, and its label was taken for good.
func TestCloneGivenUp(t *testing.T) {
	const clone = "WORK"
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	b.file("a", 1000, 1)
	b.snapshot("s")
	b.rest()
	b.wait("snapshots")
	b.cloneOnFirst("s", clone)
	b.mount(1, 2)
	b.file("b", 1000, 2)
	b.sync()
	b.stop()
	b.mount(0, 1, 2)
	b.rest()
	b.stop()
	if !b.has(0, clone) {
		t.Error("it went by itself: this test has become pointless")
	}
	b.mount(0, 1, 2)
	b.rest()
	b.wait("snapshots")
	if err := b.pool.SnapshotClone(b.ctx(), "s", clone, false); err != nil {
		t.Fatal(err)
	}
	b.rest()
	b.stop()
	for i := range b.devs {
		if got := b.contentOf(i, clone); len(got) == 0 || got["T"] != b.contentOf(0, clone)["T"] {
			t.Errorf("member %d has %d inodes of the clone at %s", i, len(got), got["T"])
		}
	}
	b.mount(0, 1, 2)
	defer b.stop()
	b.wait("healthy")
	if err := b.pool.SnapshotClone(b.ctx(), "s", clone, true); err == nil || !strings.Contains(err.Error(), "label of another PFS") {
		t.Errorf("a second time: %v", err)
	}
}

// A clone whose other copies were taken out of the cluster with their members is
// whole, though few of those that are left have it.
func TestCloneOfRemovedMembers(t *testing.T) {
	const clone = "WORK"
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	b.file("a", 1000, 1)
	b.snapshot("s")
	b.rest()
	b.wait("snapshots")
	if err := b.pool.SnapshotClone(b.ctx(), "s", clone, false); err != nil {
		t.Fatal(err)
	}
	b.rest()
	for _, name := range []string{"m1", "m2"} {
		if err := b.pool.NodeRemove(b.ctx(), name); err != nil {
			t.Fatal(err)
		}
		b.wait("healthy")
	}
	err := b.pool.SnapshotClone(b.ctx(), "s", clone, true)
	if err == nil || !strings.Contains(err.Error(), "label of another PFS") {
		t.Errorf("its label is given to another: %v", err)
	}
	b.stop()
	if !b.has(0, clone) {
		t.Error("the clone is gone")
	}
}
