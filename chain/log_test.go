package chain

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A logger is a volume whose PFS DATA is changed by way of the log.
type logger struct {
	testing.TB
	dev   *memdev.Device
	v     *Volume
	m     *maker
	model model
	fsid  ondisk.UUID
	pos   LogPos
	solo  bool
	all   []*Batch
}

func newLogger(t testing.TB, seed uint64, solo bool) *logger {
	l := &logger{TB: t, dev: newImage(t, 128<<20), m: newMaker(t, seed), model: model{}, solo: solo}
	l.open()
	infos, err := l.v.PFSs(bg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range infos {
		if infos[i].Label == "DATA" {
			l.fsid = infos[i].Fsid
		}
	}
	l.commit(20) // the log begins behind the first header of an open
	return l
}

func (l *logger) open() {
	l.Helper()
	l.v = openImage(l, l.dev, Options{})
}

func (l *logger) next(n int) (b *Batch, pos LogPos, e *ondisk.StateEntry) {
	T := max(l.pos.T, ondisk.MakeTid(1, 0)) + 1
	b = l.m.batch(T, n)
	pos = LogPos{T: T}
	if !l.solo {
		pos.H = [16]byte{byte(T), byte(T >> 8), 7}
		e = &ondisk.StateEntry{Fsid: l.fsid, PromisedEpoch: 1, Candidate: 5, T: T, H: pos.H, Acked: T}
	}
	return b, pos, e
}

func (l *logger) done(b *Batch, pos LogPos) {
	l.pos = pos
	l.model.apply(b)
	l.all = append(l.all, b)
}

func (l *logger) commit(n int) {
	l.Helper()
	l.commitThis(l.next(n))
}

func (l *logger) commitThis(b *Batch, pos LogPos, e *ondisk.StateEntry) {
	l.Helper()
	t, err := l.v.Begin(bg)
	if err != nil {
		l.Fatal(err)
	}
	defer t.Abort()
	err = t.Apply(bg, "DATA", b)
	if err == nil && e != nil {
		err = t.SetState(*e)
	}
	if err == nil {
		err = t.Commit(bg)
	}
	if err != nil {
		l.Fatal(err)
	}
	l.done(b, pos)
}

// log logs the next txg, or commits it if it is not for the log.
func (l *logger) log(b *Batch, pos LogPos, e *ondisk.StateEntry) (logged bool) {
	l.Helper()
	err := l.v.Log(bg, LogTxg{Label: "DATA", Fsid: l.fsid, Prev: l.pos, Pos: pos, Entry: e, Batch: b})
	switch {
	case err == nil:
		l.done(b, pos)
	case errors.Is(err, ErrNotLogged):
		l.commitThis(b, pos, e)
	default:
		l.Fatal(err)
	}
	return err == nil
}

func (l *logger) mustLog(n int) {
	l.Helper()
	if !l.log(l.next(n)) {
		l.Fatal("not logged")
	}
}

// crash opens what is on the device by now, as after the end of the process.
func (l *logger) crash() {
	l.Helper()
	l.dev = l.dev.Clone()
	l.open()
	l.check()
}

// check compares the volume with the model and, leaf by leaf with its tids,
// with a volume that never had a log.
func (l *logger) check() {
	l.Helper()
	checkView(l, l.v, "DATA", l.model)
	twin := openImage(l, newImage(l, 128<<20), Options{})
	defer twin.Close()
	for _, b := range l.all {
		if err := commitBatch(twin, "DATA", b); err != nil {
			l.Fatal(err)
		}
	}
	a, err := l.v.View(bg, "DATA")
	if err != nil {
		l.Fatal(err)
	}
	defer a.Release()
	b, err := twin.View(bg, "DATA")
	if err != nil {
		l.Fatal(err)
	}
	defer b.Release()
	if a.T() != b.T() {
		l.Fatalf("the tree is at %v, without a log at %v", a.T(), b.T())
	}
	_, _, _, err = Diff(bg, a, b, 0, Cursor{}, DiffLimits{},
		func(c Change) error { return fmt.Errorf("inode %d, %v %#x differs", c.Inum, c.Kind, c.Key) },
		func(Touch) error { return nil })
	if err != nil {
		l.Fatal(err)
	}
	if e, ok := l.v.State(l.fsid); ok == l.solo || ok && (e.T != l.pos.T || e.H != l.pos.H) {
		l.Fatalf("the state is at %v, want %v", e.T, l.pos.T)
	}
	mustCheck(l, l.dev)
}

// Random lives: what was logged or committed is there after the process ends
// at any moment, in the same leaves as without a log.
func TestLogLife(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			l := newLogger(t, seed, seed%2 == 1)
			logged := 0
			for step := range 120 {
				switch op := l.m.rnd.IntN(24); {
				case op < 18:
					if l.log(l.next(1 + l.m.rnd.IntN(20))) {
						logged++
					}
				case op == 18:
					l.commit(10)
				case op == 19:
					if err := l.v.DrainFrees(bg); err != nil {
						t.Fatal(err)
					}
				case op == 20:
					if _, err := l.v.Bulkfree(bg, BulkfreeOptions{}); err != nil {
						t.Fatal(err)
					}
				case op == 21:
					if err := l.v.Checkpoint(bg); err != nil {
						t.Fatal(err)
					}
					checkView(t, l.v, "DATA", l.model)
				case op == 22:
					l.crash()
				case op == 23:
					if err := l.v.Close(); err != nil {
						t.Fatal(err)
					}
					l.dev.Reopen()
					ro := openImage(t, l.dev, Options{ReadOnly: true})
					if got, err := ro.findLog(bg); err != nil || len(got) > 0 {
						t.Fatalf("step %d: a closed volume has %d txgs in its log, %v", step, len(got), err)
					}
					l.open()
					l.check()
				}
			}
			l.crash()
			if logged < 40 {
				t.Errorf("only %d txgs were logged", logged)
			}
		})
	}
}

