package chain

import (
	"math/rand/v2"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Symptom: a block of less than a page that is read right was refused instead of
// left alone, so that what was said to be bad stayed so.
func TestMendOfASmallBlock(t *testing.T) {
	dev := newImage(t, 64<<20)
	v := openImage(t, dev, Options{CacheBytes: 1})
	const inum = 5000
	meta := fileMeta(inum)
	block := encode(t, rand.New(rand.NewPCG(1, 1)), 1000)
	meta.Size = 1000
	if err := commitBatch(v, "DATA", &Batch{T: ondisk.MakeTid(1, 1), Changes: []Change{
		{Inum: inum, Kind: KindInode, Inode: meta}, {Inum: inum, Kind: KindData, Block: block},
	}}); err != nil {
		t.Fatal(err)
	}
	view, err := v.View(bg, "DATA")
	if err != nil {
		t.Fatal(err)
	}
	var ref ondisk.Blockref
	if err := view.DataRefs(bg, inum, 0, 1, func(r *ondisk.Blockref) bool { ref = *r; return false }); err != nil {
		t.Fatal(err)
	}
	if written, err := v.Mend(bg, &ref, block.Bytes); written || err != nil {
		t.Errorf("one that is right: written %v, %v", written, err)
	}
	if _, err := dev.WriteAt([]byte("damage"), int64(ref.Off())); err != nil {
		t.Fatal(err)
	}
	if written, err := v.Mend(bg, &ref, block.Bytes); written || err == nil {
		t.Errorf("one that is bad, beside others in its page: written %v, %v", written, err)
	}
	view.Release()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}
