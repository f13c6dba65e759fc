package crashtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A maker puts a batch together out of operations on files. An operation
// keeps off inodes that another one of the batch changed.
type maker struct {
	*session
	tree    *tree
	changes map[leafKey]chain.Change
	ranges  []chain.Change // deletes of data
	busy    map[uint64]bool
	keys    []leafKey // of the tree, in order
}

func (s *session) maker(t *tree) *maker {
	m := &maker{session: s, tree: t, changes: make(map[leafKey]chain.Change), busy: make(map[uint64]bool)}
	for k := range t.leaves {
		m.keys = append(m.keys, k)
	}
	slices.SortFunc(m.keys, compareKeys)
	return m
}

func (m *maker) put(c chain.Change) { m.changes[leafKey{c.Inum, c.Kind, c.Key}] = c }

// batch is what was put together.
func (m *maker) batch() *chain.Batch {
	b := &chain.Batch{T: m.tid(), Changes: m.ranges}
	for _, c := range m.changes {
		b.Changes = append(b.Changes, c)
	}
	if m.rnd.IntN(12) == 0 {
		b.Touch = []chain.Touch{{Inum: ondisk.InumRoot, Lo: 0, Hi: ondisk.DirBit - 1}}
	}
	b.Sort()
	return b
}

// files makes a batch of n random operations.
func (m *maker) files(n int) *chain.Batch {
	ops := []func(){m.create, m.create, m.create, m.unlink, m.rename, m.write, m.write, m.write, m.punch, m.shrink, m.inline, m.root}
	for range n {
		ops[m.rnd.IntN(len(ops))]()
	}
	return m.batch()
}

// pick chooses an inode of a type that is not busy, and makes it so.
func (m *maker) pick(ok func(*ondisk.InodeMeta) bool) *ondisk.InodeMeta {
	var list []*ondisk.InodeMeta
	for _, k := range m.keys {
		if k.kind != chain.KindInode || m.busy[k.inum] {
			continue
		}
		if meta := m.tree.leaves[k].meta; ok(meta) {
			list = append(list, meta)
		}
	}
	if len(list) == 0 {
		return nil
	}
	meta := *list[m.rnd.IntN(len(list))]
	m.busy[meta.Inum] = true
	return &meta
}

func isFile(m *ondisk.InodeMeta) bool   { return m.Type == ondisk.ObjFile && m.Nlinks == 1 }
func isBlocks(m *ondisk.InodeMeta) bool { return isFile(m) && !m.DirectData() }

// dir chooses any directory; entries of one can change many times in a batch.
func (m *maker) dir() uint64 {
	dirs := []uint64{ondisk.InumRoot}
	for _, k := range m.keys {
		if meta := m.tree.leaves[k].meta; meta != nil && meta.Type == ondisk.ObjDir && k.inum != ondisk.InumRoot {
			dirs = append(dirs, k.inum)
		}
	}
	return dirs[m.rnd.IntN(len(dirs))]
}

// enter puts an entry for an inode into a directory.
func (m *maker) enter(dir uint64, meta *ondisk.InodeMeta) {
	m.names++
	name := fmt.Sprintf("n%d", m.names)
	if m.rnd.IntN(4) == 0 {
		name += strings.Repeat("-long", 20) // needs a block of its own
	}
	key := ondisk.NameHash(name)
	m.put(chain.Change{Inum: dir, Kind: chain.KindDirent, Key: key,
		Dirent: ondisk.Dirent{Key: key, Inum: meta.Inum, Type: meta.Type, Name: name}})
	meta.Iparent = dir
}

// leave removes one entry of an inode, if it has any.
func (m *maker) leave(inum uint64) {
	for _, k := range m.keys {
		if k.kind == chain.KindDirent && m.tree.leaves[k].entry.Inum == inum {
			m.put(chain.Change{Inum: k.inum, Kind: chain.KindDirent, Key: k.key, Delete: true})
			return
		}
	}
}

func (m *maker) inode(meta *ondisk.InodeMeta, content string) {
	meta.Mtime = m.rnd.Uint64() >> 16
	m.put(chain.Change{Inum: meta.Inum, Kind: chain.KindInode, Inode: meta, Inline: []byte(content)})
}

func (m *maker) block(inum, n uint64) {
	m.put(chain.Change{Inum: inum, Kind: chain.KindData, Key: n * ondisk.LogicalBlock, Block: m.pool[m.rnd.IntN(len(m.pool))]})
}

// fileSize is that of files with blocks: behind all blocks, which is enough.
const fileSize = 16 * ondisk.LogicalBlock

