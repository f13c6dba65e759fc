package chain

import (
	"context"
	"fmt"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// hugeDirectory is a PFS with a directory that is far larger than its cache.
func hugeDirectory(t testing.TB, names int, cache int64) *memPFS {
	t.Helper()
	p := newMemPFS(t, newMemBlocks(), "P")
	b := &Batch{T: 100, Changes: []Change{{Inum: 1024, Kind: KindInode, Inode: dirMeta(1024)}}}
	for i := range uint64(names) {
		b.Changes = append(b.Changes, direntChange(1024, 2000+i, fmt.Sprintf("file-%06d.dat", i)))
	}
	b.Sort()
	b.Changes = dropTwins(b.Changes)
	p.cache = newTableCache(cache)
	p.mustApply(t, b)
	return p
}

// Names that are not in a directory are not looked for on media again, though
// its tables have left the cache; those that are there are found.
func TestLookupOfAbsentNames(t *testing.T) {
	const names = 60_000 // 7.5 MiB of tables
	ctx, p := context.Background(), hugeDirectory(t, names, 2<<20)
	v := p.view(t)
	look := func(format string, want bool) (reads int64) {
		t.Helper()
		p.reads.Store(0)
		for i := range 2000 {
			name := fmt.Sprintf(format, i*17)
			d, ok, err := v.Lookup(ctx, 1024, name)
			if hash := ondisk.NameHash(name); i%2 == 0 { // as who makes an entry looks
				ok = false
				err = v.Dirents(ctx, 1024, hash, hash|ondisk.CollisionMask, func(e ondisk.Dirent, _ *ondisk.Blockref) bool {
					ok, d = e.Name == name, e
					return !ok
				})
			}
			if err != nil || ok != want || ok && d.Name != name {
				t.Fatalf("%s: %+v, %v, %v", name, d, ok, err)
			}
		}
		return p.reads.Load()
	}
	if n := look("absent-%06d.dat", false); n > 200 {
		t.Errorf("%d blocks were read to find nothing 2000 times", n)
	}
	if n := look("file-%06d.dat", true); n < 200 {
		t.Errorf("%d blocks were read for 2000 names: the cache is too large for this test", n)
	}
	if used := p.cache.bytes(); used > 2<<20 {
		t.Errorf("%d bytes in a cache for %d", used, 2<<20)
	}
}

// Keys of one table say nothing about another reference to its block.
func TestKeysOfAnotherPlace(t *testing.T) {
	c := newTableCache(1 << 20)
	ref := &ondisk.Blockref{Type: ondisk.TypeIndirect, Key: ondisk.DirBit, KeyBits: 20, DataOff: 1 << 20}
	ref.SetMethods(ondisk.CheckXXHash64, ondisk.CompNone)
	leaf := ondisk.Blockref{Type: ondisk.TypeDirent, Key: ondisk.DirBit + 5<<16}
	keys := keysOf(&table{[]ondisk.Blockref{leaf}, treeDir})
	c.put(ref, keys, keys.size())
	r := &treeReader{cache: c}
	dir, root := owner{7, treeDir}, rootOwner
	other := *ref
	other.Key += 1 << 20 // the same block, said to be elsewhere
	at := func(key uint64) span { return span{key, key | ondisk.CollisionMask} }
	for _, c := range []struct {
		what string
		o    owner
		ref  ondisk.Blockref
		keys span
		want bool
	}{
		{"there", dir, *ref, at(leaf.Key), false},
		{"not there", dir, *ref, at(leaf.Key + 1<<16), true},
		{"in another kind of tree", root, *ref, at(leaf.Key + 1<<16), false},
		{"at another place", dir, other, at(other.Key), false},
		{"behind the table", dir, *ref, at(ref.LastKey() + 1), true},
		{"beyond the table", dir, *ref, span{ref.Key + 1, ref.LastKey() + 1}, false},
	} {
		if got := r.absent(c.o, []ondisk.Blockref{c.ref}, c.keys); got != c.want {
			t.Errorf("%s: absent is %v", c.what, got)
		}
	}
}

// BenchmarkLookupAbsent looks for names that a directory of a million does
// not have, with a cache of 16 MiB.
func BenchmarkLookupAbsent(b *testing.B) {
	v := hugeDirectory(b, 1_000_000, 16<<20).view(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, ok, err := v.Lookup(b.Context(), 1024, fmt.Sprintf("absent-%d", i)); ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
