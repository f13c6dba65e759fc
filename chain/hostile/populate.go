package hostile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Shapes of volumes of our own.
const (
	Kinds     = "kinds"     // every kind of file, names, attributes, compressed blocks
	Deep      = "deep"      // tables below tables
	Snapshots = "snapshots" // PFSs that share blocks
)

// Populate fills the empty PFS label of a volume, with tids of epoch 1.
func Populate(ctx context.Context, v *chain.Volume, label, shape string) error {
	b := &builder{ctx: ctx, v: v, label: label, inum: ondisk.InumFirst, rnd: rand.New(rand.NewPCG(3, 3))}
	switch shape {
	case Kinds:
		b.kinds()
	case Deep:
		b.deep()
	case Snapshots:
		b.kinds()
		b.commit()
		b.snapshot("SNAP1", chain.SnapSpec{})
		b.change()
		b.commit()
		b.snapshot("SNAP2", chain.SnapSpec{})
		b.change()
		b.commit()
		b.snapshot(".anvilfs-shadow-x", chain.SnapSpec{Shadow: true})
	default:
		return fmt.Errorf("no shape %q", shape)
	}
	b.commit()
	return b.err
}

// A builder makes files. The first error ends it.
type builder struct {
	ctx     context.Context
	v       *chain.Volume
	label   string
	rnd     *rand.Rand
	inum    uint64 // of the last inode
	tids    uint32
	changes []chain.Change
	files   []uint64
	err     error
}

func (b *builder) tid() ondisk.Tid {
	b.tids++
	return ondisk.MakeTid(1, b.tids)
}

func (b *builder) txn(fn func(t *chain.Txn) error) {
	if b.err != nil {
		return
	}
	t, err := b.v.Begin(b.ctx)
	if err == nil {
		if err = fn(t); err == nil {
			err = t.Commit(b.ctx)
		}
		t.Abort()
	}
	b.err = err
}

func (b *builder) commit() {
	batch := &chain.Batch{T: b.tid(), Changes: b.changes}
	batch.Sort()
	b.changes = nil
	b.txn(func(t *chain.Txn) error { return t.Apply(b.ctx, b.label, batch) })
}

func (b *builder) snapshot(label string, spec chain.SnapSpec) {
	b.txn(func(t *chain.Txn) error { return t.Snapshot(b.ctx, b.label, label, spec) })
}

// make adds an inode with a name in a directory, and returns its number.
func (b *builder) make(dir uint64, name string, typ ondisk.ObjType, edit func(m *ondisk.InodeMeta), inline string) uint64 {
	b.inum++
	m := ondisk.NewInodeMeta(b.inum, typ)
	m.Mode, m.Nlinks, m.Iparent, m.Mtime = 0o644, 1, dir, 1e15
	m.CompAlgo, m.CheckAlgo = uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64)
	if inline != "" {
		m.OpFlags, m.Size = ondisk.OpDirectData, uint64(len(inline))
	}
	if edit != nil {
		edit(&m)
	}
	b.changes = append(b.changes, chain.Change{Inum: b.inum, Kind: chain.KindInode, Inode: &m, Inline: []byte(inline)})
	b.link(dir, name, b.inum, typ)
	if typ == ondisk.ObjFile {
		b.files = append(b.files, b.inum)
	}
	return b.inum
}

func (b *builder) link(dir uint64, name string, inum uint64, typ ondisk.ObjType) {
	if name == "" {
		return
	}
	key := ondisk.NameHash(name)
	b.changes = append(b.changes, chain.Change{Inum: dir, Kind: chain.KindDirent, Key: key,
		Dirent: ondisk.Dirent{Key: key, Inum: inum, Type: typ, Name: name}})
}

// block adds n bytes of content; text compresses.
func (b *builder) block(inum, at uint64, n int, text bool, comp ondisk.CompMethod) {
	p := make([]byte, n)
	for i := range p {
		if p[i] = byte(b.rnd.Uint32()); text {
			p[i] = "anvil and hammer, "[i%18]
		}
	}
	e, _, err := ondisk.EncodeData(p, uint8(comp), uint8(ondisk.CheckXXHash64))
	if err != nil {
		b.err = err
		return
	}
	b.changes = append(b.changes, chain.Change{Inum: inum, Kind: chain.KindData, Key: at * ondisk.LogicalBlock, Block: e})
}

func sized(blocks uint64) func(*ondisk.InodeMeta) {
	return func(m *ondisk.InodeMeta) { m.Size = blocks * ondisk.LogicalBlock }
}