func (m *maker) create() {
	m.session.inum += 1 + uint64(m.rnd.IntN(2)*m.rnd.IntN(40))
	meta := ondisk.NewInodeMeta(m.session.inum, ondisk.ObjFile)
	meta.Mode, meta.Nlinks = 0o644, 1
	meta.CheckAlgo, meta.CompAlgo = uint8(ondisk.CheckXXHash64), uint8(ondisk.CompLZ4)
	meta.Size = fileSize
	content := ""
	switch m.rnd.IntN(5) {
	case 0:
		meta.Type, meta.Size = ondisk.ObjDir, 0
	case 1:
		meta.OpFlags |= ondisk.OpDirectData
		content = fmt.Sprint("inline ", meta.Inum)
		meta.Size = uint64(len(content))
	default:
		for n := range uint64(m.rnd.IntN(4)) {
			m.block(meta.Inum, n*uint64(1+m.rnd.IntN(3)))
		}
	}
	m.enter(m.dir(), &meta)
	m.inode(&meta, content)
}

func (m *maker) unlink() {
	if meta := m.pick(isFile); meta != nil {
		m.leave(meta.Inum)
		m.put(chain.Change{Inum: meta.Inum, Kind: chain.KindInode, Delete: true})
	}
}

// rename moves a file to another directory, entry and inode as one.
func (m *maker) rename() {
	if meta := m.pick(isBlocks); meta != nil {
		m.leave(meta.Inum)
		m.enter(m.dir(), meta)
		m.inode(meta, "")
	}
}

func (m *maker) write() {
	if meta := m.pick(isBlocks); meta != nil {
		for range 1 + m.rnd.IntN(3) {
			m.block(meta.Inum, uint64(m.rnd.IntN(12)))
		}
		meta.Size = max(meta.Size, fileSize)
		m.inode(meta, "")
	}
}

// punch makes a hole, and may write into it in the same batch.
func (m *maker) punch() {
	if meta := m.pick(isBlocks); meta != nil {
		from := uint64(m.rnd.IntN(8))
		to := from + 1 + uint64(m.rnd.IntN(6))
		m.ranges = append(m.ranges, chain.Change{Inum: meta.Inum, Kind: chain.KindData, Delete: true,
			Key: from * ondisk.LogicalBlock, To: to * ondisk.LogicalBlock})
		if m.rnd.IntN(2) == 0 {
			m.block(meta.Inum, from)
			meta.Size = max(meta.Size, fileSize)
		}
		m.inode(meta, "")
	}
}

// shrink cuts a file off somewhere.
func (m *maker) shrink() {
	if meta := m.pick(isBlocks); meta != nil {
		m.ranges = append(m.ranges, chain.Change{Inum: meta.Inum, Kind: chain.KindData, Delete: true,
			Key: uint64(m.rnd.IntN(4)) * ondisk.LogicalBlock, To: ondisk.DirBit})
		m.inode(meta, "")
	}
}

// inline moves content into the inode, or out of it.
func (m *maker) inline() {
	meta := m.pick(isFile)
	if meta == nil {
		return
	}
	if meta.OpFlags ^= ondisk.OpDirectData; meta.DirectData() {
		content := fmt.Sprint("inline again ", meta.Inum)
		meta.Size = uint64(len(content))
		m.inode(meta, content)
		return
	}
	meta.Size = fileSize
	m.block(meta.Inum, 0)
	m.inode(meta, "")
}

// root changes the root directory's own inode.
func (m *maker) root() {
	meta := m.pick(func(meta *ondisk.InodeMeta) bool { return meta.Inum == ondisk.InumRoot })
	if meta != nil {
		m.inode(meta, "")
	}
}

// mass makes a file of n blocks, most of them whole.
func (m *maker) mass(n int) *chain.Batch {
	m.session.inum++
	meta := ondisk.NewInodeMeta(m.session.inum, ondisk.ObjFile)
	meta.Mode, meta.Nlinks, meta.CheckAlgo = 0o600, 1, uint8(ondisk.CheckXXHash64)
	meta.Size = uint64(n) * ondisk.LogicalBlock
	m.enter(ondisk.InumRoot, &meta)
	m.inode(&meta, "")
	for i := range uint64(n) {
		if i%4 == 0 { // small ones share chunks, also with what is written early
			m.block(meta.Inum, i)
			continue
		}
		m.put(chain.Change{Inum: meta.Inum, Kind: chain.KindData, Key: i * ondisk.LogicalBlock, Block: m.pool[len(m.pool)-1]})
	}
	return m.batch()
}

// rewrite replaces blocks that exist by others of the same size or another,
// n of them at most.
func (m *maker) rewrite(n int) *chain.Batch {
	var data []leafKey
	for _, k := range m.keys {
		if k.kind == chain.KindData {
			data = append(data, k)
		}
	}
	if len(data) == 0 {
		return m.files(4)
	}
	for range n {
		k := data[m.rnd.IntN(len(data))]
		m.block(k.inum, k.key/ondisk.LogicalBlock)
	}
	return m.batch()
}
