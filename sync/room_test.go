package resync

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// crowd fills the target beside its PFS until no more than room is free.
func (w *world) crowd(room uint64) {
	w.Helper()
	data := make([]byte, ondisk.LogicalBlock)
	for i := range data {
		data[i] = byte(w.rnd.Uint32())
	}
	block, _, err := ondisk.EncodeData(data, uint8(ondisk.CompNone), uint8(ondisk.CheckXXHash64))
	if err != nil {
		w.Fatal(err)
	}
	meta := ondisk.NewInodeMeta(5000, ondisk.ObjFile)
	for at := uint64(0); w.target.Space().Free > room; {
		b := &chain.Batch{T: w.target.Header().MirrorTid + 1}
		for range min(64, (w.target.Space().Free-room)/ondisk.LogicalBlock+1) {
			b.Changes = append(b.Changes, chain.Change{Inum: 5000, Kind: chain.KindData, Key: at, Block: block})
			at += ondisk.LogicalBlock
		}
		meta.Size = at
		b.Changes = append(b.Changes, chain.Change{Inum: 5000, Kind: chain.KindInode, Inode: &meta})
		b.Sort()
		txn, err := w.target.Begin(bg)
		if err != nil {
			w.Fatal(err)
		}
		txn.UseReserve()
		if err := errors.Join(txn.Apply(bg, "LOCAL", b), txn.Commit(bg)); err != nil {
			w.Fatal(err)
		}
	}
}

// empty removes all files in a txg of the source.
func (w *world) empty() *chain.Batch {
	b := w.txg(0, 0)
	for _, inum := range slices.Sorted(maps.Keys(w.files)) {
		delete(w.files, inum)
		b.Changes = append(b.Changes, chain.Change{Inum: inum, Kind: chain.KindInode, Delete: true},
			chain.Change{Inum: 1, Kind: chain.KindDirent, Key: ondisk.NameHash(fmt.Sprint("f", inum)), Delete: true})
	}
	b.Sort()
	return b
}

// both commits a txg on both sides.
func (w *world) both(b *chain.Batch) {
	w.Helper()
	pos := w.next(b)
	w.commit(w.src, b, pos)
	w.commit(w.target, b, pos)
	w.pos = pos
}

// A copy that does not fit leaves free what it takes to remove it, however small
// the blocks are that it ends with: when the source has less, the next one fits.
func TestNoRoomForSmallBlocks(t *testing.T) {
	w := newWorld(t, 64<<20)
	w.write(20, 3000, true)
	w.crowd(4 << 20)
	for range 3 {
		w.write(500, 3000, false)
	}
	old, o := w.labels(), small
	o.BatchChanges = 3
	r, least := NewRun(w, "target", o), w.target.Space().Free
	for r.Step(bg) {
		least = min(least, w.target.Space().Free)
	}
	r.Close()
	if least > 2*chain.LastRoom || least < chain.LastRoom-2*ondisk.MaxBlock { // what a commit itself takes apart
		t.Errorf("the copy left %d bytes free", least)
	}
	rep := r.Report()
	if rep.State != Failed || !strings.Contains(rep.Err, ErrNoRoom.Error()) {
		t.Fatalf("%+v", rep)
	}
	if !slices.Equal(w.labels(), old) {
		t.Errorf("left: %q", w.labels())
	}
	w.clean()
	b := w.empty()
	pos := w.next(b)
	w.commit(w.src, b, pos)
	w.pos = pos
	if rep := w.run(small); rep.State != Done || !w.same() {
		t.Errorf("with all removed: %+v, %+v", rep, w.target.Space())
	}
	w.clean()
}

// What is not in the list of the state that is copied makes way for it.
func TestDeletedSnapshotMakesRoom(t *testing.T) {
	w := newWorld(t, 64<<20)
	w.write(4, 1<<20, true)
	b := w.txg(1, 100)
	b.Ops = []chain.PFSOp{{Kind: chain.OpSnapshot, Name: "s", Clid: ondisk.NewUUID()}}
	w.both(b)
	w.both(w.empty())
	w.crowd(1 << 20)
	w.write(4, 1<<20, false)
	if rep := w.run(small); rep.State != Done || !w.same() {
		t.Errorf("%+v, %+v", rep, w.target.Space())
	}
	if slices.Contains(w.labels(), "s") {
		t.Errorf("left: %q", w.labels())
	}
	w.clean()
}

