package chain

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// memBlocks is a treeStore and blockSource in memory. It never reuses an
// address, and knows which blocks should still be reachable.
type memBlocks struct {
	blocks map[uint64][]byte
	live   map[uint64]int  // by address: size
	left   map[uint64]bool // left to a bulkfree: maybe not reachable
	next   uint64
	reads  atomic.Int64
	keep   bool // dropping is fine for blocks still in use elsewhere
	errs   []error
}

func newMemBlocks() *memBlocks {
	return &memBlocks{blocks: make(map[uint64][]byte), live: make(map[uint64]int), left: make(map[uint64]bool), next: 64 << 20}
}

func (m *memBlocks) place(block []byte) uint64 {
	size := uint64(len(block))
	switch {
	case size >= ondisk.ChunkSize:
		m.next = (m.next + size - 1) &^ (size - 1)
	case m.next%ondisk.ChunkSize+size > ondisk.ChunkSize:
		m.next = (m.next + ondisk.ChunkSize) &^ (ondisk.ChunkSize - 1)
	}
	off := m.next
	m.next += size
	m.blocks[off] = block
	m.live[off] = len(block)
	return ondisk.MakeDataOff(off, ondisk.DataRadix(len(block)))
}

func (m *memBlocks) writeBlock(ref *ondisk.Blockref, block []byte, _ uint64) error {
	ref.DataOff = m.place(block)
	ref.SetCheck(block)
	return nil
}

func (m *memBlocks) writeEncoded(ref *ondisk.Blockref, b *ondisk.EncodedBlock) error {
	ref.DataOff = m.place(b.Bytes)
	b.SetRef(ref)
	return nil
}

func (m *memBlocks) dropBlock(ref *ondisk.Blockref) {
	if _, ok := m.live[ref.Off()]; !ok && !m.keep {
		m.errs = append(m.errs, fmt.Errorf("%v dropped, but not in use", ref))
	}
	delete(m.live, ref.Off())
}

func (m *memBlocks) snapshotRoot(context.Context, string, ondisk.UUID) (ref ondisk.Blockref, ok bool, err error) {
	return ref, false, nil
}

func (m *memBlocks) leaveBlock(ref *ondisk.Blockref) { m.left[ref.Off()] = true }

func (m *memBlocks) shareBlock(*ondisk.Blockref) {}

func (m *memBlocks) readRaw(_ context.Context, ref *ondisk.Blockref) ([]byte, error) {
	m.reads.Add(1)
	block, ok := m.blocks[ref.Off()]
	if !ok {
		return nil, errors.New("read error")
	}
	block = slices.Clone(block)
	return block, ref.VerifyCheck(block)
}

func (m *memBlocks) readMany(ctx context.Context, refs []ondisk.Blockref, fn func(i int, stored []byte) error) error {
	for i := range refs {
		block, ok := m.blocks[refs[i].Off()]
		if !ok {
			return errors.New("read error")
		}
		if err := refs[i].VerifyCheck(block); err != nil {
			return err
		}
		if err := fn(i, block); err != nil {
			return err
		}
	}
	return nil
}

// memPFS is a PFS in memory with a model of its content.
type memPFS struct {
	*memBlocks
	cache *tableCache
	ref   ondisk.Blockref
	model model
}

// A leafKey names a leaf; inode records have kind and key 0.
type leafKey struct {
	inum uint64
	kind Kind
	key  uint64
}

// A model is what a PFS should hold: for each leaf its content as text, and
// its modify_tid.
type model map[leafKey]leafVal

type leafVal struct {
	text   string
	modify ondisk.Tid
}

