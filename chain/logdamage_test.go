package chain

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// inCluster says of every PFS that others have it, too.
func inCluster(context.Context, *Volume, *PFSInfo) bool { return true }

// lost reports what the newest header says of the PFS.
func (l *logger) lost(v *Volume) bool {
	e, _ := v.State(l.fsid)
	return e.Flags&ondisk.StateLost != 0
}

// rot spoils the block of the PFS's root that the newest header refers to.
func (l *logger) rot(dev *memdev.Device) {
	l.Helper()
	infos, err := l.v.PFSs(bg)
	if err != nil {
		l.Fatal(err)
	}
	for i := range infos {
		if infos[i].Label != "DATA" {
			continue
		}
		v, err := l.v.View(bg, "DATA")
		if err != nil {
			l.Fatal(err)
		}
		root, err := l.v.readRaw(bg, ptr(v.Root()))
		v.Release()
		if err != nil {
			l.Fatal(err)
		}
		for at := ondisk.InodeMetaSize; at < len(root); at += ondisk.BlockrefSize {
			ref, err := ondisk.DecodeBlockref(root[at:])
			if err == nil && ref.Type == ondisk.TypeIndirect && ref.Key&ondisk.DirBit == 0 {
				dev.WriteAt([]byte("rotten"), int64(ref.Off())+64)
				return
			}
		}
	}
	l.Fatal("no table to spoil")
}

func ptr[T any](x T) *T { return &x }

// A log over a tree that cannot take it is not given up unasked where no other
// copy is. A member of a cluster gives it up, and its headers say so from then on.
func TestLogOverDamagedTree(t *testing.T) {
	l := newLogger(t, 21, false)
	l.commit(300)
	base := l.pos
	for range 3 {
		l.mustLog(40)
	}
	dev := l.dev.Clone()
	l.rot(dev)
	if v, err := Open(bg, []ondisk.Device{dev.Clone()}, Options{}); !errors.Is(err, ErrLogStuck) || !strings.Contains(err.Error(), "fsck --repair") {
		t.Fatalf("a single copy: %v, %v", v, err)
	}
	for range 3 { // the second open finds an empty log: the header has to say it
		v := openImage(t, dev, Options{Copied: inCluster})
		e, _ := v.State(l.fsid)
		if !l.lost(v) || e.T != base.T || v.Logged() > 0 {
			t.Fatalf("lost %v at %v, %d logged; want lost at %v", l.lost(v), e.T, v.Logged(), base.T)
		}
		dev = dev.Clone()
	}
}

// The same while the volume is open: the transactions of whoever copies it anew
// go on, and a crash among them does not make it believed.
func TestGiveUpLog(t *testing.T) {
	for _, alone := range []bool{true, false} {
		l := newLogger(t, 22, false)
		l.commit(300)
		if !alone {
			l.v.opts.Copied = inCluster
		}
		l.mustLog(40)
		l.rot(l.dev)
		l.v.cache = newTableCache(defaultCache)
		err := l.v.Checkpoint(bg)
		if !errors.Is(err, ErrLogStuck) {
			t.Fatalf("a checkpoint over a damaged tree: %v", err)
		}
		err = l.v.GiveUpLog(bg)
		if alone {
			if !errors.Is(err, ErrLogStuck) || l.v.Logged() != 1 {
				t.Errorf("the only copy of a txg was given up: %v, %d logged", err, l.v.Logged())
			}
			continue
		}
		if err != nil || l.v.Logged() != 0 || !l.lost(l.v) {
			t.Fatalf("%v, %d logged, lost %v", err, l.v.Logged(), l.lost(l.v))
		}
		if err := l.v.RewriteHeaders(bg); err != nil {
			t.Fatal(err)
		}
		if v := openImage(t, l.dev.Clone(), Options{Copied: inCluster}); !l.lost(v) {
			t.Error("forgotten by the headers since")
		}
	}
}

// A record that rots after it was acknowledged is no torn tail: the one behind
// it tells. What went before is kept only where nobody has a better copy.
func TestLogRots(t *testing.T) {
	l := newLogger(t, 23, false)
	var ends []int64
	var at []LogPos
	var models []model
	for range 4 {
		l.mustLog(30)
		ends, at, models = append(ends, l.v.ilog.at), append(at, l.pos), append(models, cloneModel(l.model))
	}
	dev := l.dev.Clone()
	dev.WriteAt([]byte("rotten"), ends[2]-3*pageLen) // in the third record
	trees := map[ondisk.UUID]ondisk.Tid{l.fsid: l.v.hdr.State(l.fsid).T}
	found, err := ReadLog(dev, l.v.hdr, trees)
	if len(found) != 2 || !errors.Is(err, ondisk.ErrCorrupt) {
		t.Fatalf("%d txgs, %v", len(found), err)
	}
	if _, err := Open(bg, []ondisk.Device{dev.Clone()}, Options{}); !errors.Is(err, ErrLogStuck) {
		t.Fatalf("opened: %v", err)
	}
	v := openImage(t, dev.Clone(), Options{Copied: inCluster})
	if !l.lost(v) || v.Tainted() == nil {
		t.Error("a member that lost what it acknowledged does not say so")
	}
	v = openImage(t, dev, Options{DropLog: true})
	if e, _ := v.State(l.fsid); e.T != at[1].T || e.Flags != 0 || v.GaveUp() == nil {
		t.Errorf("at %v, flags %#x, %v; want %v", e.T, e.Flags, v.GaveUp(), at[1].T)
	}
	checkView(t, v, "DATA", models[1])
	// The last one torn is what any crash may leave.
	dev = l.dev.Clone()
	dev.WriteAt([]byte("rotten"), ends[3]-3*pageLen)
	if v := openImage(t, dev, Options{}); positionAt(v, l.fsid) != at[2].T {
		t.Errorf("with a torn record at its end: at %v, want %v", positionAt(v, l.fsid), at[2].T)
	}
}