// That there was no room is shown until a run ends well: each begins as if it would,
// and ends like the one before it. Who does something about it is shown what comes.
func TestNoRoomIsRemembered(t *testing.T) {
	w := newWorld(t, 64<<20)
	w.write(20, 3000, true)
	for range 2 {
		w.write(100, 300_000, false)
	}
	m := NewManager(w, small)
	drive := func() (before []string, last Report) {
		w.Helper()
		w.reports = nil
		m.node("target").notUntil = time.Time{}
		if !m.take("target") {
			t.Fatal("it is not tried")
		}
		m.drive(bg, "target")
		for _, rep := range w.reports {
			before = append(before, rep.NoRoomBefore)
		}
		return slices.Compact(before[:len(before)-1]), w.reports[len(w.reports)-1]
	}
	before, rep := drive()
	if !rep.NoRoom || !slices.Equal(before, []string{""}) {
		t.Fatalf("the first run: %q, then %+v", before, rep)
	}
	if before, again := drive(); !again.NoRoom || again.NoRoomBefore != "" || !slices.Equal(before, []string{rep.Err}) {
		t.Errorf("the second run: %q, then %+v", before, again)
	}
	m.RetryNow()
	if before, again := drive(); !again.NoRoom || !slices.Equal(before, []string{""}) {
		t.Errorf("after somebody did something: %q, then %+v", before, again)
	}
	b := w.empty()
	pos := w.next(b)
	w.commit(w.src, b, pos)
	w.pos = pos
	if before, done := drive(); done.State != Done || done.NoRoomBefore != "" || !slices.Equal(before, []string{rep.Err}) {
		t.Errorf("with all removed: %q, then %+v", before, done)
	}
	if m.node("target").noRoom != "" {
		t.Error("it is remembered of a node in sync")
	}
	w.clean()
}

// A copy into the PFS itself leaves room to remove something, too: a node that
// comes in sync without would keep everybody from that.
func TestDirectCopyLeavesRoom(t *testing.T) {
	w := newWorld(t, 64<<20)
	w.write(4, 300_000, true)
	w.crowd(1 << 20)
	old := w.target.Space().Free
	b := w.txg(0, 0)
	for i := range 7 {
		w.file(b, uint64(9000+i), 100_000)
	}
	b.Sort()
	w.commit(w.src, b, w.next(b))
	w.pos = w.next(b)
	if rep := w.run(Options{}); rep.State != Failed || !strings.Contains(rep.Err, ErrNoRoom.Error()) {
		t.Errorf("%+v, %d bytes were free, now %+v", rep, old, w.target.Space())
	}
	if s := w.target.Space(); s.Free+s.Pending < chain.LastRoom {
		t.Errorf("the copy left %+v", s)
	}
	b = w.empty()
	for i := range 7 {
		b.Changes = append(b.Changes, chain.Change{Inum: uint64(9000 + i), Kind: chain.KindInode, Delete: true},
			chain.Change{Inum: 1, Kind: chain.KindDirent, Key: ondisk.NameHash(fmt.Sprint("f", 9000+i)), Delete: true})
	}
	b.Sort()
	pos := w.next(b)
	w.commit(w.src, b, pos)
	w.pos = pos
	if rep := w.run(Options{}); rep.State != Done || !w.same() {
		t.Errorf("with all removed: %+v, %+v", rep, w.target.Space())
	}
	w.clean()
}

// What makes a node emptier is copied to it where a shadow finds no room, however
// much it is.
func TestEmptierWithoutShadow(t *testing.T) {
	w := newWorld(t, 64<<20)
	w.write(8, 100_000, true)
	w.crowd(chain.LastRoom)
	b := w.empty()
	pos := w.next(b)
	w.commit(w.src, b, pos)
	w.pos = pos
	o := small
	o.BatchChanges = 3
	if rep := w.run(o); rep.State != Done || !w.same() {
		t.Errorf("%+v, %+v", rep, w.target.Space())
	}
	w.clean()
}
