package cluster

import (
	"context"
	"errors"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// ReadData fills dst with the bytes of an inode from off on. What was never
// written, and what lies behind the end of the file, is zero.
func (p *Pool) ReadData(ctx context.Context, inum, off uint64, dst []byte) error {
	s := p.acquire()
	defer s.release()
	l := s.dataLayers(inum)
	if l.nodes == [maxLayers]*onode{} && !l.endless() {
		return p.readTree(ctx, s, inum, off, dst)
	}
	run := 0 // bytes at the start of dst that the tree must answer
	for pos := 0; pos < len(dst); {
		key := blockAt(off + uint64(pos))
		at := int(off + uint64(pos) - key)
		part := dst[pos:min(len(dst), pos+ondisk.LogicalBlock-at)]
		pos += len(part)
		where := l.copyOut(key, at, part)
		if where == dataBelow {
			run += len(part)
			continue
		}
		if where == dataShared {
			if err := l.readShared(ctx, p, s, inum, key, at, part); err != nil {
				return err
			}
		}
		if run > 0 {
			if err := p.readTree(ctx, s, inum, off, dst[:run]); err != nil {
				return err
			}
		}
		off, dst, pos, run = off+uint64(pos), dst[pos:], 0, 0
	}
	if run == 0 {
		return nil
	}
	return p.readTree(ctx, s, inum, off, dst)
}

// dataLayers are the overlays' parts of one inode, top first.
type dataLayers struct {
	nodes [maxLayers]*onode
	end   [maxLayers]bool // nothing is below this layer
}

func (s *state) dataLayers(inum uint64) (l dataLayers) {
	for i, o := range s.layers() {
		if o != nil {
			l.nodes[i], l.end[i] = o.find(inum), o.isNew(inum)
		}
	}
	return l
}

// endless reports whether the tree below does not count.
func (l *dataLayers) endless() bool { return slices.Contains(l.end[:], true) }

func (l *dataLayers) copyOut(key uint64, at int, dst []byte) layerData {
	for i, n := range l.nodes {
		if where := n.copyOut(key, at, dst); where != dataBelow {
			return where
		}
		if l.end[i] {
			clear(dst)
			return dataHole
		}
	}
	return dataBelow
}

// where tells which layer has the block.
func (l *dataLayers) where(key uint64) (n int, where layerData) {
	for i, node := range l.nodes {
		n, where := node.validLen(key)
		if where != dataBelow {
			return n, where
		}
		if l.end[i] {
			return 0, dataHole
		}
	}
	return 0, dataBelow
}

// keys lists the blocks of [from, to) that the overlays have, in order.
func (l *dataLayers) keys(from, to uint64) []uint64 {
	var all []uint64
	for _, n := range l.nodes {
		if keys := n.keys(from, to); len(keys) > 0 {
			all = mergeKeys(all, keys)
		}
	}
	kept := all[:0]
	for _, key := range all {
		if _, where := l.where(key); where == dataHere {
			kept = append(kept, key)
		}
	}
	return kept
}

func (n *onode) keys(from, to uint64) (keys []uint64) {
	if n == nil {
		return nil
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.rec != nil && n.rec.Meta.DirectData() && n.rec.Meta.Size > 0 && from == 0 {
		return []uint64{0}
	}
	i, _ := n.search(blockAt(from))
	for ; i < len(n.blocks) && n.blocks[i].key < to; i++ {
		keys = append(keys, n.blocks[i].key)
	}
	return keys
}

// mergeKeys merges two ascending lists, each key once.
func mergeKeys(a, b []uint64) []uint64 {
	all := make([]uint64, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			all, a = append(all, a[0]), a[1:]
		case len(a) == 0 || b[0] < a[0]:
			all, b = append(all, b[0]), b[1:]
		default:
			all, a, b = append(all, a[0]), a[1:], b[1:]
		}
	}
	return all
}

// eachBlock calls fn for the blocks of an inode with data in [from, to), in
// order, until it returns false. size is what the block takes on media.
func (p *Pool) eachBlock(ctx context.Context, inum, from, to uint64, fn func(key, size uint64) bool) error {
	s := p.acquire()
	defer s.release()
	l := s.dataLayers(inum)
	keys := l.keys(from, to)
	next, done := blockAt(from), false
	emit := func(key, size uint64) {
		next = key + ondisk.LogicalBlock
		done = !fn(key, size)
	}
	overlays := func(below uint64) {
		for !done && len(keys) > 0 && keys[0] < below {
			n, _ := l.where(keys[0])
			key := keys[0]
			keys = keys[1:]
			emit(key, uint64(mediaSize(n)))
		}
	}
	if !l.endless() {
		err := p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
			return p.treeBlocks(ctx, v, inum, next, to, func(key, size uint64) bool {
				overlays(key)
				if _, where := l.where(key); !done && where == dataBelow {
					emit(key, size)
				}
				return !done
			})
		})
		if err != nil {
			return err
		}
	}
	overlays(to)
	return nil
}

