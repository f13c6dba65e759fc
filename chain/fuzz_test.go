package chain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A feed makes numbers of the bytes of a fuzz input.
type feed []byte

func (f *feed) byte() byte {
	if len(*f) == 0 {
		return 0
	}
	b := (*f)[0]
	*f = (*f)[1:]
	return b
}

// key is a number with few bits, anywhere.
func (f *feed) key() uint64 { return uint64(f.byte()) << (f.byte() % 64) }

// FuzzBatch applies batches that may break every rule: what is refused leaves
// the tree as it was, what is not leaves a tree by the rules, equal to a map.
func FuzzBatch(f *testing.F) {
	f.Add([]byte{1, 0, 1, 5, 0, 1, 0})
	f.Add([]byte{5, 1, 4, 3, 2, 1, 2, 4, 3, 2, 1, 4, 3, 2, 7, 4, 3, 2, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		p, fd := newMemPFS(t, newMemBlocks(), "P"), feed(in)
		m := newMaker(t, 1)
		for T := ondisk.Tid(100); len(fd) > 0 && T < 120; T++ {
			b := &Batch{T: T - ondisk.Tid(fd.byte()%2)}
			for range fd.byte() % 32 {
				b.Changes = append(b.Changes, fuzzChange(&fd, m))
			}
			if fd.byte()%4 > 0 {
				b.Sort()
				b.Changes = slices.CompactFunc(b.Changes, func(x, y Change) bool { return compareChanges(&x, &y) == 0 })
			}
			before := p.ref
			err := p.apply(b)
			if err != nil && !errors.Is(err, ErrBadBatch) {
				t.Fatal(err)
			}
			if err != nil {
				if p.ref != before {
					t.Fatal("a refused batch changed the root")
				}
				return // what it wrote and dropped is to be forgotten
			}
			p.check(t)
		}
	})
}

// fuzzChange is any change, often one that is impossible.
func fuzzChange(fd *feed, m *maker) Change {
	kind := fd.byte()
	inum := uint64(fd.byte()%8) + 1
	if kind&0x80 != 0 {
		inum = fd.key()
	}
	c := Change{Inum: inum, Kind: Kind(kind % 3), Delete: kind&4 != 0}
	switch c.Kind {
	case KindInode:
		meta := fileMeta(inum)
		if inum%2 == 1 {
			meta = dirMeta(inum)
		}
		if fd.byte()%4 == 0 {
			meta.OpFlags, meta.Type, meta.Size = ondisk.OpDirectData, ondisk.ObjFile, uint64(fd.byte())
			c.Inline = make([]byte, meta.Size)
		}
		if !c.Delete {
			c.Inode = meta
		}
	case KindDirent:
		name := fmt.Sprint("n", fd.byte()%16)
		c.Key = ondisk.NameHash(name) + uint64(fd.byte()%2)
		if !c.Delete {
			c.Dirent = ondisk.Dirent{Key: c.Key, Inum: inum, Type: ondisk.ObjFile, Name: name}
		}
	case KindData:
		c.Key = fd.key() &^ (ondisk.LogicalBlock - 1)
		if c.Delete && fd.byte()%2 == 0 {
			c.To = c.Key + fd.key()&^(ondisk.LogicalBlock-1)
		}
		if !c.Delete {
			c.Block = m.blocks[fd.byte()%16]
		}
	}
	return c
}

