package chain

import (
	"errors"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// A read of a device that hangs ends when the caller's patience does; when the
// device answers after all, that is told too, and nobody's buffer is written.
func TestPatient(t *testing.T) {
	const inum, n = 5000, 6
	dev := faultdev.New(newImage(t, 256<<20))
	v := openImage(t, dev, Options{CacheBytes: 1})
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
	var refs []ondisk.Blockref
	if err := view.DataRefs(bg, inum, 0, 1<<63, func(r *ondisk.Blockref) bool { refs = append(refs, *r); return true }); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, n*ondisk.LogicalBlock)
	if err := view.ReadData(bg, inum, 0, want); err != nil {
		t.Fatal(err)
	}
	dev.Add(faultdev.Rule{Do: faultdev.Hang, On: faultdev.Read, Times: faultdev.Always})
	late, back := make(chan bool, 100), make(chan bool, 100)
	ctx := Patient(bg, time.Millisecond, func() func() {
		late <- true
		return func() { back <- true }
	})
	for what, call := range map[string]func() error{
		"one block": func() error { _, err := view.ReadBlock(ctx, &refs[0]); return err },
		"a run":     func() error { return view.ReadData(ctx, inum, 0, make([]byte, len(want))) },
	} {
		var node *NodeError
		if err := call(); !errors.Is(err, ErrLate) || !errors.As(err, &node) {
			t.Errorf("%s: %v", what, err)
		}
		<-late
	}
	dev.Clear()
	dev.Release()
	<-back
	<-back
	got := make([]byte, len(want))
	if err := view.ReadData(ctx, inum, 0, got); err != nil || string(got) != string(want) {
		t.Errorf("afterwards: %v", err)
	}
	view.Release()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}
