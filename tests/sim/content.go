package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	files      = 40      // names that a world plays with
	fileBlocks = 4       // of those that have blocks
	firstFile  = 1 << 12 // inode number
)

// A file is what a reader must find, all of it.
type file struct {
	born   uint32 // 0 = there is none; else part of the inode's number
	name   uint8  // which of its names
	inline uint32 // content of even files
	blocks [fileBlocks]uint8
}

// A content is the whole filesystem at one position, and what stands beside it.
type content struct {
	f      [files]file
	snaps  []snap // oldest first, as in the list; never changed in place
	clones []clone
}

func (f *file) inum(i int) uint64 { return firstFile + uint64(f.born)*files + uint64(i) }

func (f *file) text() string { return fmt.Sprintf("inline %d", f.inline) }

func fileName(i int, name uint8) string { return fmt.Sprintf("file-%d-%d", i, name) }

// pool holds the blocks that files are made of; 0 stands for a hole.
var pool = sync.OnceValue(func() []*ondisk.EncodedBlock {
	rnd := rand.New(rand.NewPCG(5, 5))
	blocks := []*ondisk.EncodedBlock{nil}
	for _, n := range []int{300, 900, 2000, 5000, 15000, 60000} {
		b := make([]byte, ondisk.LogicalBlock) // compresses to about n
		for i := range n {
			b[i] = byte(rnd.Uint32())
		}
		e, _, err := ondisk.EncodeData(b, uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64))
		if err != nil {
			panic(err)
		}
		blocks = append(blocks, e)
	}
	return blocks
})

// operate makes one change of the content; heavy ones bring large blocks.
func (c *content) operate(rng *rand.Rand, old *content, heavy bool) {
	i := rng.IntN(files)
	f := &c.f[i]
	switch op := rng.IntN(10); {
	case f.born == 0 && old.f[i].born != 0: // deleted by this txg
	case f.born == 0:
		*f = file{born: 1 + uint32(rng.IntN(1<<20)), name: uint8(rng.IntN(3)), inline: rng.Uint32()}
		if i%2 == 1 {
			f.blocks[0] = uint8(1 + rng.IntN(len(pool())-1))
		}
		for k := range f.blocks {
			if i%2 == 1 && heavy {
				f.blocks[k] = uint8(len(pool()) - 1)
			}
		}
	case op < 2 && old.f[i].born != 0:
		*f = file{}
	case op < 4:
		f.name = uint8(rng.IntN(3))
	case i%2 == 0:
		f.inline = rng.Uint32()
	default:
		k, block := rng.IntN(fileBlocks), uint8(rng.IntN(len(pool())))
		if heavy && block > 1 {
			block = uint8(len(pool()) - 1)
		}
		f.blocks[k] = block
	}
}

// touch changes one of the small files there are.
func (c *content) touch(rng *rand.Rand, old *content) {
	first := rng.IntN(files)
	for i := range c.f {
		if k := (first + i) % files; c.f[k].born != 0 && old.f[k].born != 0 && k%2 == 0 {
			c.f[k].inline = rng.Uint32()
			return
		}
	}
}

// batch is the txg that makes c of old.
func (c *content) batch(T ondisk.Tid, old *content) *chain.Batch {
	b := &chain.Batch{T: T, Log: T.Seq()%4 != 0}
	add := func(ch chain.Change) { b.Changes = append(b.Changes, ch) }
	for i := range c.f {
		was, is := &old.f[i], &c.f[i]
		if *was == *is {
			continue
		}
		if was.born != 0 && (is.born == 0 || is.name != was.name) {
			add(chain.Change{Inum: ondisk.InumRoot, Kind: chain.KindDirent, Key: ondisk.NameHash(fileName(i, was.name)), Delete: true})
		}
		if is.born == 0 {
			add(chain.Change{Inum: was.inum(i), Kind: chain.KindInode, Delete: true})
			continue
		}
		if was.born == 0 || is.name != was.name {
			name := fileName(i, is.name)
			key := ondisk.NameHash(name)
			add(chain.Change{Inum: ondisk.InumRoot, Kind: chain.KindDirent, Key: key,
				Dirent: ondisk.Dirent{Key: key, Inum: is.inum(i), Type: ondisk.ObjFile, Name: name}})
		}
		is.changes(i, was, add, func(block uint8) *chain.Share { return old.place(T, block) })
	}
	c.list(old, add)
	b.Sort()
	return b
}

// place is where a block is already, if it is to be shared: half the time.
func (c *content) place(T ondisk.Tid, block uint8) *chain.Share {
	for i := 1; i < files && (uint64(T)+uint64(block))%2 == 0; i += 2 {
		for k, b := range c.f[i].blocks {
			if c.f[i].born == 0 || b != block {
				continue
			}
			ref := ondisk.Blockref{Key: uint64(k) * ondisk.LogicalBlock, DataOff: ondisk.MakeDataOff(0, pool()[block].Radix)}
			pool()[block].SetRef(&ref)
			if s, ok := chain.ShareOf(c.f[i].inum(i), &ref); ok {
				return s
			}
		}
	}
	return nil
}

