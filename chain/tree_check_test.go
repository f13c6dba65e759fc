package chain

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// checker walks a tree block by block, trusting nothing of the code under
// test but the decoders.
type checker struct {
	p     *memPFS
	found model
	seen  map[uint64]ondisk.Blockref // by address: what was reached
	depth int                        // deepest array below an inode
}

// check compares p with its model and its blocks with the rules of the format.
func (p *memPFS) check(t testing.TB) *checker {
	t.Helper()
	c := &checker{p: p, found: make(model), seen: make(map[uint64]ondisk.Blockref)}
	if err := c.inode(&p.ref, &p.ref, true); err != nil {
		t.Fatalf("check: %v", err)
	}
	for _, err := range p.errs {
		t.Fatal(err)
	}
	c.compare(t, p.model)
	for off := range p.live {
		if _, ok := c.seen[off]; !ok && !p.keep && !p.left[off] {
			t.Fatalf("%d blocks reachable, %d in use: %#x is lost", len(c.seen), len(p.live), off)
		}
	}
	return c
}

func (c *checker) compare(t testing.TB, want model) {
	t.Helper()
	for k, v := range want {
		got, ok := c.found[k]
		if k.inum == ondisk.InumRoot && k.kind == KindInode {
			got.modify = v.modify // a root's is that of the whole PFS
		}
		if !ok || got != v {
			t.Fatalf("inode %d, %v %#x: have %v %q at %v, want %q at %v", k.inum, k.kind, k.key, ok, got.text, got.modify, v.text, v.modify)
		}
	}
	for k := range c.found {
		if _, ok := want[k]; !ok && k != (leafKey{inum: ondisk.InumRoot}) {
			t.Fatalf("inode %d, %v %#x is there and should not be", k.inum, k.kind, k.key)
		}
	}
}

func (c *checker) block(ref *ondisk.Blockref) ([]byte, error) {
	if other, ok := c.seen[ref.Off()]; ok && (ref.Type != ondisk.TypeData || !sameBlock(ref, &other)) {
		return nil, fmt.Errorf("%v reached twice", ref)
	}
	c.seen[ref.Off()] = *ref
	if _, ok := c.p.live[ref.Off()]; !ok && !c.p.keep {
		return nil, fmt.Errorf("%v was dropped", ref)
	}
	return c.p.blocks[ref.Off()], ref.VerifyCheck(c.p.blocks[ref.Off()])
}

// sameBlock reports whether two references are to one data block.
func sameBlock(a, b *ondisk.Blockref) bool {
	return a.Type == b.Type && a.DataOff == b.DataOff && a.Methods == b.Methods && a.Check == b.Check
}

func (c *checker) inode(ref, parent *ondisk.Blockref, root bool) error {
	block, err := c.block(ref)
	if err != nil {
		return err
	}
	ino, err := ondisk.DecodeInode(block)
	if err != nil {
		return err
	}
	if !root && (ino.Meta.Inum != ref.Key || ref.Flags != 0) || root && (ref.Flags != 1 || ino.Meta.OpFlags&2 == 0) {
		return fmt.Errorf("%v: number %d, flags %d", ref, ino.Meta.Inum, ref.Flags)
	}
	if ref.CheckMethod() == ondisk.CheckNone {
		return fmt.Errorf("%v without a check code", ref)
	}
	var inline []byte
	if ino.Meta.DirectData() {
		inline = ino.Inline[:]
	}
	c.found[leafKey{inum: ino.Meta.Inum}] = leafVal{inodeText(&ino.Meta, inline), ref.ModifyTid}
	return c.array(ref, ino.Blockset, &ino.Meta, root, 0)
}

// array checks the elements below ref, and what ref says about them.
func (c *checker) array(ref *ondisk.Blockref, refs []ondisk.Blockref, meta *ondisk.InodeMeta, root bool, depth int) error {
	c.depth = max(c.depth, depth)
	var data, inodes, leaves uint64
	for i := range refs {
		r := &refs[i]
		if r.MirrorTid > ref.MirrorTid || r.ModifyTid > ref.ModifyTid {
			return fmt.Errorf("%v at %v/%v below %v at %v/%v", r, r.MirrorTid, r.ModifyTid, ref, ref.MirrorTid, ref.ModifyTid)
		}
		if ref.Type == ondisk.TypeIndirect && (r.Key < ref.Key || r.LastKey() > ref.LastKey() || r.KeyBits >= ref.KeyBits) {
			return fmt.Errorf("%v does not lie in %v", r, ref)
		}
		if i > 0 && refs[i-1].LastKey() >= r.Key {
			return fmt.Errorf("%v overlaps %v", r, &refs[i-1])
		}
		if err := c.element(r, ref, meta, root, depth); err != nil {
			return err
		}
		data += uint64(r.Size())
		switch r.Type {
		case ondisk.TypeIndirect:
			leaves += uint64(r.LeafCount)
			data, inodes = data+r.DataCount(), inodes+r.InodeCount()
		case ondisk.TypeInode:
			leaves++
			data, inodes = data+r.DataCount(), inodes+r.InodeCount()+1
		default:
			leaves++
		}
	}
	if ref.DataCount() != data || ref.InodeCount() != inodes || uint64(ref.LeafCount) != min(leaves, 65535) {
		return fmt.Errorf("%v counts %d/%d/%d, has %d/%d/%d", ref, ref.DataCount(), ref.InodeCount(), ref.LeafCount, data, inodes, leaves)
	}
	return nil
}

