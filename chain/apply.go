package chain

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// An inodeGroup is what a batch has for one inode.
type inodeGroup struct {
	inum    uint64
	inode   *Change // nil = the inode stays
	dirents []Change
	data    []Change
	touch   []span
	mark    bool // others refer to its blocks now
}

// groupBatch splits a valid batch by inode. marks are more inodes, sorted.
func groupBatch(b *Batch, marks []uint64) []inodeGroup {
	var groups []inodeGroup
	changes, touch := b.Changes, b.Touch
	for len(changes) > 0 || len(touch) > 0 || len(marks) > 0 {
		g := inodeGroup{inum: math.MaxUint64}
		if len(changes) > 0 {
			g.inum = changes[0].Inum
		}
		if len(touch) > 0 {
			g.inum = min(g.inum, touch[0].Inum)
		}
		if len(marks) > 0 && marks[0] <= g.inum {
			g.inum, g.mark, marks = marks[0], true, marks[1:]
		}
		n := 0
		var kinds [KindData + 2]int // kinds[k] is where kind k begins
		for ; n < len(changes) && changes[n].Inum == g.inum; n++ {
			for k := changes[n].Kind + 1; int(k) < len(kinds); k++ {
				kinds[k] = n + 1
			}
		}
		if kinds[KindDirent] > 0 {
			g.inode = &changes[0]
		}
		g.dirents = changes[kinds[KindDirent]:kinds[KindData]]
		g.data = changes[kinds[KindData]:n]
		changes = changes[n:]
		for len(touch) > 0 && touch[0].Inum == g.inum {
			g.touch = addSpan(g.touch, span{touch[0].Lo, touch[0].Hi})
			touch = touch[1:]
		}
		groups = append(groups, g)
	}
	return groups
}

// addSpan appends s, whose lo is not below that of the last span, joining overlaps.
func addSpan(spans []span, s span) []span {
	if n := len(spans); n > 0 && s.lo <= spans[n-1].hi {
		spans[n-1].hi = max(spans[n-1].hi, s.hi)
		return spans
	}
	return append(spans, s)
}

// leaves is the part of a job that ordinary entries and data make.
func (g *inodeGroup) leaves() (changes []Change, j job) {
	changes = g.dirents
	if len(g.data) > 0 {
		changes = g.data
	}
	for i := range changes {
		c := &changes[i]
		if c.Kind == KindData && c.Delete {
			j.dels = addSpan(j.dels, span{c.Key, c.last()})
		} else {
			j.ops = append(j.ops, leafOp{c.Key, i})
		}
	}
	j.touch = g.touch
	return changes, j
}

// newest is the modify_tid of a table in which the group changed leaves.
func (g *inodeGroup) newest(t ondisk.Tid) (tid ondisk.Tid) {
	for _, cs := range [][]Change{g.dirents, g.data} {
		for i := range cs {
			tid = max(tid, cs[i].modifyTid(t))
		}
	}
	return tid
}

// checkPresent looks for changes below an inode that is not, or no longer, there.
func (g *inodeGroup) checkPresent(deleted bool) error {
	for _, cs := range [][]Change{g.dirents, g.data} {
		for i := range cs {
			if c := &cs[i]; !deleted || !c.Delete {
				return c.bad("%w", ErrNoInode)
			}
		}
	}
	return nil
}

// An applier applies one batch to the PFS of one root.
type applier struct {
	reader treeReader
	store  treeStore
	batch  *Batch
	sharing
	groups []inodeGroup
	root   *InodeRec
	rootG  *inodeGroup // the group of inode 1, may be nil
	ahead  inodesAhead
}

// applyTree applies b to the PFS whose root inode is at root and returns the
// new blockref. Everything that changed is written by then, the root included.
// After an error what was written and dropped must be forgotten.
func applyTree(ctx context.Context, src blockSource, cache *tableCache, store treeStore, root *ondisk.Blockref, b *Batch) (ref ondisk.Blockref, err error) {
	if err := b.Validate(); err != nil {
		return ref, err
	}
	if b.T < root.MirrorTid {
		return ref, fmt.Errorf("%w: tid %v is older than the PFS at %v", ErrBadBatch, b.T, root.MirrorTid)
	}
	a := &applier{reader: treeReader{src, cache}, store: store, batch: b, ahead: make(inodesAhead)}
	if a.root, err = a.reader.inode(ctx, superOwner, root); err != nil {
		return ref, err
	}
	if err := a.findShared(ctx); err != nil {
		return ref, err
	}
	a.groups = groupBatch(b, slices.Sorted(maps.Keys(a.marks)))
	return a.applyRoot(ctx)
}