// A badPage is a device with a place that cannot be read.
type badPage struct {
	ondisk.Device
	at int64
}

func (d badPage) ReadAt(p []byte, off int64) (int, error) {
	if off < d.at+pageLen && off+int64(len(p)) > d.at {
		return 0, errors.New("medium error")
	}
	return d.Device.ReadAt(p, off)
}

// A record that cannot be read may have been acknowledged. A place behind the
// log that cannot be read is no reason to refuse a volume.
func TestLogUnreadable(t *testing.T) {
	l := newLogger(t, 26, false)
	var ends []int64
	var at []LogPos
	for range 3 {
		l.mustLog(30)
		ends, at = append(ends, l.v.ilog.at), append(at, l.pos)
	}
	image := l.dev.Clone()
	open := func(bad int64, o Options) (*Volume, error) {
		return Open(bg, []ondisk.Device{badPage{image.Clone(), bad}}, o)
	}
	v, err := open(ends[2]+5*pageLen, Options{})
	if err != nil || positionAt(v, l.fsid) != at[2].T {
		t.Errorf("a bad place behind the log: %v", err)
	}
	if _, err := open(ends[0], Options{}); !errors.Is(err, ErrLogStuck) {
		t.Errorf("a single copy, the second record cannot be read: %v", err)
	}
	if v, err := open(ends[0], Options{Copied: inCluster}); err != nil || !l.lost(v) {
		t.Errorf("a member, the second record cannot be read: %v", err)
	}
	if v, err := open(ends[0], Options{DropLog: true}); err != nil || positionAt(v, l.fsid) != at[0].T {
		t.Errorf("repaired, the second record cannot be read: %v", err)
	}
}

// What is read with one request, and cannot be, hides no record in it.
func TestLogRotBesideABadPage(t *testing.T) {
	l := newLogger(t, 27, false)
	beg := l.v.ilog.at
	for range 3 {
		l.mustLog(1)
	}
	end := l.v.ilog.at
	if end-beg > 12*pageLen {
		t.Fatalf("the records take %d bytes", end-beg)
	}
	image := l.dev.Clone()
	image.WriteAt([]byte("rotten"), beg)
	if _, err := Open(bg, []ondisk.Device{badPage{image, end + pageLen}}, Options{}); !errors.Is(err, ErrLogStuck) {
		t.Errorf("the first of three records is rotten, and a place behind them cannot be read: %v", err)
	}
}

// positionAt is where a PFS is by the header.
func positionAt(v *Volume, fsid ondisk.UUID) ondisk.Tid {
	e, _ := v.State(fsid)
	return e.T
}

// Another system's change over a log that holds something: never replayed, and
// a member says that it lost txgs, also when the next header is ours.
func TestLogForeignIsALoss(t *testing.T) {
	for _, c := range []Options{{}, {Copied: inCluster}} {
		l := newLogger(t, 24, false)
		base := l.pos
		l.mustLog(4)
		dev := l.dev.Clone()
		changeElsewhere(t, dev)
		for range 3 {
			v := openImage(t, dev, c)
			if e, _ := v.State(l.fsid); e.T != base.T || l.lost(v) != (c.Copied != nil) {
				t.Fatalf("at %v, lost %v; want %v", e.T, l.lost(v), base.T)
			}
			dev = dev.Clone()
		}
	}
}

// Nothing is logged that might not find room in the tree, whatever the volume
// holds by then.
func TestLogLeavesRoom(t *testing.T) {
	l := newLogger(t, 25, false)
	logged := 0
	for l.log(l.next(3)) {
		if logged++; logged > 2*maxLogTxgs {
			t.Fatal("the log takes more txgs than it may hold")
		}
	}
	if logged < 4 {
		t.Fatalf("%d txgs in an empty volume", logged)
	}
	l.mustLog(3)
	l.v.fm.usable -= l.v.ilog.need // as if all else were taken
	usable := l.v.fm.usable
	l.v.fm.usable = l.v.ilog.need + 1
	b, pos, e := l.next(3)
	if err := l.v.Log(bg, LogTxg{Label: "DATA", Fsid: l.fsid, Prev: l.pos, Pos: pos, Entry: e, Batch: b}); !errors.Is(err, ErrNotLogged) {
		t.Errorf("logged into the last space: %v", err)
	}
	l.v.fm.usable = usable + l.v.ilog.need
	l.commitThis(b, pos, e)
	l.crash()
}
