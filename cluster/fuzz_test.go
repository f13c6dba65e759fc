package cluster

import (
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// FuzzManifest hashes batches that differ in one place: so must the hashes,
// since equal ones are taken for equal batches.
func FuzzManifest(f *testing.F) {
	f.Add(uint64(1025), uint64(7), "name", []byte("inline"), uint8(3))
	f.Fuzz(func(t *testing.T, inum, key uint64, name string, inline []byte, what uint8) {
		if len(inline) > ondisk.InlineMax {
			inline = inline[:ondisk.InlineMax]
		}
		batch := func() *chain.Batch {
			meta := ondisk.NewInodeMeta(inum, ondisk.ObjFile)
			meta.OpFlags, meta.Size = ondisk.OpDirectData, uint64(len(inline))
			return &chain.Batch{T: 9, Changes: []chain.Change{
				{Inum: inum, Kind: chain.KindInode, Inode: &meta, Inline: inline},
				{Inum: 1, Kind: chain.KindDirent, Key: key, Dirent: ondisk.Dirent{Key: key, Inum: inum, Type: ondisk.ObjFile, Name: name}},
				{Inum: inum, Kind: chain.KindData, Key: key, To: key + 1, Delete: true},
			}, Touch: []chain.Touch{{Inum: inum, Lo: 1, Hi: 2}}}
		}
		a, b := batch(), batch()
		if Manifest(a) != Manifest(b) {
			t.Fatal("equal batches, different hashes")
		}
		switch what % 9 {
		case 0:
			b.Changes[0].Inode.Mode++
		case 1:
			b.Changes[0].Inline = append([]byte{1}, inline...)
		case 2:
			b.Changes[1].Dirent.Name += "x"
		case 3:
			b.Changes[1].Dirent.Inum++
		case 4:
			b.Changes[2].To++
		case 5:
			b.Changes[2].Delete, b.Changes[2].Block = false, &ondisk.EncodedBlock{}
		case 6:
			b.Touch[0].Hi++
		case 7:
			b.Changes[1].ModifyTid++
		default:
			b.Changes = b.Changes[:2]
		}
		if Manifest(a) == Manifest(b) {
			t.Errorf("difference %d does not show", what%9)
		}
	})
}
