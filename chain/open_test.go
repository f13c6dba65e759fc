package chain

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/golden"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// Volumes that others made open, are left alone when read, and go on under our
// commits: with a complete freemap, all slots intact, and their content.
func TestGoldenImages(t *testing.T) {
	for _, name := range golden.Images(t) {
		if strings.HasPrefix(name, "multivol") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dev := golden.Device(t, name)
			quiet := faultdev.New(dev)
			v := openImage(t, quiet, Options{ReadOnly: true})
			before := allModels(t, v)
			if !v.Foreign() {
				t.Error("taken for ours")
			}
			if _, err := v.Begin(bg); !errors.Is(err, ErrReadOnly) {
				t.Errorf("Begin of a read-only volume: %v", err)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			if n := quiet.Count(faultdev.Write) + quiet.Count(faultdev.Discard); n != 0 {
				t.Errorf("%d writes to a volume opened read-only", n)
			}
			dev.Reopen()
			writeGolden(t, dev, before, name == "damaged-data")
		})
	}
}

func allModels(t *testing.T, v *Volume) map[string]map[leafKey]string {
	t.Helper()
	list, err := v.PFSs(bg)
	if err != nil || len(list) == 0 {
		t.Fatalf("PFSs %v, %v", list, err)
	}
	all := make(map[string]map[leafKey]string)
	for _, p := range list {
		view, err := v.View(bg, p.Label)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(v.Name(), "damaged-data") {
			all[p.Label] = viewModel(t, view)
		}
		view.Release()
	}
	return all
}