func (c *checker) element(r, parent *ondisk.Blockref, meta *ondisk.InodeMeta, root bool, depth int) error {
	switch r.Type {
	case ondisk.TypeIndirect:
		if r.KeyBits > 63 || r.CompMethod() != 0 || r.CheckMethod() != parent.CheckMethod() {
			return fmt.Errorf("%v: methods %#x below %#x", r, r.Methods, parent.Methods)
		}
		block, err := c.block(r)
		if err != nil {
			return err
		}
		refs, err := ondisk.DecodeBlockrefs(block)
		if err != nil {
			return err
		}
		if len(refs) < 2 || len(refs) <= tableSmall && len(block) != 4096 || len(refs) > tableSmall && len(block) != 16384 {
			return fmt.Errorf("%v: %d elements in %d bytes", r, len(refs), len(block))
		}
		return c.array(r, refs, meta, root, depth+1)
	case ondisk.TypeInode:
		if !root || r.Key >= ondisk.DirBit {
			return fmt.Errorf("%v in inode %d", r, meta.Inum)
		}
		return c.inode(r, parent, false)
	case ondisk.TypeDirent:
		return c.dirent(r, meta)
	}
	if meta.Type == ondisk.ObjDir {
		return fmt.Errorf("%v in a directory", r)
	}
	if _, err := c.block(r); err != nil {
		return err
	}
	c.found[leafKey{meta.Inum, KindData, r.Key}] = leafVal{fmt.Sprintf("%v %x", r.CompMethod(), r.Check[:8]), r.ModifyTid}
	return nil
}

func (c *checker) dirent(r *ondisk.Blockref, meta *ondisk.InodeMeta) (err error) {
	var block []byte
	if r.DataOff != 0 {
		if block, err = c.block(r); err != nil {
			return err
		}
	}
	d, err := ondisk.DecodeDirent(r, block)
	if err != nil {
		return err
	}
	if meta.Type != ondisk.ObjDir {
		return fmt.Errorf("%v in a %v", r, meta.Type)
	}
	c.found[leafKey{meta.Inum, KindDirent, r.Key}] = leafVal{fmt.Sprintf("%d %v %s", d.Inum, d.Type, d.Name), r.ModifyTid}
	return nil
}

// A maker makes random batches that fit a PFS.
type maker struct {
	rnd    *rand.Rand
	blocks []*ondisk.EncodedBlock
	inums  []uint64 // living, 1 included
	dirs   map[uint64]bool
	names  int
	next   uint64
}

func newMaker(t testing.TB, seed uint64) *maker {
	m := &maker{rnd: rand.New(rand.NewPCG(seed, 1)), inums: []uint64{1}, dirs: map[uint64]bool{1: true}, next: 1024}
	for range 16 {
		m.blocks = append(m.blocks, encode(t, m.rnd, 1+m.rnd.IntN(9000)))
	}
	return m
}

func (m *maker) clone(seed uint64) *maker {
	c := *m
	c.rnd = rand.New(rand.NewPCG(seed, 2))
	c.inums = slices.Clone(m.inums)
	c.dirs = make(map[uint64]bool)
	for k, v := range m.dirs {
		c.dirs[k] = v
	}
	return &c
}

func (m *maker) pick() uint64 { return m.inums[m.rnd.IntN(len(m.inums))] }

func (m *maker) pickName() string {
	name := fmt.Sprintf("n%d", m.rnd.IntN(200+m.names))
	if m.rnd.IntN(10) == 0 {
		name += "-with-a-name-that-does-not-fit-into-a-blockref-and-so-needs-a-block"
	}
	return name
}