func newMemPFS(t testing.TB, blocks *memBlocks, label string) *memPFS {
	t.Helper()
	meta := ondisk.NewInodeMeta(ondisk.InumRoot, ondisk.ObjDir)
	meta.OpFlags, meta.PFSType, meta.CheckAlgo = ondisk.OpPFSRoot, ondisk.PFSMaster, uint8(ondisk.CheckXXHash64)
	meta.Filename, meta.NameLen, meta.NameKey = label, uint16(len(label)), ondisk.NameHash(label)
	meta.PFSFsid, meta.PFSInum = ondisk.NewUUID(), 1023
	p := &memPFS{memBlocks: blocks, cache: newTableCache(64 << 20), model: make(model)}
	p.ref = ondisk.Blockref{Type: ondisk.TypeInode, Key: meta.NameKey, Flags: ondisk.FlagPFSRoot, MirrorTid: 16}
	p.ref.SetMethods(ondisk.CheckXXHash64, ondisk.CompNone)
	block := make([]byte, ondisk.InodeSize)
	(&ondisk.Inode{Meta: meta}).Encode(block)
	if err := blocks.writeBlock(&p.ref, block, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

// clone shares the blocks; dropping is not checked from then on.
func (p *memPFS) clone() *memPFS {
	p.keep = true
	c := *p
	c.model = maps.Clone(p.model)
	return &c
}

func (p *memPFS) apply(b *Batch) error {
	ref, err := applyTree(context.Background(), p, p.cache, p, &p.ref, b)
	if err != nil {
		return err
	}
	if ref.MirrorTid != b.T || ref.ModifyTid < b.T {
		return fmt.Errorf("root at %v/%v after a batch of %v", ref.MirrorTid, ref.ModifyTid, b.T)
	}
	p.ref = ref
	p.model.apply(b)
	return nil
}

func (p *memPFS) mustApply(t testing.TB, b *Batch) {
	t.Helper()
	b.Sort()
	if err := p.apply(b); err != nil {
		t.Fatal(err)
	}
}

func (p *memPFS) view(t testing.TB) *View {
	t.Helper()
	v, err := newView(context.Background(), p, p.cache, p.ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// apply is the obvious way to do what applyTree does.
func (m model) apply(b *Batch) {
	shared := make(map[*Change]string)
	for i := range b.Changes {
		if c := &b.Changes[i]; c.Share != nil {
			if shared[c] = m[leafKey{c.Share.Inum, KindData, c.Share.Key}].text; shared[c] != c.Share.text() {
				panic(fmt.Sprintf("inode %d has no such block at %#x", c.Share.Inum, c.Share.Key))
			}
		}
	}
	for i := range b.Changes {
		c := &b.Changes[i]
		if c.Kind == KindData && c.Delete {
			for k := range m {
				if k.inum == c.Inum && k.kind == KindData && k.key >= c.Key && k.key <= c.last() {
					m.below(c.Inum, b.T)
					delete(m, k)
				}
			}
		}
	}
	for i := range b.Changes {
		c := &b.Changes[i]
		k := leafKey{c.Inum, c.Kind, c.Key}
		switch {
		case c.Kind == KindInode && c.Delete:
			maps.DeleteFunc(m, func(k leafKey, _ leafVal) bool { return k.inum == c.Inum })
		case c.Kind == KindInode:
			if c.Inode.DirectData() {
				maps.DeleteFunc(m, func(k leafKey, _ leafVal) bool { return k.inum == c.Inum && k.kind == KindData })
			}
			m[k] = leafVal{inodeText(c.Inode, c.Inline), c.modifyTid(b.T)}
		case c.Delete:
			if _, ok := m[k]; ok && c.Kind == KindDirent {
				m.below(c.Inum, b.T)
				delete(m, k)
			}
		case c.Kind == KindDirent:
			m[k] = leafVal{fmt.Sprintf("%d %v %s", c.Dirent.Inum, c.Dirent.Type, c.Dirent.Name), c.modifyTid(b.T)}
			m.below(c.Inum, c.modifyTid(b.T))
		case c.Share != nil:
			m[k] = leafVal{shared[c], c.modifyTid(b.T)}
			m.below(c.Inum, c.modifyTid(b.T))
		default:
			m[k] = leafVal{fmt.Sprintf("%v %x", c.Block.Comp, c.Block.Code[:8]), c.modifyTid(b.T)}
			m.below(c.Inum, c.modifyTid(b.T))
		}
	}
}

// below raises the inode's tid, as a change below it does.
func (m model) below(inum uint64, tid ondisk.Tid) {
	k := leafKey{inum: inum}
	if v, ok := m[k]; ok && inum != ondisk.InumRoot {
		v.modify = max(v.modify, tid)
		m[k] = v
	}
}

func inodeText(meta *ondisk.InodeMeta, inline []byte) string {
	text := fmt.Sprintf("%v mode %o size %d mtime %d", meta.Type, meta.Mode, meta.Size, meta.Mtime)
	if meta.DirectData() {
		text += fmt.Sprintf(" inline %q", append(slices.Clone(inline), make([]byte, ondisk.InlineMax-len(inline))...))
	}
	return text
}

// encode is a data block of n bytes drawn from rnd.
func encode(t testing.TB, rnd *rand.Rand, n int) *ondisk.EncodedBlock {
	t.Helper()
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	p[0] |= 1
	blk, _, err := ondisk.EncodeData(p, uint8(ondisk.CompNone), uint8(ondisk.CheckXXHash64))
	if err != nil {
		t.Fatal(err)
	}
	return blk
}

func fileMeta(inum uint64) *ondisk.InodeMeta {
	m := ondisk.NewInodeMeta(inum, ondisk.ObjFile)
	m.Mode, m.Nlinks, m.CheckAlgo, m.CompAlgo = 0o644, 1, uint8(ondisk.CheckXXHash64), uint8(ondisk.CompLZ4)
	return &m
}

func dirMeta(inum uint64) *ondisk.InodeMeta {
	m := fileMeta(inum)
	m.Type = ondisk.ObjDir
	return m
}

func direntChange(dir, inum uint64, name string) Change {
	key := ondisk.NameHash(name)
	return Change{
		Inum: dir, Kind: KindDirent, Key: key,
		Dirent: ondisk.Dirent{Key: key, Inum: inum, Type: ondisk.ObjFile, Name: name},
	}
}
