package media

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// FuzzArray reads arrays of any bytes: what comes out lies in the range of the
// table and in order, the rest is damage.
func FuzzArray(f *testing.F) {
	block := make([]byte, 4096)
	r := at(1<<20, 1<<40, 20)
	r.Encode(block)
	f.Add(block, uint64(1<<40), uint8(40), true)
	inode := make([]byte, ondisk.InodeSize)
	(&ondisk.Inode{Meta: ondisk.NewInodeMeta(7, ondisk.ObjDir)}).Encode(inode)
	f.Add(inode, uint64(7), uint8(0), false)
	f.Fuzz(func(t *testing.T, block []byte, key uint64, bits uint8, table bool) {
		bits %= 65
		ref := ondisk.Blockref{Type: ondisk.TypeInode, Key: key}
		if table {
			ref = ondisk.Blockref{Type: ondisk.TypeIndirect, Key: key &^ (1<<bits - 1), KeyBits: bits}
		}
		refs, err := Array(&ref, block)
		if err != nil && !errors.Is(err, ondisk.ErrCorrupt) {
			t.Fatal(err)
		}
		for i := range refs {
			var prev *ondisk.Blockref
			if i > 0 {
				prev = &refs[i-1]
			}
			if err := Fits(&ref, prev, &refs[i]); err != nil {
				t.Error(err)
			}
		}
	})
}