// kinds makes one file or more of every kind.
func (b *builder) kinds() {
	root := uint64(ondisk.InumRoot)
	dir := b.make(root, "dir", ondisk.ObjDir, nil, "")
	sub := b.make(dir, "sub", ondisk.ObjDir, nil, "")
	b.make(sub, "empty", ondisk.ObjDir, nil, "")
	b.make(root, "inline", ondisk.ObjFile, nil, "some content")
	b.make(root, "link", ondisk.ObjSymlink, nil, "dir/sub")
	b.make(dir, "fifo", ondisk.ObjFIFO, nil, "")
	b.make(dir, "socket", ondisk.ObjSocket, nil, "")
	b.make(dir, "null", ondisk.ObjChar, func(m *ondisk.InodeMeta) { m.RMajor, m.RMinor = 1, 3 }, "")
	b.make(dir, strings.Repeat("long-", 30)+"name", ondisk.ObjFile, nil, "long")
	hard := b.make(dir, "hard", ondisk.ObjFile, func(m *ondisk.InodeMeta) { m.Nlinks = 3 }, "three names")
	b.link(sub, "hard too", hard, ondisk.ObjFile)
	b.link(root, "hard as well", hard, ondisk.ObjFile)
	for i, comp := range []ondisk.CompMethod{ondisk.CompNone, ondisk.CompLZ4, ondisk.CompZlib} {
		f := b.make(sub, fmt.Sprintf("data-%v", comp), ondisk.ObjFile, sized(7), "")
		for n := range uint64(7) {
			b.block(f, n, 900+int(n)*9000, n%2 == 0 || i > 0 && n < 5, comp)
		}
	}
	sparse := b.make(root, "sparse", ondisk.ObjFile, sized(1<<30), "")
	for n := range 8 {
		b.block(sparse, 1<<(n*4), 1000, true, ondisk.CompLZ4)
	}
	for n := range 40 {
		b.make(sub, fmt.Sprintf("f%d", n), ondisk.ObjFile, nil, fmt.Sprint("number ", n))
	}
	b.attributes(hard, 100)
	b.attributes(dir, 3000)
	b.attributes(root, 10)
}

// attributes adds the inode with the extended attributes of another.
func (b *builder) attributes(of uint64, n int) {
	content, err := ondisk.EncodeXattrs([]ondisk.Xattr{
		{Name: "user.first", Value: []byte(strings.Repeat("v", n))}, {Name: "user.second", Value: []byte("w")},
	})
	if err != nil {
		b.err = err
		return
	}
	inum := ondisk.AttrBit | of
	m := ondisk.NewInodeMeta(inum, ondisk.ObjFile)
	m.Mode, m.Nlinks, m.Iparent, m.Size = 0o600, 1, of, uint64(len(content))
	c := chain.Change{Inum: inum, Kind: chain.KindInode, Inode: &m}
	if len(content) <= ondisk.InlineMax {
		m.OpFlags, c.Inline = ondisk.OpDirectData, content
	} else {
		e, _, err := ondisk.EncodeData(content, uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64))
		if err != nil {
			b.err = err
			return
		}
		b.changes = append(b.changes, chain.Change{Inum: inum, Kind: chain.KindData, Block: e})
	}
	b.changes = append(b.changes, c)
}

// deep makes trees of several levels.
func (b *builder) deep() {
	dir := b.make(ondisk.InumRoot, "many", ondisk.ObjDir, nil, "")
	for n := range 330 {
		b.make(dir, fmt.Sprintf("name%d", n), ondisk.ObjFile, nil, "x")
		if n%110 == 0 {
			b.inum += 1 << (8 + n/20) // numbers far apart
		}
	}
	f := b.make(ondisk.InumRoot, "wide", ondisk.ObjFile, func(m *ondisk.InodeMeta) { m.Size = 1 << 50 }, "")
	for n := range uint64(400) {
		b.block(f, n*n*n*(1+n%3), 700, true, ondisk.CompLZ4)
	}
}

// change rewrites some of what is there.
func (b *builder) change() {
	for i, f := range b.files {
		if i%9 == 0 {
			m := ondisk.NewInodeMeta(f, ondisk.ObjFile)
			m.Mode, m.Nlinks, m.Size, m.Mtime = 0o640, 1, ondisk.LogicalBlock, b.rnd.Uint64()>>20
			b.changes = append(b.changes, chain.Change{Inum: f, Kind: chain.KindInode, Inode: &m})
			b.block(f, 0, 2000, true, ondisk.CompLZ4)
		}
	}
}
