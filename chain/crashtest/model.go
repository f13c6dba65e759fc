package crashtest

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A leafKey names a leaf of a PFS; inodes have key 0.
type leafKey struct {
	inum uint64
	kind chain.Kind
	key  uint64
}

func compareKeys(a, b leafKey) int {
	return cmp.Or(cmp.Compare(a.inum, b.inum), cmp.Compare(a.kind, b.kind), cmp.Compare(a.key, b.key))
}

// A leaf is what a workload has to know of one to change it later, and a sum
// of all that must survive.
type leaf struct {
	sum   uint64
	meta  *ondisk.InodeMeta // inodes
	entry ondisk.Dirent     // directory entries
	block *ondisk.EncodedBlock
	t     ondisk.Tid // modify_tid of data
}

// A tree is the content of one PFS. It does not change once it is in a volume.
type tree struct {
	fsid   ondisk.UUID
	t      ondisk.Tid
	leaves map[leafKey]leaf
	of     string // label that it is a snapshot of; not on media
}

// A volume is all that a user can see of one.
type volume struct {
	trees  map[string]*tree // by label
	states map[ondisk.UUID]ondisk.StateEntry
	size   uint64   // bytes
	lost   []uint64 // keys of roots that cannot be read, in order
}

func newVolume() *volume {
	return &volume{trees: make(map[string]*tree), states: make(map[ondisk.UUID]ondisk.StateEntry)}
}

func (v *volume) clone() *volume {
	return &volume{trees: maps.Clone(v.trees), states: maps.Clone(v.states), size: v.size, lost: slices.Clone(v.lost)}
}

// labels are those of the PFSs with a prefix, in order.
func (v *volume) labels(prefix string) []string {
	var list []string
	for label := range v.trees {
		if strings.HasPrefix(label, prefix) {
			list = append(list, label)
		}
	}
	slices.Sort(list)
	return list
}

// digest is the same for the same content.
func (v *volume) digest() uint64 {
	sum := v.size
	for label, t := range v.trees {
		var all uint64
		for k, l := range t.leaves {
			all += k.sum(l.sum)
		}
		sum += sumOf([]byte(label), t.fsid[:], tidBytes(t.t), binary.LittleEndian.AppendUint64(nil, all))
	}
	for _, e := range v.states {
		sum += sumOf(fmt.Append(nil, e))
	}
	for _, key := range v.lost {
		sum += sumOf(fmt.Append(nil, "lost", key))
	}
	return sum
}

func (k leafKey) sum(val uint64) uint64 {
	var b [32]byte
	le := binary.LittleEndian
	le.PutUint64(b[0:], k.inum)
	le.PutUint64(b[8:], uint64(k.kind))
	le.PutUint64(b[16:], k.key)
	le.PutUint64(b[24:], val)
	return ondisk.XXH64(b[:])
}

func tidBytes(t ondisk.Tid) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(t)) }

// difference says in a few words how got is not want.
func difference(want, got *volume) string {
	var list []string
	for label, w := range want.trees {
		g := got.trees[label]
		switch {
		case g == nil:
			list = append(list, fmt.Sprintf("PFS %s is missing", label))
			continue
		case g.t != w.t || g.fsid != w.fsid:
			list = append(list, fmt.Sprintf("PFS %s is at %v (%v), want %v (%v)", label, g.t, g.fsid, w.t, w.fsid))
		}
		for k, l := range w.leaves {
			if other, ok := g.leaves[k]; !ok {
				list = append(list, fmt.Sprintf("PFS %s: inode %d, %v %#x is missing", label, k.inum, k.kind, k.key))
			} else if other.sum != l.sum {
				list = append(list, fmt.Sprintf("PFS %s: inode %d, %v %#x is different", label, k.inum, k.kind, k.key))
			}
		}
		for k := range g.leaves {
			if _, ok := w.leaves[k]; !ok {
				list = append(list, fmt.Sprintf("PFS %s: inode %d, %v %#x is too much", label, k.inum, k.kind, k.key))
			}
		}
	}
	for label := range got.trees {
		if want.trees[label] == nil {
			list = append(list, fmt.Sprintf("PFS %s is too much", label))
		}
	}
	if !maps.Equal(want.states, got.states) {
		list = append(list, fmt.Sprintf("state entries are %v, want %v", got.states, want.states))
	}
	if !slices.Equal(want.lost, got.lost) {
		list = append(list, fmt.Sprintf("roots that cannot be read are %x, want %x", got.lost, want.lost))
	}
	if want.size != got.size {
		list = append(list, fmt.Sprintf("%d bytes, want %d", got.size, want.size))
	}
	slices.Sort(list)
	if len(list) > 8 {
		list = append(list[:8], fmt.Sprintf("and %d more", len(list)-8))
	}
	return strings.Join(list, "; ")
}

