package chain

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// nearEnd brings the log to the last bytes of its ring, of which a few records
// take less. What is in it then was logged since the last header.
func (l *logger) nearEnd(left int64) {
	l.Helper()
	if l.v.Logged() > 0 {
		l.commit(1)
	}
	l.v.ilog.at = l.v.ilog.end - left
	l.commit(1) // the header says where the log goes on
}

// A log whose records lie on both sides of the ring's end is replayed whole, and a
// record that rots is missed there as well, by the one that begins the ring anew.
func TestLogReplaysOverItsEnd(t *testing.T) {
	l := newLogger(t, 41, false)
	l.nearEnd(512 << 10)
	base := l.pos
	var offs []int64 // of the records before the ring's end
	for {
		offs = append(offs, l.v.ilog.at)
		l.mustLog(30)
		if l.v.ilog.at < offs[0] {
			offs = offs[:len(offs)-1] // it did not fit
			break
		}
	}
	l.mustLog(30)
	image, all, last := l.dev.Clone(), l.v.Logged(), len(offs)-1
	if last < 0 {
		t.Fatal("no record before the ring's end")
	}
	trees := map[ondisk.UUID]ondisk.Tid{l.fsid: base.T}
	if found, err := ReadLog(image, l.v.hdr, trees); err != nil || len(found) != all {
		t.Fatalf("%d of %d txgs, %v", len(found), all, err)
	}
	dev := image.Clone()
	dev.WriteAt([]byte("rotten"), offs[last]+512)
	if found, err := ReadLog(dev, l.v.hdr, trees); !errors.Is(err, ondisk.ErrCorrupt) || len(found) != last {
		t.Errorf("the record before the ring's end is rotten: %d txgs, %v; want %d and an error", len(found), err, last)
	}
	l.crash()
}

// What the log needs in the tree is summed up.
func TestLogSumsItsNeed(t *testing.T) {
	l := newLogger(t, 42, false)
	want := uint64(0)
	for range 5 {
		b, pos, e := l.next(4)
		want += treeCost(b)
		if !l.log(b, pos, e) {
			t.Fatal("not logged")
		}
	}
	if l.v.ilog.need != want {
		t.Fatalf("five txgs need %d, each for itself together %d", l.v.ilog.need, want)
	}
	l.commit(1)
	if l.v.ilog.need != 0 {
		t.Errorf("an empty log needs %d", l.v.ilog.need)
	}
}

// A txg is logged by a write and then a flush. If either fails nobody knows
// whether it is durable, and the volume takes nothing more.
func TestLogFails(t *testing.T) {
	for _, op := range []faultdev.Op{faultdev.Write, faultdev.Flush} {
		l := newLogger(t, 43, false)
		if err := l.v.Close(); err != nil {
			t.Fatal(err)
		}
		l.dev.Reopen()
		dev := faultdev.New(l.dev)
		l.v = openImage(t, dev, Options{})
		l.commit(1)
		writes, flushes := dev.Count(faultdev.Write), dev.Count(faultdev.Flush)
		l.mustLog(3)
		if w, f := dev.Count(faultdev.Write)-writes, dev.Count(faultdev.Flush)-flushes; w != 1 || f != 1 {
			t.Fatalf("%d writes and %d flushes for a txg", w, f)
		}
		dev.Add(faultdev.Rule{Do: faultdev.Fail, On: op, Times: 1})
		b, pos, e := l.next(3)
		x := LogTxg{Label: "DATA", Fsid: l.fsid, Prev: l.pos, Pos: pos, Entry: e, Batch: b}
		if err := l.v.Log(bg, x); !errors.Is(err, ErrVolumeFailed) {
			t.Errorf("%v failed: %v", op, err)
		}
		if err := l.v.Log(bg, x); !errors.Is(err, ErrVolumeFailed) || errors.Is(err, ErrNotLogged) {
			t.Errorf("the same again after a failed %v: %v", op, err)
		}
		if _, err := l.v.Begin(bg); err == nil {
			t.Errorf("a commit after a failed %v", op)
		}
	}
}

// A record is replayed only onto the state that it was made for, and each only
// behind the one before it.
func TestLogFollows(t *testing.T) {
	l := newLogger(t, 44, false)
	base := l.pos
	l.mustLog(3)
	l.mustLog(3)
	good := map[ondisk.UUID]ondisk.Tid{l.fsid: base.T}
	for name, c := range map[string]struct {
		change func(h *ondisk.VolumeHeader)
		trees  map[ondisk.UUID]ondisk.Tid
		want   int
	}{
		"as it was":           {func(*ondisk.VolumeHeader) {}, good, 2},
		"another history":     {func(h *ondisk.VolumeHeader) { h.State(l.fsid).H[5] ^= 1 }, good, 0},
		"another promise":     {func(h *ondisk.VolumeHeader) { h.State(l.fsid).PromisedEpoch++ }, good, 0},
		"a tree further on":   {func(*ondisk.VolumeHeader) {}, map[ondisk.UUID]ondisk.Tid{l.fsid: base.T + 1}, 0},
		"a state further on":  {func(h *ondisk.VolumeHeader) { h.State(l.fsid).T++ }, map[ondisk.UUID]ondisk.Tid{l.fsid: base.T + 1}, 0},
		"no such PFS by then": {func(*ondisk.VolumeHeader) {}, nil, 0},
	} {
		h := l.v.hdr.Clone()
		c.change(h)
		found, err := ReadLog(l.dev.Clone(), h, c.trees)
		if len(found) != c.want || (err == nil) != (c.want == 2) || err != nil && !errors.Is(err, ondisk.ErrCorrupt) {
			t.Errorf("%s: %d txgs, %v", name, len(found), err)
		}
	}
	l.crash()
}