// The ring is written over many times; earlier laps never come back.
func TestLogWraps(t *testing.T) {
	l := newLogger(t, 3, false)
	meta := fileMeta(l.m.next)
	l.m.next++
	wraps := 0
	for last := l.v.ilog.at; wraps < 3; {
		b, pos, e := l.next(3)
		b.Changes = append(b.Changes, Change{Inum: meta.Inum, Kind: KindInode, Inode: meta})
		for k := range uint64(12) { // large enough to get around soon
			buf := make([]byte, 60000)
			for i := range buf {
				buf[i] = byte(l.m.rnd.Uint32())
			}
			blk, _, err := ondisk.EncodeData(buf, 0, uint8(ondisk.CheckXXHash64))
			if err != nil {
				t.Fatal(err)
			}
			b.Changes = append(b.Changes, Change{Inum: meta.Inum, Kind: KindData, Key: k * ondisk.LogicalBlock, Block: blk})
		}
		b.Sort()
		if !l.log(b, pos, e) && l.m.rnd.IntN(3) == 0 {
			l.crash()
		}
		if l.v.ilog.at < last {
			wraps++
		}
		last = l.v.ilog.at
	}
	l.crash()
}

// What is in the log is seen through a volume that is open for reading, which
// writes nothing.
func TestLogReadOnly(t *testing.T) {
	for _, solo := range []bool{false, true} {
		l := newLogger(t, 5, solo)
		for range 7 {
			l.mustLog(6)
		}
		dev := l.dev.Clone()
		before := dev.Clone()
		ro := openImage(t, dev, Options{ReadOnly: true})
		checkView(t, ro, "DATA", l.model)
		if err := ro.Close(); err != nil {
			t.Fatal(err)
		}
		dev.Reopen()
		a, b := make([]byte, dev.Size()), make([]byte, dev.Size())
		dev.ReadAt(a, 0)
		before.ReadAt(b, 0)
		if !slices.Equal(a, b) {
			t.Fatal("a volume open for reading was written to")
		}
	}
}