// batch makes about n changes. Deleted numbers are not used again by m, but by a clone.
func (m *maker) batch(tid ondisk.Tid, n int) *Batch {
	b := &Batch{T: tid}
	set := make(map[leafKey]Change)
	put := func(c Change) { set[leafKey{c.Inum, c.Kind, c.Key}] = c }
	for range n {
		switch inum := m.pick(); {
		case m.rnd.IntN(8) == 0:
			m.create(put)
		case m.rnd.IntN(25) == 0 && inum != 1:
			m.inums = slices.DeleteFunc(m.inums, func(i uint64) bool { return i == inum })
			put(Change{Inum: inum, Kind: KindInode, Delete: true})
		case m.rnd.IntN(12) == 0:
			meta := fileMeta(inum)
			if m.dirs[inum] {
				meta = dirMeta(inum)
			}
			meta.Mtime = m.rnd.Uint64() >> 20
			if c, ok := set[leafKey{inum: inum}]; !ok || !c.Delete {
				put(Change{Inum: inum, Kind: KindInode, Inode: meta})
			}
		case m.dirs[inum]:
			name := m.pickName()
			c := direntChange(inum, 1024, name)
			c.Delete = m.rnd.IntN(3) == 0
			put(c)
		default:
			m.data(inum, put)
		}
	}
	for k, c := range set {
		// Below a deleted inode only deletions are allowed.
		if d, ok := set[leafKey{inum: k.inum}]; ok && d.Delete && !c.Delete {
			continue
		}
		b.Changes = append(b.Changes, c)
	}
	b.Sort()
	return b
}

func (m *maker) create(put func(Change)) {
	inum := m.next
	m.next += 1 + uint64(m.rnd.IntN(3)/2*m.rnd.IntN(100))
	meta := fileMeta(inum)
	c := Change{Inum: inum, Kind: KindInode, Inode: meta}
	switch m.rnd.IntN(5) {
	case 0:
		meta.Type = ondisk.ObjDir
		m.dirs[inum] = true
	case 1:
		meta.OpFlags |= ondisk.OpDirectData
		c.Inline = []byte(fmt.Sprint("inline ", inum))
		meta.Size = uint64(len(c.Inline))
		put(c)
		return // not in inums: data would not fit it
	}
	m.inums = append(m.inums, inum)
	put(c)
}

func (m *maker) data(inum uint64, put func(Change)) {
	key := uint64(m.rnd.IntN(400))
	if m.rnd.IntN(4) == 0 {
		key <<= m.rnd.IntN(30)
	}
	c := Change{Inum: inum, Kind: KindData, Key: key * ondisk.LogicalBlock}
	switch m.rnd.IntN(8) {
	case 0:
		c.Delete = true
	case 1:
		c.Delete = true
		c.To = c.Key + uint64(m.rnd.IntN(100*ondisk.LogicalBlock)) + 1
	default:
		c.Block = m.blocks[m.rnd.IntN(len(m.blocks))]
	}
	put(c)
}

func TestTreeRandom(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			p, m := newMemPFS(t, newMemBlocks(), "P"), newMaker(t, seed)
			depth := 0
			for i := range 60 {
				n := 1 + m.rnd.IntN(300)
				if i > 45 {
					n = 1 + m.rnd.IntN(5)
				}
				b := m.batch(ondisk.Tid(100+i), n)
				if err := p.apply(b); err != nil {
					t.Fatalf("seed %d, batch %d: %v", seed, i, err)
				}
				depth = max(depth, p.check(t).depth)
			}
			if depth < 2 {
				t.Fatalf("depth of %d only: nothing was tested", depth)
			}
			compareView(t, p)
			for _, inum := range m.inums {
				if inum != 1 {
					p.mustApply(t, &Batch{T: 1000, Changes: []Change{{Inum: inum, Kind: KindInode, Delete: true}}})
				}
			}
			p.check(t)
		})
	}
}

// compareView reads all through a View and compares it with the model.
func compareView(t *testing.T, p *memPFS) {
	t.Helper()
	ctx, v := context.Background(), p.view(t)
	found := make(map[leafKey]bool)
	visit := func(inum uint64) {
		for k := range listView(t, ctx, v, inum) {
			found[k] = true
		}
	}
	visit(1)
	err := v.Inodes(ctx, 0, ^uint64(0), func(rec *InodeRec) bool {
		found[leafKey{inum: rec.Meta.Inum}] = true
		visit(rec.Meta.Inum)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for k := range p.model {
		if !found[k] && k.inum != 1 {
			t.Fatalf("view lacks inode %d, %v %#x", k.inum, k.kind, k.key)
		}
		delete(found, k)
	}
	if len(found) > 0 {
		t.Fatalf("view has %d leaves too many", len(found))
	}
}

func listView(t *testing.T, ctx context.Context, v *View, inum uint64) map[leafKey]bool {
	found := make(map[leafKey]bool)
	err := v.Dirents(ctx, inum, 0, ^uint64(0), func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
		found[leafKey{inum, KindDirent, d.Key}] = true
		got, ok, err := v.Lookup(ctx, inum, d.Name)
		if err != nil || !ok || got != d {
			t.Fatalf("lookup of %q in %d: %v %v %v", d.Name, inum, got, ok, err)
		}
		return true
	})
	if err == nil {
		err = v.DataRefs(ctx, inum, 0, ^uint64(0), func(r *ondisk.Blockref) bool {
			found[leafKey{inum, KindData, r.Key}] = true
			return true
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return found
}
