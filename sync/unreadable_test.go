package resync

import (
	"maps"
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// A table or inode of the target that its device does not give is met by the
// txgs that are replayed, not by a comparison: then all is copied as well.
func TestReplayMeetsUnreadableInode(t *testing.T) {
	w := newWorld(t, 256<<20)
	w.write(20, 3000, true)
	v, err := w.target.View(bg, wLabel)
	if err != nil {
		t.Fatal(err)
	}
	oldest := slices.Min(slices.Collect(maps.Keys(w.files))) // which the next txg deletes
	in, ok, err := v.Inode(bg, oldest)
	v.Release()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := w.target.Close(); err != nil {
		t.Fatal(err)
	}
	w.dev.Reopen()
	bad := faultdev.New(w.dev)
	bad.Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Read, Beg: int64(in.Ref.Off()), End: int64(in.Ref.Off()) + 1, Times: faultdev.Always})
	w.target = w.format(bad, false)
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
