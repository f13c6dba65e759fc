package chain

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// Blocks that lie together are read together; the error of one sector still
// names the block that it lies in, or nobody could repair it.
func TestUnreadableIsNamed(t *testing.T) {
	const inum, n = 5000, 8
	dev := faultdev.New(newImage(t, 256<<20))
	v := openImage(t, dev, Options{})
	defer v.Close()
	junk := make([]byte, ondisk.LogicalBlock)
	for i := range junk {
		junk[i] = byte(i*i>>8 ^ i)
	}
	block, _, err := ondisk.EncodeData(junk, 0, uint8(ondisk.CheckXXHash64))
	if err != nil {
		t.Fatal(err)
	}
	meta := fileMeta(inum)
	meta.Size = n * ondisk.LogicalBlock
	b := &Batch{T: ondisk.MakeTid(1, 1), Changes: []Change{{Inum: inum, Kind: KindInode, Inode: meta}}}
	for i := range uint64(n) {
		b.Changes = append(b.Changes, Change{Inum: inum, Kind: KindData, Key: i * ondisk.LogicalBlock, Block: block})
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
	if len(refs) != n || runOf(refs) < 3 {
		t.Fatalf("%d blocks, %d of them together", len(refs), runOf(refs))
	}
	for i := range refs {
		at := int64(refs[i].Off()) + 512
		dev.Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Read, Beg: at, End: at + 1, Times: faultdev.Always})
		err := view.ReadData(bg, inum, 0, make([]byte, n*ondisk.LogicalBlock))
		var node *NodeError
		if !errors.As(err, &node) || node.Inum != inum || node.Ref.DataOff != refs[i].DataOff || !errors.Is(err, faultdev.ErrFault) {
			t.Errorf("block %d: got %v", i, err)
		}
		dev.Clear()
	}
}

// The first page of a device may be a bad spot like any other: only a device of
// which nothing can be read is gone.
func TestProbeOfFirstPage(t *testing.T) {
	dev := faultdev.New(newImage(t, 5<<30))
	v := openImage(t, dev, Options{})
	defer v.Close()
	bad := func(beg, end int64) {
		dev.Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Read, Beg: beg, End: end, Times: faultdev.Always})
	}
	bad(0, 512)
	if err := v.Probe(); err != nil {
		t.Errorf("with a bad first sector: %v", err)
	}
	bad(2<<30, 2<<30+512)
	if err := v.Probe(); err != nil {
		t.Errorf("with a bad sector in the second slot, too: %v", err)
	}
	bad(0, dev.Size())
	if err := v.Probe(); !errors.Is(err, faultdev.ErrFault) {
		t.Errorf("of a device that gives nothing: %v", err)
	}
}
