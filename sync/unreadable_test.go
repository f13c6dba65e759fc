package resync

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// A table or inode of the target that its device does not give is met by the
// txgs that are replayed, not by a comparison: then all is copied as well.
func TestReplayMeetsUnreadableInode(t *testing.T) {
	w := newWorld(t, 256<<20)
	w.write(20, 3000, true)
	w.spoilOldest()
	b := w.txg(10, 3000)
	w.missed = append(w.missed, b)
	pos := w.next(b)
	w.commit(w.src, b, pos)
	w.pos = pos
	if rep := w.run(Options{}); rep.State != Done {
		t.Fatalf("%v", rep)
	}
	if !w.same() {
		t.Error("the copy is not the source")
	}
}

// spoilOldest has the device of the target give the inode of a file no more that the
// next txg deletes.
func (w *world) spoilOldest() {
	w.Helper()
	v, err := w.target.View(bg, wLabel)
	if err != nil {
		w.Fatal(err)
	}
	in, ok, err := v.Inode(bg, slices.Min(slices.Collect(maps.Keys(w.files))))
	v.Release()
	if err != nil || !ok {
		w.Fatal(ok, err)
	}
	if err := w.target.Close(); err != nil {
		w.Fatal(err)
	}
	w.dev.Reopen()
	bad := faultdev.New(w.dev)
	bad.Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Read, Beg: int64(in.Ref.Off()), End: int64(in.Ref.Off()) + 1, Times: faultdev.Always})
	w.target = w.format(bad, false)
}

// A source that goes while all is copied does not use up the one way there is:
// the next try meets the same tree, and copies all, too.
func TestUnreadableTreeTwice(t *testing.T) {
	w := newWorld(t, 256<<20)
	w.known = false
	w.write(200, 3000, true)
	w.spoilOldest()
	w.write(20, 3000, false)
	r := NewRun(&leaving{world: w}, "target", Options{})
	defer r.Close()
	for try, want := range []State{Failed, Done} {
		for r.Step(bg) {
		}
		if rep := r.Report(); rep.State != want {
			t.Fatalf("try %d: %v (%s), want %v", try+1, rep.State, rep.Err, want)
		}
	}
	if !w.same() {
		t.Error("the copy is not the source")
	}
	w.clean()
}

// leaving is a world whose source goes when a node is about to join, once.
type leaving struct {
	*world
	gone bool
}

func (l *leaving) Hold(ctx context.Context, limit time.Duration, fn func(cluster.Position) error) error {
	if !l.gone {
		l.gone = true
		return errors.New("the source is gone")
	}
	return l.world.Hold(ctx, limit, fn)
}

// Symptom: a member of which the root of a snapshot could not be read any more when it
// was opened was refused whole. It is used, and gets the snapshot again.
func TestRootOfASnapshotIsLost(t *testing.T) {
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	inum := b.file("a", 100_000, 1)
	b.snapshot("one")
	b.remove("a", inum)
	b.file("b", 100_000, 2)
	b.snapshot("two")
	b.settle()
	b.devs[1].Reopen()
	v, err := chain.Open(b.ctx(), []ondisk.Device{b.devs[1]}, chain.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	view, err := v.View(b.ctx(), "one")
	if err != nil {
		t.Fatal(err)
	}
	root := view.Root()
	view.Release()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	b.devs[1].Reopen()
	if _, err := b.devs[1].WriteAt([]byte("rot"), int64(root.Off())+300); err != nil {
		t.Fatal(err)
	}
	b.mount(0, 1, 2)
	b.settle()
	b.snapshots("one", "two")
}