// FuzzSettle brings arrays of any keys to their capacity: all leaves are
// there, in order, in tables that hold them and not too many.
func FuzzSettle(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, uint8(4))
	f.Fuzz(func(t *testing.T, in []byte, capacity uint8) {
		fd, keys := feed(in), make(map[uint64]bool)
		for len(fd) > 0 && len(keys) < 4000 {
			for range 1 + fd.byte()%64 {
				keys[fd.key()+uint64(len(keys)%5)] = true
			}
		}
		var elems []elem
		for k := range keys {
			elems = append(elems, elem{ref: ondisk.Blockref{Type: ondisk.TypeDirent, Key: k}})
		}
		slices.SortFunc(elems, func(a, b elem) int {
			if a.ref.Key < b.ref.Key {
				return -1
			}
			return 1
		})
		want := slices.Clone(elems)
		room := max(4, int(capacity))
		out, _ := settle(elems, room, 64)
		if len(out) > room {
			t.Fatalf("%d elements in room for %d", len(out), room)
		}
		var got []uint64
		var walk func(list []elem, lo, hi uint64)
		walk = func(list []elem, lo, hi uint64) {
			for i := range list {
				r := &list[i].ref
				if r.Key < lo || r.LastKey() > hi {
					t.Fatalf("%v outside of [%#x, %#x]", r, lo, hi)
				}
				if list[i].kids == nil {
					got = append(got, r.Key)
					continue
				}
				if len(list[i].kids) > tableMax {
					t.Fatalf("a table of %d", len(list[i].kids))
				}
				walk(list[i].kids, r.Key, r.LastKey())
			}
		}
		walk(out, 0, math.MaxUint64)
		if len(got) != len(want) || !slices.IsSorted(got) {
			t.Fatalf("%d keys of %d, sorted %v", len(got), len(want), slices.IsSorted(got))
		}
	})
}

// FuzzTreeReader walks trees whose blocks are any bytes without a code, which
// refer to each other as they like: it ends, and what it meets is in order.
func FuzzTreeReader(f *testing.F) {
	block := make([]byte, 4096)
	ref := ondisk.Blockref{Type: ondisk.TypeIndirect, KeyBits: 63, DataOff: ondisk.MakeDataOff(0, 12)}
	ref.SetMethods(ondisk.CheckDisabled, ondisk.CompNone)
	ref.Encode(block)
	f.Add(slices.Clone(block), uint8(0))
	for i := range uint64(32) {
		r := ref
		r.Key, r.KeyBits, r.DataOff = i<<58, 58, ondisk.MakeDataOff(i%3<<12, 12)
		r.Encode(block[i*ondisk.BlockrefSize:])
	}
	f.Add(slices.Concat(block, block, block), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, kind uint8) {
		m := &memBlocks{blocks: map[uint64][]byte{}, live: map[uint64]int{}}
		for at := 0; at < 64<<12; at += 4096 {
			block := make([]byte, 4096)
			if at < len(in) {
				copy(block, in[at:])
			}
			m.blocks[uint64(at)] = withoutCodes(block)
		}
		root := ondisk.Blockref{Type: ondisk.TypeIndirect, KeyBits: 64, DataOff: ondisk.MakeDataOff(0, 12)}
		root.SetMethods(ondisk.CheckDisabled, ondisk.CompNone)
		for _, cache := range []int64{0, 1 << 20} {
			r := treeReader{m, newTableCache(cache)}
			o := owner{7, treeKind(kind % 4)}
			next, leaves := uint64(0), 0
			reads := m.reads.Load()
			err := r.scan(bg, o, []ondisk.Blockref{root}, 0, math.MaxUint64, func(ref *ondisk.Blockref) (bool, error) {
				if leaves++; leaves > 1 && ref.Key < next {
					t.Fatalf("%v after %#x", ref, next-1)
				}
				next = ref.LastKey()
				return true, nil
			})
			if err != nil && !errors.Is(err, ondisk.ErrCorrupt) {
				t.Fatal(err)
			}
			if n := m.reads.Load() - reads; n > 64*int64(len(in)/ondisk.BlockrefSize+64+64) {
				t.Fatalf("%d reads of %d blocks", n, len(m.blocks))
			}
			_, _ = r.find(bg, o, []ondisk.Blockref{root}, binary.LittleEndian.Uint64(append(slices.Clone(in), make([]byte, 8)...)))
		}
	})
}

// withoutCodes makes the references in a block ones that are believed, to
// blocks that the input may have.
func withoutCodes(in []byte) []byte {
	b := slices.Clone(in)
	for at := 0; at < len(b); at += ondisk.BlockrefSize {
		e := b[at : at+ondisk.BlockrefSize]
		if ondisk.BlockType(e[0]) == ondisk.TypeIndirect {
			e[1] = byte(ondisk.CheckDisabled) << 4
			off := binary.LittleEndian.Uint64(e[0x20:]) >> 12 % 64 << 12
			binary.LittleEndian.PutUint64(e[0x20:], ondisk.MakeDataOff(off, 12))
		}
	}
	return b
}
