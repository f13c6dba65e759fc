package crashtest

import (
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// sized makes a file block that takes n bytes on media.
func sized(t *testing.T, n int, fill byte) *ondisk.EncodedBlock {
	t.Helper()
	p := make([]byte, n)
	for i := range p {
		p[i] = fill + byte(i%7)
	}
	b, _, err := ondisk.EncodeData(p, uint8(ondisk.CompNone), uint8(ondisk.CheckXXHash64))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const regressFile = 1024

// data makes a change of block n of the file; nil deletes it.
func data(n uint64, b *ondisk.EncodedBlock) chain.Change {
	return chain.Change{Inum: regressFile, Kind: chain.KindData, Key: n * ondisk.LogicalBlock, Block: b, Delete: b == nil}
}

// newFile formats a volume with a file on it and opens it.
func newFile(t *testing.T, shape Shape) (*memdev.Device, *session) {
	t.Helper()
	dev, err := shape.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return dev, addFile(t, dev, shape)
}

// addFile puts a file on a new volume and leaves it open.
func addFile(t *testing.T, dev *memdev.Device, shape Shape) *session {
	t.Helper()
	s, err := openSession(t.Context(), nil, crashdev.Split(dev, shape.Sizes...), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	meta := ondisk.NewInodeMeta(regressFile, ondisk.ObjFile)
	meta.CheckAlgo, meta.Nlinks, meta.Size = uint8(ondisk.CheckXXHash64), 1, 1<<30
	key := ondisk.NameHash("file")
	s.batches(t, []chain.Change{{Inum: regressFile, Kind: chain.KindInode, Inode: &meta},
		{Inum: ondisk.InumRoot, Kind: chain.KindDirent, Key: key, Dirent: ondisk.Dirent{Key: key, Inum: regressFile, Type: meta.Type, Name: "file"}}})
	return s
}

// batches applies one batch after the other in one transaction.
func (s *session) batches(t *testing.T, list ...[]chain.Change) {
	t.Helper()
	err := s.txn("regression", func(txn *chain.Txn, m *volume) error {
		for _, changes := range list {
			b := &chain.Batch{T: s.tid(), Changes: changes}
			b.Sort()
			if err := s.apply(txn, m, first, b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A chunk whose last block was written and dropped by one transaction was free
// at once, though older headers reached what else had been in it.
func TestSharedChunkEmptiedInOneTransaction(t *testing.T) {
	dev, s := newFile(t, Shapes()[0])
	big, small := sized(t, 8192, 1), sized(t, 4096, 2)
	s.batches(t, []chain.Change{data(0, big), data(1, small)})             // chunk C: 4 KiB of room
	s.batches(t, []chain.Change{data(0, sized(t, 8192, 3)), data(1, nil)}) // nothing of C is left
	fill := []chain.Change{data(2, small)}                                 // C is full, and is closed for want of places
	for n := range uint64(8) {
		fill = append(fill, data(4+n, big))
	}
	s.batches(t, fill, []chain.Change{data(2, nil)})
	v, err := openSession(t.Context(), nil, []ondisk.Device{dev}, 1, s.now) // whose search for space begins at the start
	if err != nil {
		t.Fatal(err)
	}
	var many []chain.Change
	for n := range uint64(24) {
		many = append(many, data(20+n, sized(t, 16384, byte(n))))
	}
	v.batches(t, many)
	if err := v.verify(); err != nil {
		t.Error(err)
	}
	if err := checkStructure(dev, []int64{dev.Size()}); err != nil {
		t.Error(err)
	}
}

// A header that was torn twice came to life at the second time: the page it
// lacked was the same in the next header, while its blocks were overwritten.
// With a log no such page is the same in two headers: they name its seed.
func TestHeaderTornTwice(t *testing.T) {
	shape := Shapes()[0]
	dev, err := shape.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hdr := headers(dev, shape.Sizes[0])[0]
	hdr.AuxBeg, hdr.Mark.Log, hdr.Mark.LogSeed = hdr.AuxEnd, 0, 0
	if err := replaceHeaders(dev, hdr); err != nil {
		t.Fatal(err)
	}
	s := addFile(t, dev, shape)
	change := func(dev *memdev.Device, n int) (*Tap, int) {
		tap := NewTap(dev, 0, dev.Size())
		again, err := openSession(t.Context(), tap, nil, 1, s.now)
		if err != nil {
			t.Fatal(err)
		}
		txn, err := again.v.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b := &chain.Batch{T: again.tid(), Changes: []chain.Change{data(0, sized(t, n, byte(n)))}}
		if err := txn.Apply(t.Context(), first, b); err != nil {
			t.Fatal(err)
		}
		if err := txn.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		return tap, tap.Events()
	}
	// The last events are the header, of which pages 0, 9 and 15 differ from
	// what the slot holds, and a flush. First page 9 gets lost, then all others.
	mark := func(sector int) bool { return sector/8 == 9 }
	tap, n := change(dev, 4096)
	torn := tap.rec.Image(n-1, func(event, sector int) bool { return event != n-2 || !mark(sector) })
	tap, n = change(torn, 5000)
	img := tap.rec.Image(n-1, func(event, sector int) bool { return event == n-2 && mark(sector) })
	if _, err := judge(t.Context(), img, shape.Sizes, []*commit{&s.commits[len(s.commits)-1]}); err != nil {
		t.Error(err)
	}
}
