package chain

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// All that makes a block another one makes its id another one; and what cannot
// be verified has none.
func TestBlockID(t *testing.T) {
	base := ondisk.Blockref{Type: ondisk.TypeData, Key: 65536, MirrorTid: 7, ModifyTid: 7, DataOff: ondisk.MakeDataOff(1<<30, 14)}
	base.SetMethods(ondisk.CheckXXHash64, ondisk.CompNone)
	base.SetCheck(make([]byte, 16384))
	file, vol := owner{100, treeFile}, ondisk.UUID{1}
	id := func(vol ondisk.UUID, o owner, edit func(*ondisk.Blockref)) BlockID {
		t.Helper()
		ref := base
		if edit != nil {
			edit(&ref)
		}
		id, ok := newBlockID(vol, o, &ref)
		if !ok {
			t.Fatalf("%v has no id", &ref)
		}
		return id
	}
	want := id(vol, file, nil)
	same := map[string]BlockID{
		"another volume":  id(ondisk.UUID{2}, file, nil),
		"another address": id(vol, file, func(r *ondisk.Blockref) { r.DataOff = ondisk.MakeDataOff(1<<29, 14); r.MirrorTid = 9 }),
	}
	for name, got := range same {
		if got != want {
			t.Errorf("data on %s is another block", name)
		}
	}
	others := map[string]BlockID{
		"inode": id(vol, owner{101, treeFile}, nil),
		"key":   id(vol, file, func(r *ondisk.Blockref) { r.Key = 0 }),
		"txg":   id(vol, file, func(r *ondisk.Blockref) { r.ModifyTid = 8 }),
		"code":  id(vol, file, func(r *ondisk.Blockref) { r.Check[0]++ }),
		"size":  id(vol, file, func(r *ondisk.Blockref) { r.DataOff = ondisk.MakeDataOff(1<<30, 15) }),
		"check": id(vol, file, func(r *ondisk.Blockref) { r.SetMethods(ondisk.CheckISCSI32, ondisk.CompNone) }),
		"comp":  id(vol, file, func(r *ondisk.Blockref) { r.SetMethods(ondisk.CheckXXHash64, ondisk.CompLZ4) }),
		"table": id(vol, owner{}, nil),
	}
	for name, got := range others {
		if got == want {
			t.Errorf("another %s is the same block", name)
		}
	}
	if a, b := id(vol, owner{}, nil), id(ondisk.UUID{2}, owner{}, nil); a == b {
		t.Error("metadata of another volume is the same block")
	}
	for _, m := range []ondisk.CheckMethod{ondisk.CheckNone, ondisk.CheckDisabled} {
		ref := base
		ref.SetMethods(m, ondisk.CompNone)
		if _, ok := newBlockID(vol, file, &ref); ok {
			t.Errorf("a block with check code %v has an id", m)
		}
	}
}

// liar is a cache that says it has everything, and has it wrong, or right. The
// parts of a large read use it at once.
type liar struct {
	mu         sync.Mutex // guards have and the counts
	have       map[BlockID][]byte
	wrong      bool
	gets, puts int
}

func (l *liar) Open() bool { return true }

func (l *liar) Has(id *BlockID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.have[*id] != nil
}

func (l *liar) Put(id *BlockID, stored []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.puts++
	l.have[*id] = bytes.Clone(stored)
}

func (l *liar) Get(_ context.Context, id *BlockID, n int, good func([]byte) error) ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := bytes.Clone(l.have[*id])
	if l.wrong && len(b) > 0 {
		b[0]++
	}
	if len(b) != n || good(b) != nil {
		return nil, false
	}
	l.gets++
	return b, true
}

// A file of many blocks, read through a cache that has none, every other one, or
// all, right or wrong, is the file.
func TestViewThrough(t *testing.T) {
	const inum, n = 5000, 10
	vol := openImage(t, newImage(t, 256<<20), Options{CacheBytes: 1})
	meta := fileMeta(inum)
	meta.Size = n * ondisk.LogicalBlock
	b := &Batch{T: ondisk.MakeTid(1, 1), Changes: []Change{{Inum: inum, Kind: KindInode, Inode: meta}}}
	for _, block := range newMaker(t, 3).blocks {
		if key := uint64(len(b.Changes)-1) * ondisk.LogicalBlock; block.Check > ondisk.CheckDisabled && key < meta.Size {
			b.Changes = append(b.Changes, Change{Inum: inum, Kind: KindData, Key: key, Block: block})
		}
	}
	if err := commitBatch(vol, "DATA", b); err != nil || len(b.Changes) != n+1 {
		t.Fatal(err, len(b.Changes))
	}
	want := make([]byte, n*ondisk.LogicalBlock)
	plain, err := vol.View(bg, "DATA")
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.ReadData(bg, inum, 0, want); err != nil {
		t.Fatal(err)
	}
	plain.Release()
	l := &liar{have: make(map[BlockID][]byte)}
	look := func() []byte {
		t.Helper()
		v, err := vol.View(bg, "DATA")
		if err != nil {
			t.Fatal(err)
		}
		v = v.Through(l)
		defer v.Release()
		got := make([]byte, len(want))
		if err := v.ReadData(bg, inum, 0, got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, round := range []string{"empty", "full", "half", "wrong"} {
		l.gets, l.puts, l.wrong = 0, 0, round == "wrong"
		if round == "half" {
			i := 0
			for id := range l.have {
				if i++; i%2 == 0 {
					delete(l.have, id)
				}
			}
		}
		if !bytes.Equal(look(), want) {
			t.Errorf("%s: wrong bytes", round)
		}
		switch {
		case round == "empty" && (l.gets != 0 || l.puts < 10), round == "full" && l.gets < 10,
			round == "half" && (l.gets < 4 || l.puts < 4), round == "wrong" && (l.gets != 0 || l.puts < 10):
			t.Errorf("%s: %d gets, %d puts", round, l.gets, l.puts)
		}
	}
	if err := vol.Close(); err != nil { // all views are released
		t.Fatal(err)
	}
}
