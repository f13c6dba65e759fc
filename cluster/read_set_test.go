package cluster

import (
	"fmt"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Records of a set are those on media; what a group holds is left out, and the
// space that comes with them is what Blocks says.
func TestPoolInodes(t *testing.T) {
	p, _ := openFake(t, Options{}, formatted(t, 256<<20))
	defer closePool(t, p)
	var inums []uint64
	for i := range 200 {
		inum := makeFile(t, p, 1, fmt.Sprint("file", i), ondisk.ObjFile)
		data := make([]byte, 1000*i)
		for k := range data {
			data[k] = byte(k * i)
		}
		call(t, p, func(tx *Txn) error {
			in, _, err := p.Inode(bg, inum)
			if err != nil || len(data) == 0 {
				return err
			}
			meta := in.Meta
			meta.Size, meta.OpFlags = uint64(len(data)), meta.OpFlags&^ondisk.OpDirectData
			if err := tx.WriteData(bg, inum, 0, data); err != nil {
				return err
			}
			tx.PutInode(&Inode{Meta: meta})
			return nil
		})
		inums = append(inums, inum)
	}
	mustSync(t, p)
	changed := inums[7]
	call(t, p, func(tx *Txn) error {
		in, _, err := p.Inode(bg, changed)
		if err != nil {
			return err
		}
		meta := in.Meta
		meta.Mode = 0o123
		tx.PutInode(&Inode{Meta: meta})
		return nil
	})
	seen := make(map[uint64]bool)
	err := p.Inodes(bg, append(inums, inums[199]+1000), func(in *Inode) {
		seen[in.Meta.Inum] = true
		one, ok, err := p.Inode(bg, in.Meta.Inum)
		if err != nil || !ok || one.Meta != in.Meta {
			t.Errorf("inode %d: %v of the set, %v alone, %v", in.Meta.Inum, in.Meta, one, err)
		}
		want, err := p.Blocks(bg, in.Meta.Inum)
		if got, known := in.Space(); err != nil || !known || got != want {
			t.Errorf("inode %d takes %d (%v), Blocks says %d, %v", in.Meta.Inum, got, known, want, err)
		}
	})
	if err != nil || len(seen) != len(inums)-1 || seen[changed] {
		t.Errorf("%d of %d inodes, the changed one %v: %v", len(seen), len(inums), seen[changed], err)
	}
}