// changes are those of inode and blocks; place says where one is to be shared from.
func (f *file) changes(i int, was *file, add func(chain.Change), place func(block uint8) *chain.Share) {
	meta := ondisk.NewInodeMeta(f.inum(i), ondisk.ObjFile)
	meta.Nlinks, meta.Iparent, meta.Mode = 1, ondisk.InumRoot, 0o600
	meta.CompAlgo, meta.CheckAlgo = uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64)
	ch := chain.Change{Inum: f.inum(i), Kind: chain.KindInode, Inode: &meta}
	if i%2 == 0 {
		meta.OpFlags, meta.Size = ondisk.OpDirectData, uint64(len(f.text()))
		ch.Inline = []byte(f.text())
		add(ch)
		return
	}
	meta.Size = fileBlocks * ondisk.LogicalBlock
	add(ch)
	for k, now := range f.blocks {
		key := uint64(k) * ondisk.LogicalBlock
		switch {
		case now == was.blocks[k]:
		case now == 0:
			add(chain.Change{Inum: f.inum(i), Kind: chain.KindData, Key: key, To: key + ondisk.LogicalBlock, Delete: true})
		default:
			ch := chain.Change{Inum: f.inum(i), Kind: chain.KindData, Key: key, Share: place(now)}
			if ch.Share == nil {
				ch.Block = pool()[now]
			}
			add(ch)
		}
	}
}

// size is about what a batch holds in memory.
func size(b *chain.Batch) int64 {
	n := int64(0)
	for i := range b.Changes {
		n += 200
		if blk := b.Changes[i].Block; blk != nil {
			n += int64(len(blk.Bytes))
		}
	}
	return n
}

// A mismatch is a view that is not what it must be. Damage that a check code
// found is another error.
type mismatch struct{ text string }

func (m *mismatch) Error() string { return m.text }

func differs(format string, args ...any) error { return &mismatch{fmt.Sprintf(format, args...)} }

// A rotten is a leaf that cannot be read.
type rotten struct {
	leaf cluster.Leaf
	err  error
}

func (r *rotten) Error() string { return r.err.Error() }

// check compares a whole view, block by block.
func (c *content) check(ctx context.Context, v *chain.View) error {
	want := map[string]int{}
	for i := range c.f {
		if c.f[i].born != 0 {
			want[fileName(i, c.f[i].name)] = i
		}
	}
	var wrong error
	err := v.Dirents(ctx, ondisk.InumRoot, 0, ^uint64(0), func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
		i, ok := want[d.Name]
		if !ok || c.f[i].inum(i) != d.Inum {
			wrong = differs("entry %q of inode %d", d.Name, d.Inum)
			return false
		}
		delete(want, d.Name)
		return true
	})
	if err != nil {
		return err
	}
	if wrong != nil {
		return wrong
	}
	if len(want) > 0 {
		return differs("%d entries are missing: %v", len(want), want)
	}
	inodes := 0
	err = v.Inodes(ctx, firstFile, 1<<40, func(*chain.InodeRec) bool { inodes++; return true })
	if err != nil {
		return err
	}
	for i := range c.f {
		if c.f[i].born != 0 {
			inodes--
			if err := c.f[i].check(ctx, v, i); err != nil {
				return err
			}
		}
	}
	if inodes != 0 {
		return differs("%d inodes too many", inodes)
	}
	return c.checkList(ctx, v)
}

// check compares one file.
func (f *file) check(ctx context.Context, v *chain.View, i int) error {
	d, found, err := v.Lookup(ctx, ondisk.InumRoot, fileName(i, f.name))
	if err != nil {
		return err
	}
	if f.born == 0 {
		if found {
			return differs("file %d should not be there", i)
		}
		return nil
	}
	in, ok, err := v.Inode(ctx, f.inum(i))
	switch {
	case err != nil:
		return err
	case !found || d.Inum != f.inum(i) || !ok:
		return differs("file %d, inode %d: entry %v %+v, inode %v", i, f.inum(i), found, d, ok)
	case i%2 == 0:
		if got := string(in.Inline[:in.Meta.Size]); got != f.text() {
			return differs("file %d holds %q instead of %q", i, got, f.text())
		}
		return nil
	}
	have := f.blocks
	var bad error
	err = v.DataRefs(ctx, f.inum(i), 0, fileBlocks*ondisk.LogicalBlock, func(r *ondisk.Blockref) bool {
		k := r.Key / ondisk.LogicalBlock
		blk, err := v.ReadBlock(ctx, r)
		if err != nil {
			bad = &rotten{cluster.Leaf{Inum: f.inum(i), Key: r.Key, Kind: r.Type}, err}
			return false
		}
		if want := pool()[have[k]]; want == nil || blk.Code != want.Code {
			bad = differs("file %d has another block at %d", i, k)
			return false
		}
		have[k] = 0
		return true
	})
	if err == nil {
		err = bad
	}
	if err == nil && have != [fileBlocks]uint8{} {
		err = differs("file %d lacks blocks: %v", i, have)
	}
	return err
}