func writeGolden(t *testing.T, dev *memdev.Device, before map[string]map[leafKey]string, damaged bool) {
	v := openImage(t, dev, Options{})
	first := v.Header().MirrorTid
	inum := uint64(1 << 40)
	tid := ondisk.MakeTid(uint32(first.Epoch()+1), 1)
	for i := range 6 {
		b := &Batch{T: tid + ondisk.Tid(i), Changes: []Change{{Inum: inum + uint64(i), Kind: KindInode, Inode: fileMeta(inum + uint64(i))}}}
		if err := commitBatch(v, "LOCAL", b); err != nil {
			t.Fatal(err)
		}
		if m := v.Header().Mark; m.Since <= first || m.Since > v.Header().MirrorTid {
			t.Fatalf("mark %+v on a volume that was at %v", m, first)
		}
		if i == 3 && !damaged {
			rep, err := v.Bulkfree(bg, BulkfreeOptions{})
			if err != nil || rep.Rescued != 0 {
				t.Fatalf("bulkfree: %+v, %v", rep, err)
			}
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	dev.Reopen()
	if !damaged {
		mustCheck(t, dev)
	}
	v = openImage(t, dev, Options{})
	if v.Foreign() {
		t.Error("foreign after our commits")
	}
	after := allModels(t, v)
	for label, want := range before {
		got := after[label]
		for k, text := range want {
			if got[k] != text {
				t.Fatalf("%s: %v: %q, want %q", label, k, got[k], text)
			}
		}
		if extra := len(got) - len(want); extra != 0 && (label != "LOCAL" || extra != 6) {
			t.Errorf("%s: %d leaves more than before", label, extra)
		}
	}
}

func TestMultiVolume(t *testing.T) {
	a, b := golden.Device(t, "multivol-0"), golden.Device(t, "multivol-1")
	if _, err := Open(bg, []ondisk.Device{a}, Options{}); err == nil || !strings.Contains(err.Error(), "2 volumes") {
		t.Errorf("opened one of two volumes: %v", err)
	}
	a.Reopen()
	v, err := Open(bg, []ondisk.Device{b, a}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		bt := &Batch{T: ondisk.MakeTid(1, uint32(i)), Changes: []Change{{Inum: 5000 + uint64(i), Kind: KindInode, Inode: fileMeta(5000 + uint64(i))}}}
		if err := commitBatch(v, "LOCAL", bt); err != nil {
			t.Fatal(err)
		}
	}
	// Far enough that the second volume is written too.
	if err := writeJunk(v, "DATA", ondisk.MakeTid(1, 100)); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	a.Reopen()
	b.Reopen()
	v, err = Open(bg, []ondisk.Device{a, b}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &treeScan{v: v, visit: func(r *ondisk.Blockref) {
		if _, err := v.readRaw(bg, r); err != nil {
			t.Error(err)
		}
	}}
	if err := errors.Join(s.run(bg, sroot(v.hdr)), s.damage()); err != nil {
		t.Fatal(err)
	}
}

// Each write and each flush of a commit fails once. Nothing is committed, the
// volume writes nothing afterwards, and the old state opens again.
func TestCommitFaults(t *testing.T) {
	for _, op := range []faultdev.Op{faultdev.Write, faultdev.Flush} {
		for nth := 1; ; nth++ {
			l := newLife(t, 7, 256<<20)
			l.fill(5)
			l.must(l.v.Close())
			l.dev.Reopen()
			dev := faultdev.New(l.dev)
			l.v = openImage(t, dev, Options{})
			dev.Add(faultdev.Rule{Do: faultdev.Fail, On: op, Nth: nth})
			l.tid++
			b := l.m.batch(l.tid, 60)
			l.fit(b, l.models["DATA"])
			err := commitBatch(l.v, "DATA", b)
			if len(dev.Log()) == 0 {
				l.must(err)
				if nth < 2 {
					t.Errorf("only %d requests of kind %v", nth, op)
				}
				break
			}
			if !errors.Is(err, ErrVolumeFailed) || !errors.Is(err, faultdev.ErrFault) {
				t.Fatalf("%v: %v", dev.Log(), err)
			}
			writes := dev.Count(faultdev.Write)
			if _, err := l.v.Begin(bg); !errors.Is(err, ErrVolumeFailed) {
				t.Fatalf("%v: Begin afterwards: %v", dev.Log(), err)
			}
			l.must(l.v.Close())
			if n := dev.Count(faultdev.Write) - writes; n != 0 {
				t.Fatalf("%v: %d writes afterwards", dev.Log(), n)
			}
			l.dev.Reopen()
			mustCheck(t, l.dev)
			l.v = openImage(t, l.dev, Options{})
			// A flush that failed behind the header may have kept it.
			if view, err := l.v.View(bg, "DATA"); err != nil {
				t.Fatal(err)
			} else if view.T() == l.tid {
				l.models["DATA"].apply(b)
			}
			checkView(t, l.v, "DATA", l.models["DATA"])
		}
	}
}

// Whatever a power cut leaves, the volume opens at a state no older than the
// last one acknowledged, with every slot that is valid intact.
func TestCommitCrash(t *testing.T) {
	for _, size := range []int64{256 << 20, 7 << 30} {
		t.Run(fmt.Sprint(size>>20, "MiB"), func(t *testing.T) {
			base := newImage(t, size)
			dev := crashdev.New(base)
			v := openImage(t, dev, Options{})
			m, now := newMaker(t, 11), model{}
			states := []model{{}}
			acks := []int{0} // events at which states[i] was acknowledged
			for i := range 7 {
				b := m.batch(ondisk.MakeTid(1, uint32(i+1)), 25)
				if err := commitBatch(v, "DATA", b); err != nil {
					t.Fatal(err)
				}
				now.apply(b)
				copied := model{}
				for k, val := range now {
					copied[k] = val
				}
				states, acks = append(states, copied), append(acks, dev.Events())
			}
			n := dev.Each(crashdev.Options{Exhaustive: 3, Max: 40}, func(s crashdev.State) bool {
				return checkCrash(t, s, states, acks)
			})
			if n < 100 {
				t.Errorf("only %d states", n)
			}
		})
	}
}

func checkCrash(t *testing.T, s crashdev.State, states []model, acks []int) bool {
	v, err := Open(bg, []ondisk.Device{s.Image}, Options{})
	if err != nil {
		t.Errorf("%s: %v", s.Name, err)
		return false
	}
	if v.Foreign() || v.Tainted() != nil {
		t.Errorf("%s: foreign %v, tainted %v", s.Name, v.Foreign(), v.Tainted())
	}
	view, err := v.View(bg, "DATA")
	if err != nil {
		t.Errorf("%s: %v", s.Name, err)
		return false
	}
	defer view.Release()
	i := 0
	if view.T() >= ondisk.MakeTid(1, 0) {
		i = int(view.T().Seq())
	}
	if i+1 < len(acks) && acks[i+1] <= s.N {
		t.Errorf("%s: opens at state %d, but %d was acknowledged", s.Name, i, i+1)
		return false
	}
	if err := sameModel(t, view, states[i]); err != nil {
		t.Errorf("%s: state %d: %v", s.Name, i, err)
		return false
	}
	if _, err := checkImage(s.Image); err != nil {
		t.Errorf("%s: %v", s.Name, err)
		return false
	}
	return true
}

// Slot 0 is all there is on a small volume; block 63 stands in for a torn one,
// but not for one that somebody else tore, nor for one that cannot be read.
func TestTornSingleSlot(t *testing.T) {
	l := newLife(t, 9, 256<<20)
	l.fill(3)
	l.must(l.v.Close())
	l.dev.Reopen()
	torn := l.dev.Clone()
	if _, err := torn.WriteAt(make([]byte, 4096), 60<<10); err != nil {
		t.Fatal(err)
	}
	if _, err := readSlots(torn.Clone()); err != nil {
		t.Fatal(err)
	}
	v := openImage(t, torn, Options{})
	checkView(t, v, "DATA", l.models["DATA"])
	if got, want := slotBytes(t, torn), slotBytes(t, l.dev); got != want {
		t.Error("slot 0 is not as it was")
	}
	v.Close()
	tornSpare := l.dev.Clone()
	if _, err := tornSpare.WriteAt(make([]byte, 4096), spareSlot+60<<10); err != nil {
		t.Fatal(err)
	}
	openImage(t, tornSpare, Options{ReadOnly: true})
	if readSlot(tornSpare, spareSlot).hdr != nil {
		t.Error("repaired when opened read-only")
	}
	openImage(t, tornSpare, Options{})
	if s := readSlot(tornSpare, spareSlot); s.hdr == nil {
		t.Errorf("the spare copy is left torn: %v", s.err)
	}
	foreign := l.dev.Clone()
	hdr := readSlot(foreign, 0).hdr
	hdr.MirrorTid += 5
	block := make([]byte, ondisk.HeaderSize)
	hdr.Encode(block)
	block[ondisk.HeaderSize-1] ^= 1
	if _, err := foreign.WriteAt(block, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(bg, []ondisk.Device{foreign}, Options{}); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("torn by somebody else: %v", err)
	}
	sick := faultdev.New(l.dev.Clone(), faultdev.Rule{Do: faultdev.Fail, On: faultdev.Read, End: 1, Times: faultdev.Always})
	if _, err := Open(bg, []ondisk.Device{sick}, Options{}); !errors.Is(err, faultdev.ErrFault) {
		t.Errorf("unreadable: %v", err)
	}
}

func slotBytes(t *testing.T, dev ondisk.Device) string {
	t.Helper()
	b := make([]byte, ondisk.HeaderSize)
	if _, err := dev.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Another writer leaves a freemap behind its tree, or without marks for some of
// it; the first mount for writing marks all that is reachable.
func TestForeignWriter(t *testing.T) {
	l := newLife(t, 13, 256<<20)
	l.fill(20)
	l.must(l.v.Close())
	l.dev.Reopen()
	old := readSlot(l.dev, 0).hdr
	v := atHeader(l.dev, old)
	fm, err := newFreemap(bg, v, old)
	l.must(err)
	v.fm = fm
	// Forget half of what is allocated, as a broken recovery would.
	s := &treeScan{v: v, visit: func(r *ondisk.Blockref) {
		if r.Off()/ondisk.ChunkSize%2 == 0 && r.Off() >= old.AllocatorBeg {
			z, seg, chunk := fm.place(r.Off())
			fm.setChunks(z, seg, chunk, ondisk.ChunkRadix, ondisk.ChunkFree)
		}
	}}
	l.must(s.run(bg, sroot(old)))
	hdr := old.Clone()
	hdr.MirrorTid += 3 // the mark no longer fits
	hdr.Freemap = fm.write(hdr.MirrorTid, 0, func(off uint64, block []byte) {
		_, err := l.dev.WriteAt(block, int64(off))
		l.must(err)
	})
	block := make([]byte, ondisk.HeaderSize)
	hdr.Encode(block)
	_, err = l.dev.WriteAt(block, 0)
	l.must(err)
	if _, err := checkImage(l.dev); err == nil {
		t.Fatal("the damage is not seen")
	}
	l.v = openImage(t, l.dev, Options{})
	if !l.v.Foreign() {
		t.Error("not seen as foreign")
	}
	l.fill(1)
	mustCheck(t, l.dev)
	if m := l.v.Header().Mark; m.Since <= hdr.MirrorTid {
		t.Errorf("mark %+v after a writer at %v", m, hdr.MirrorTid)
	}
	l.fill(10)
	mustCheck(t, l.dev)
	checkView(t, l.v, "DATA", l.models["DATA"])
}