// applyRoot merges inodes and root directory, which share one tree.
func (a *applier) applyRoot(ctx context.Context) (ref ondisk.Blockref, err error) {
	meta := a.root.Meta
	var rootDir []Change
	var j job
	for i := range a.groups {
		g := &a.groups[i]
		if g.inum != ondisk.InumRoot {
			j.ops = append(j.ops, leafOp{g.inum, i})
			if c := g.inode; c != nil && !c.Delete && c.Inum < ondisk.AttrBit {
				meta.PFSInum = max(meta.PFSInum, c.Inum)
			}
			continue
		}
		if len(g.data) > 0 {
			return ref, g.data[0].bad("a directory has no data")
		}
		a.rootG = g
		rootDir, j.touch = g.dirents, g.touch
	}
	for i := range rootDir {
		j.ops = append(j.ops, leafOp{rootDir[i].Key, len(a.groups) + i})
	}
	m := a.merger(rootOwner)
	m.begin = func(refs []ondisk.Blockref, ops []leafOp) { a.ahead.load(ctx, &a.reader, refs, ops) }
	m.leaf = func(i int, old *ondisk.Blockref, methods uint8) (ondisk.Blockref, bool, error) {
		if i < len(a.groups) {
			return a.applyInode(ctx, &a.groups[i], old)
		}
		return m.applyDirent(&rootDir[i-len(a.groups)], old, methods)
	}
	ref = a.root.Ref
	ref.SetMethods(metaCheck(ref.CheckMethod()), ref.CompMethod())
	ref.Flags |= ondisk.FlagPFSRoot
	set, _, err := m.run(ctx, a.root.set, j, ref.Methods)
	if err != nil {
		return ref, err
	}
	if a.rootG != nil && a.rootG.inode != nil {
		meta = mergeRootMeta(a.rootG.inode.Inode, &meta)
	}
	meta.SharedTid = max(meta.SharedTid, a.marks[ondisk.InumRoot])
	a.store.dropBlock(&a.root.Ref)
	ref.ModifyTid = max(ref.ModifyTid, a.batch.T)
	err = m.writeInode(treeSuper, &ref, &ondisk.Inode{Meta: meta, Blockset: set})
	return ref, err
}

func (a *applier) merger(o owner) *merger {
	return &merger{reader: &a.reader, store: a.store, tid: a.batch.T, own: o, discard: a.batch.Discard, sharing: &a.sharing}
}

// mergeRootMeta is the new root inode: what batches carry is the same on all
// nodes, while label, role and identity are each node's own.
func mergeRootMeta(given, own *ondisk.InodeMeta) ondisk.InodeMeta {
	m := *given
	m.NameKey, m.NameLen, m.Filename = own.NameKey, own.NameLen, own.Filename
	m.PFSType, m.PFSSubtype, m.PFSNMasters = own.PFSType, own.PFSSubtype, own.PFSNMasters
	m.PFSClid, m.PFSFsid, m.PFSLsnapTid = own.PFSClid, own.PFSFsid, own.PFSLsnapTid
	m.PFSInum = max(given.PFSInum, own.PFSInum)
	m.SharedTid = own.SharedTid
	m.OpFlags |= ondisk.OpPFSRoot
	return m
}

// SharedMeta is what an inode record has on every node: all but what its
// blocks' owners are there, and, of a PFS root, what names the node's own copy.
func (rec *InodeRec) SharedMeta() ondisk.InodeMeta {
	if m := rec.Meta; m.OpFlags&ondisk.OpPFSRoot == 0 {
		m.SharedTid = 0
		return m
	}
	return mergeRootMeta(&rec.Meta, &ondisk.InodeMeta{})
}

// ComparedMeta is what is the same in equal copies: SharedMeta without the highest
// inode number that was given out. A node that once had a txg which was not
// committed keeps the higher number: it must not give it out again.
func (rec *InodeRec) ComparedMeta() ondisk.InodeMeta {
	m := rec.SharedMeta()
	if rec.Meta.OpFlags&ondisk.OpPFSRoot != 0 {
		m.PFSInum = 0
	}
	return m
}

// writeInode writes an inode and completes its blockref, of which methods and
// modify_tid are set. in is the kind of tree that it is in.
func (m *merger) writeInode(in treeKind, ref *ondisk.Blockref, ino *ondisk.Inode) error {
	block := make([]byte, ondisk.InodeSize)
	ino.Encode(block)
	ref.MirrorTid = m.tid
	ref.ModifyTid = newest(ref.ModifyTid, ino.Blockset)
	setCounts(ref, ino.Blockset)
	if err := m.store.writeBlock(ref, block, ref.Key); err != nil {
		return err
	}
	// What was just changed is what is read next, by the next batch at the
	// latest.
	rec := &InodeRec{Meta: ino.Meta, Ref: *ref, set: ino.Blockset, in: in}
	if ino.Meta.DirectData() {
		rec.Inline = ino.Inline[:]
	}
	m.reader.cache.put(ref, rec, rec.size())
	return nil
}

// A rootChange replaces or removes the root of one PFS.
type rootChange struct {
	key uint64
	ref *ondisk.Blockref // nil = remove
}

// applySuper puts new PFS roots, sorted by key, into the super-root's tree and
// rewrites the super-root inode with tid, always. Blocks of removed PFSs are
// not dropped. sroot is the super-root's blockref, the new one is returned.
func applySuper(ctx context.Context, src blockSource, cache *tableCache, store treeStore, sroot *ondisk.Blockref, tid ondisk.Tid, changes []rootChange) (ondisk.Blockref, error) {
	reader := treeReader{src, cache}
	rec, err := reader.inode(ctx, superRootOwner, sroot)
	if err != nil {
		return ondisk.Blockref{}, err
	}
	m := &merger{reader: &reader, store: store, tid: tid, own: superOwner, sharing: new(sharing)}
	m.leaf = func(i int, _ *ondisk.Blockref, _ uint8) (ondisk.Blockref, bool, error) {
		if changes[i].ref == nil {
			return ondisk.Blockref{}, false, nil
		}
		return *changes[i].ref, true, nil
	}
	var j job
	for i := range changes {
		j.ops = append(j.ops, leafOp{changes[i].key, i})
	}
	ref := *sroot
	ref.SetMethods(metaCheck(ref.CheckMethod()), ref.CompMethod())
	set, _, err := m.run(ctx, rec.set, j, ref.Methods)
	if err != nil {
		return ref, err
	}
	store.dropBlock(sroot)
	err = m.writeInode(superRootOwner.kind, &ref, &ondisk.Inode{Meta: rec.Meta, Blockset: set})
	return ref, err
}