// treeBlocks calls fn for the blocks that a view has. Inline content counts as
// a block that takes no space.
func (p *Pool) treeBlocks(ctx context.Context, v *chain.View, inum, from, to uint64, fn func(key, size uint64) bool) error {
	rec, ok, err := v.Inode(ctx, inum)
	if err != nil || !ok || from >= to {
		return err
	}
	if rec.Meta.DirectData() {
		if from == 0 && rec.Meta.Size > 0 {
			fn(0, 0)
		}
		return nil
	}
	err = v.DataRefs(ctx, inum, from, to, func(ref *ondisk.Blockref) bool {
		return fn(ref.Key, uint64(ref.Size()))
	})
	if errors.Is(err, chain.ErrNoInode) {
		return nil
	}
	return err
}

// SeekData returns the first byte with data at or after off and before size.
// A block counts as data whatever is in it. false: only a hole is left.
func (p *Pool) SeekData(ctx context.Context, inum, off, size uint64) (at uint64, ok bool, err error) {
	if off >= size {
		return 0, false, nil
	}
	err = p.eachBlock(ctx, inum, off, size, func(key, _ uint64) bool {
		at, ok = max(key, off), true
		return false
	})
	return at, ok, err
}

// SeekHole returns the first byte without data at or after off; size is where
// the hole behind the end of the file begins. false: off is not in the file.
func (p *Pool) SeekHole(ctx context.Context, inum, off, size uint64) (at uint64, ok bool, err error) {
	if off >= size {
		return 0, false, nil
	}
	next := blockAt(off)
	err = p.eachBlock(ctx, inum, off, size, func(key, _ uint64) bool {
		if key != next {
			return false
		}
		next += ondisk.LogicalBlock
		return true
	})
	return min(max(next, off), size), true, err
}

// Blocks is the space that the data of an inode takes on media, in bytes;
// what is not committed yet is counted as if it did not compress.
func (p *Pool) Blocks(ctx context.Context, inum uint64) (total uint64, err error) {
	s := p.acquire()
	defer s.release()
	l := s.dataLayers(inum)
	if slices.ContainsFunc(l.nodes[:], (*onode).hasData) {
		err = p.eachBlock(ctx, inum, 0, maxData, func(_, size uint64) bool {
			total += size
			return true
		})
		return total, err
	}
	if l.endless() {
		return 0, nil
	}
	err = p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
		rec, ok, err := v.Inode(ctx, inum)
		if ok {
			total = dataSpace(rec)
		}
		return err
	})
	return total, err
}

// Pending reports whether an inode has data that is not in the trees: there it takes
// another space than Blocks says.
func (p *Pool) Pending(inum uint64) bool {
	s := p.acquire()
	defer s.release()
	l := s.dataLayers(inum)
	return slices.ContainsFunc(l.nodes[:], (*onode).hasData)
}

// OnTrees has fn called when changes came into the trees. It must not wait.
func (p *Pool) OnTrees(fn func()) { p.onTrees.Store(&fn) }

// hasData reports that the overlay says something about an inode's data.
func (n *onode) hasData() bool {
	if n == nil {
		return false
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.deleted || len(n.blocks) > 0 || len(n.holes) > 0
}

// viewsChanged wakes readers that found no node to read from.
func (p *Pool) viewsChanged() {
	close(*p.viewsCh.Swap(newSignal()))
}
