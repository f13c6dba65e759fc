package chain

import (
	"context"
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// What is read at open may be in a cache only: it is flushed before anybody
// can be told of it.
func TestOpenFlushes(t *testing.T) {
	dev := faultdev.New(newImage(t, 64<<20))
	v := openImage(t, dev, Options{})
	if dev.Count(faultdev.Flush) == 0 {
		t.Error("opened without a flush")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// Every block is verified, those that are read together like single ones.
func TestBlocksAreVerified(t *testing.T) {
	const inum, n = 5000, 6
	dev := newImage(t, 256<<20)
	v := openImage(t, dev, Options{})
	defer v.Close()
	m := newMaker(t, 3)
	meta := fileMeta(inum)
	meta.Size = n * ondisk.LogicalBlock
	b := &Batch{T: ondisk.MakeTid(1, 1), Changes: []Change{{Inum: inum, Kind: KindInode, Inode: meta}}}
	for i := range uint64(n) {
		b.Changes = append(b.Changes, Change{Inum: inum, Kind: KindData, Key: i * ondisk.LogicalBlock, Block: m.blocks[i]})
	}
	if err := commitBatch(v, "DATA", b); err != nil {
		t.Fatal(err)
	}
	view, err := v.View(bg, "DATA")
	if err != nil {
		t.Fatal(err)
	}
	defer view.Release()
	var refs []ondisk.Blockref
	if err := view.DataRefs(bg, inum, 0, 1<<63, func(r *ondisk.Blockref) bool { refs = append(refs, *r); return true }); err != nil {
		t.Fatal(err)
	}
	if runOf(refs) < 2 {
		t.Fatal("no two blocks lie together")
	}
	buf := make([]byte, n*ondisk.LogicalBlock)
	for i := range refs {
		at := int64(refs[i].Off()) + 5
		flip(t, dev, at)
		err := view.ReadData(bg, inum, 0, buf)
		var node *NodeError
		if !errors.As(err, &node) || !errors.Is(err, ondisk.ErrCorrupt) || node.Ref.DataOff != refs[i].DataOff {
			t.Errorf("block %d is damaged: %v", i, err)
		}
		if _, err := view.ReadBlock(bg, &refs[i]); !errors.Is(err, ondisk.ErrCorrupt) {
			t.Errorf("block %d by itself is damaged: %v", i, err)
		}
		flip(t, dev, at)
	}
	if err := view.ReadData(bg, inum, 0, buf); err != nil {
		t.Error(err)
	}
}

func flip(t *testing.T, dev ondisk.Device, at int64) {
	t.Helper()
	var b [1]byte
	if _, err := dev.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := dev.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// Blocks that are sound by themselves, but in the wrong place, are refused:
// their check codes are right, as a bug or a foreign writer may leave it.
func TestTreeDamageIsRefused(t *testing.T) {
	ctx := context.Background()
	p := wide(t)
	v := p.view(t)
	dir, ok, err := v.Inode(ctx, 1024)
	if err != nil || !ok {
		t.Fatal(err)
	}
	tables := dir.set
	if len(tables) < 2 || tables[0].Type != ondisk.TypeIndirect {
		t.Fatalf("%d elements", len(tables))
	}
	file, _, _ := v.Inode(ctx, 1025)
	own := owner{1024, treeDir}
	// A copy of a reference, and what is wrong with it.
	narrow := tables[0]
	kids, err := v.reader.table(ctx, own, &narrow)
	if err != nil {
		t.Fatal(err)
	}
	for narrow.KeyBits > 0 && kids[len(kids)-1].LastKey() <= narrow.LastKey() {
		narrow.KeyBits--
	}
	above := narrow
	above.Key = kids[len(kids)-1].Key &^ (1<<above.KeyBits - 1)
	for what, try := range map[string]func() error{
		"elements behind the range": func() error { _, err := v.reader.table(ctx, own, &narrow); return err },
		"elements before the range": func() error { _, err := v.reader.table(ctx, own, &above); return err },
		"data in a directory":       func() error { _, err := v.reader.table(ctx, own, &file.set[0]); return err },
		"entries in a file":         func() error { _, err := v.reader.table(ctx, owner{1025, treeFile}, &tables[0]); return err },
		"an inode of another number": func() error {
			ref := file.Ref
			ref.Key = 7777
			_, err := v.reader.inode(ctx, rootOwner, &ref)
			return err
		},
	} {
		p.cache = newTableCache(0)
		v.reader.cache = p.cache
		if err := try(); !errors.Is(err, ondisk.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := v.reader.table(ctx, own, &tables[0]); err != nil {
		t.Error(err)
	}
}

// A slot that our crash cannot have left is told, the one that was due is not.
func TestTaint(t *testing.T) {
	l := newLife(t, 5, 9<<30)
	l.fill(5)
	slots := l.v.slots
	n, cur := len(slots.slots), slots.cur
	offs := make([]int64, n)
	for i := range offs {
		offs[i] = slots.slots[i].off
	}
	l.must(l.v.Close())
	if n < 3 {
		t.Fatalf("%d slots", n)
	}
	// Close wrote headers too.
	l.dev.Reopen()
	l.v = openImage(t, l.dev, Options{ReadOnly: true})
	cur = l.v.slots.cur
	l.must(l.v.Close())
	for i := range n {
		l.dev.Reopen()
		flip(t, l.dev, offs[i]+0x9000)
		v := openImage(t, l.dev, Options{ReadOnly: true})
		due := i == (cur+1)%n
		// Without the newest the one before it is taken for the newest, and
		// the damaged one was due behind it.
		if due = due || i == cur; (v.Tainted() == nil) != due {
			t.Errorf("slot %d of %d, newest %d: tainted %v", i, n, cur, v.Tainted())
		}
		l.must(v.Close())
		l.dev.Reopen()
		flip(t, l.dev, offs[i]+0x9000)
	}
	l.dev.Reopen()
	dev := faultdev.New(l.dev)
	dev.Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Read, Beg: offs[(cur+1)%n], End: offs[(cur+1)%n] + 1, Times: faultdev.Always})
	v := openImage(t, dev, Options{ReadOnly: true})
	if v.Tainted() == nil {
		t.Error("a slot that cannot be read is passed over in silence")
	}
	l.must(v.Close())
}