// apply returns t after a batch, by the rules that chain.Batch states. all are
// the trees of the volume before it.
func (t *tree) apply(b *chain.Batch, all map[string]*tree) *tree {
	n := &tree{fsid: t.fsid, t: b.T, leaves: maps.Clone(t.leaves)}
	for i := range b.Changes {
		c := &b.Changes[i]
		switch {
		case c.Kind == chain.KindInode && c.Delete:
			n.forget(func(k leafKey) bool { return k.inum == c.Inum })
		case c.Kind == chain.KindInode && c.Inode.DirectData():
			n.forget(func(k leafKey) bool { return k.inum == c.Inum && k.kind == chain.KindData })
		case c.Kind == chain.KindData && c.Delete:
			end := max(c.To, c.Key+1)
			n.forget(func(k leafKey) bool {
				return k.inum == c.Inum && k.kind == chain.KindData && k.key >= c.Key && k.key < end
			})
		case c.Delete:
			delete(n.leaves, leafKey{c.Inum, c.Kind, c.Key})
		}
	}
	for i := range b.Changes {
		if c := &b.Changes[i]; !c.Delete {
			n.leaves[leafKey{c.Inum, c.Kind, c.Key}] = t.leafOf(c, b.T, all)
		}
	}
	return n
}

func (t *tree) forget(which func(leafKey) bool) {
	maps.DeleteFunc(t.leaves, func(k leafKey, _ leaf) bool { return which(k) })
}

// leafOf is the leaf that c makes. What it shares is as it was before, in t or in
// a snapshot of it.
func (t *tree) leafOf(c *chain.Change, T ondisk.Tid, all map[string]*tree) leaf {
	switch {
	case c.Kind == chain.KindInode:
		return inodeLeaf(c.Inode, c.Inline)
	case c.Kind == chain.KindDirent:
		return direntLeaf(c.Dirent, T)
	case c.Share != nil:
		if c.Share.Snap != "" {
			t = all[c.Share.Snap]
		}
		return dataLeaf(t.leaves[leafKey{c.Share.Inum, chain.KindData, c.Share.Key}].block, T)
	}
	return dataLeaf(c.Block, T)
}

// inodeLeaf leaves out most of the root's inode: it is each node's own.
func inodeLeaf(m *ondisk.InodeMeta, inline []byte) leaf {
	if m.Inum == ondisk.InumRoot {
		return leaf{sum: m.Mtime, meta: m}
	}
	block, content := make([]byte, ondisk.InodeSize/2), make([]byte, ondisk.InlineMax)
	m.Encode(block)
	if m.DirectData() {
		copy(content, inline)
	}
	return leaf{sum: sumOf(block, content), meta: m}
}

func direntLeaf(d ondisk.Dirent, modify ondisk.Tid) leaf {
	return leaf{sum: sumOf(fmt.Append(nil, d), tidBytes(modify)), entry: d}
}

func dataLeaf(b *ondisk.EncodedBlock, modify ondisk.Tid) leaf {
	return leaf{sum: sumOf(b.Bytes, []byte{b.Radix, byte(b.Comp)}, tidBytes(modify)), block: b, t: modify}
}

// readVolume reads all that a user can see.
func readVolume(ctx context.Context, v *chain.Volume) (*volume, error) {
	got := newVolume()
	list, err := v.PFSs(ctx)
	if errors.Is(err, ondisk.ErrCorrupt) {
		got.lost, err = v.UnreadableRoots(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		view, err := v.View(ctx, p.Label)
		if err != nil {
			return nil, err
		}
		t, err := readTree(ctx, view)
		view.Release()
		if err != nil {
			return nil, fmt.Errorf("PFS %s: %w", p.Label, err)
		}
		if t.fsid = p.Fsid; t.t != p.T {
			return nil, fmt.Errorf("PFS %s: listed at %v, its root at %v", p.Label, p.T, t.t)
		}
		got.trees[p.Label] = t
	}
	h := v.Header()
	got.size = h.Size()
	for _, e := range h.States {
		got.states[e.Fsid] = e
	}
	return got, nil
}

// readTree reads every leaf of a PFS, data included.
func readTree(ctx context.Context, view *chain.View) (*tree, error) {
	t := &tree{t: view.T(), leaves: make(map[leafKey]leaf)}
	root, ok, err := view.Inode(ctx, ondisk.InumRoot)
	if err != nil || !ok {
		return nil, fmt.Errorf("no root inode: %w", err)
	}
	inodes := []*chain.InodeRec{root}
	err = view.Inodes(ctx, ondisk.InumRoot+1, ondisk.DirBit-1, func(rec *chain.InodeRec) bool {
		inodes = append(inodes, rec)
		return true
	})
	for i := 0; i < len(inodes) && err == nil; i++ {
		err = t.readInode(ctx, view, inodes[i])
	}
	return t, err
}

func (t *tree) readInode(ctx context.Context, view *chain.View, rec *chain.InodeRec) error {
	meta := rec.SharedMeta()
	t.leaves[leafKey{inum: meta.Inum}] = inodeLeaf(&meta, rec.Inline)
	if meta.Type == ondisk.ObjDir {
		return view.Dirents(ctx, meta.Inum, 0, ^uint64(0), func(d ondisk.Dirent, r *ondisk.Blockref) bool {
			t.leaves[leafKey{meta.Inum, chain.KindDirent, d.Key}] = direntLeaf(d, r.ModifyTid)
			return true
		})
	}
	var refs []ondisk.Blockref
	err := view.DataRefs(ctx, meta.Inum, 0, ondisk.DirBit-1, func(r *ondisk.Blockref) bool {
		refs = append(refs, *r)
		return true
	})
	for i := 0; i < len(refs) && err == nil; i++ {
		var b *ondisk.EncodedBlock
		if b, err = view.ReadBlock(ctx, &refs[i]); err == nil {
			t.leaves[leafKey{meta.Inum, chain.KindData, refs[i].Key}] = dataLeaf(b, refs[i].ModifyTid)
		}
	}
	return err
}