// Every page of a record is needed: torn anywhere, it was never there.
func TestLogTorn(t *testing.T) {
	l := newLogger(t, 9, false)
	l.mustLog(4)
	keep, model, pos, all := l.dev.Clone(), cloneModel(l.model), l.pos, slices.Clone(l.all)
	at := l.v.ilog.at
	l.mustLog(60)
	size := l.v.ilog.at - at
	whole := make([]byte, size)
	l.dev.ReadAt(whole, at)
	l.model, l.pos, l.all = model, pos, all
	for cut := int64(0); cut < size; cut += 512 {
		l.dev = keep.Clone()
		torn := slices.Clone(whole)
		clear(torn[cut:min(cut+512, size)])
		if slices.Equal(torn, whole) {
			continue
		}
		l.dev.WriteAt(torn, at)
		l.open()
		if e, _ := l.v.State(l.fsid); e.T != pos.T {
			t.Fatalf("cut at %d: the state is at %v, want %v", cut, e.T, pos.T)
		}
	}
	l.check()
}

// changeElsewhere writes the next header as another system does.
func changeElsewhere(t *testing.T, dev ondisk.Device) {
	t.Helper()
	slots, err := readSlots(dev)
	if err != nil {
		t.Fatal(err)
	}
	hdr := slots.header().Clone()
	hdr.MirrorTid++
	hdr.Sroot[0].MirrorTid++
	if _, err := slots.write(hdr); err != nil {
		t.Fatal(err)
	}
}

// Another system's change wins over what is in the log.
func TestLogForeign(t *testing.T) {
	l := newLogger(t, 11, false)
	l.mustLog(4)
	dev := l.dev.Clone()
	changeElsewhere(t, dev)
	v := openImage(t, dev, Options{})
	if !v.Foreign() {
		t.Error("not seen as foreign")
	}
	if e, _ := v.State(l.fsid); e.T != l.pos.T-1 {
		t.Errorf("the state is at %v, want %v", e.T, l.pos.T-1)
	}
}

// A txg that does not continue the PFS, raises a promise, or comes before this
// open wrote a header, is left to a commit.
func TestLogRefuses(t *testing.T) {
	l := newLogger(t, 13, false)
	b, pos, e := l.next(3)
	try := func(what string, x LogTxg) {
		t.Helper()
		if err := l.v.Log(bg, x); !errors.Is(err, ErrNotLogged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	good := LogTxg{Label: "DATA", Fsid: l.fsid, Prev: l.pos, Pos: pos, Entry: e, Batch: b}
	x := good
	x.Prev.H[3] ^= 1
	try("another history", x)
	x = good
	promised := *e
	promised.PromisedEpoch++
	x.Entry = &promised
	try("a higher promise", x)
	x = good
	x.Entry = nil
	try("no state", x)
	x = good
	ops := *b
	ops.Ops = []PFSOp{{Kind: OpSnapshot}}
	x.Batch = &ops
	try("an operation", x)
	l.crash()
	try("before the first header", good)
	l.commit(1)
	l.mustLog(1)
	// The same behind what is logged, whose state no header has.
	b, pos, e = l.next(3)
	good = LogTxg{Label: "DATA", Fsid: l.fsid, Prev: l.pos, Pos: pos, Entry: e, Batch: b}
	x = good
	x.Prev.H[3] ^= 1
	try("another history than what is logged", x)
	x = good
	promised = *e
	promised.Candidate++
	x.Entry = &promised
	try("a higher promise than what is logged", x)
	x = good
	x.Entry = nil
	try("no state behind one", x)
	if !l.log(b, pos, e) {
		t.Error("what goes on is not logged")
	}
	l.crash()
}

// A PFS that is not clustered does not become a member by way of the log.
func TestLogRefusesAState(t *testing.T) {
	l := newLogger(t, 5, true)
	for logged := range 2 {
		b, pos, _ := l.next(3)
		e := &ondisk.StateEntry{Fsid: l.fsid, PromisedEpoch: 1, Candidate: 5, T: pos.T, Acked: pos.T}
		x := LogTxg{Label: "DATA", Fsid: l.fsid, Prev: l.pos, Pos: pos, Entry: e, Batch: b}
		if err := l.v.Log(bg, x); !errors.Is(err, ErrNotLogged) {
			t.Errorf("behind %d that are logged: %v", logged, err)
		}
		if !l.log(b, pos, nil) {
			t.Error("what goes on is not logged")
		}
	}
	l.crash()
}

func cloneModel(m model) model {
	c := make(model, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}
