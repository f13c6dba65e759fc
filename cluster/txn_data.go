package cluster

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// WriteData writes p at byte off of an inode. p is copied. The size in the
// record is the caller's to set. Errors are those of reading what is there.
func (t *Txn) WriteData(ctx context.Context, inum, off uint64, p []byte) error {
	if off+uint64(len(p)) > maxData || off+uint64(len(p)) < off {
		return fmt.Errorf("inode %d: %d bytes at %#x: beyond the largest file", inum, len(p), off)
	}
	t.touch()
	n := t.g.node(inum)
	t.g.load.written.Add(int64(len(p)))
	for len(p) > 0 {
		key := blockAt(off)
		at := int(off - key)
		part := p[:min(len(p), ondisk.LogicalBlock-at)]
		b, err := t.writeBlock(ctx, n, key, at, part)
		if err != nil {
			return err
		}
		if at+len(part) == ondisk.LogicalBlock {
			t.p.encode.early(t.g.overlay, n, b)
		}
		off += uint64(len(part))
		p = p[len(part):]
	}
	return nil
}

// writeBlock writes part at byte at of the block at key.
func (t *Txn) writeBlock(ctx context.Context, n *onode, key uint64, at int, part []byte) (*oblock, error) {
	n.mu.Lock()
	n.uninline(t.g.overlay)
	if b := n.block(key); b != nil && b.from != nil && (at > 0 || len(part) < b.from.valid) {
		n.mu.Unlock()
		if err := t.settle(ctx, n, key, 0); err != nil {
			return nil, err
		}
		n.mu.Lock()
	}
	if _, where := n.look(key); where != dataBelow || t.g.isNew(n.inum) {
		b := t.store(n, key, at, part)
		n.mu.Unlock()
		return b, nil
	}
	n.mu.Unlock()
	base, err := t.base(ctx, n, key, at, len(part))
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if base == nil {
		return t.store(n, key, at, part), nil
	}
	b := t.g.adopt(n, key, base)
	t.grow(0, len(base))
	return t.store(n, b.key, at, part), nil
}

// store writes p at byte at of a block, whose growth is the call's.
func (t *Txn) store(n *onode, key uint64, at int, p []byte) *oblock {
	have := 0
	if b := n.block(key); b != nil {
		have = len(b.buf)
	}
	b := t.g.store(n, key, at, p)
	t.grow(have, len(b.buf))
	return b
}

// uninline makes a block of inline content that is about to be written to.
func (n *onode) uninline(o *overlay) {
	if n.rec == nil || !n.rec.Meta.DirectData() {
		return
	}
	rec := *n.rec
	o.unfold(n)
	rec.Meta.OpFlags &^= ondisk.OpDirectData
	rec.Inline = nil
	n.rec = &rec
}

// adopt makes buf, of any content, the block at key, which is not there yet.
func (o *overlay) adopt(n *onode, key uint64, buf []byte) *oblock {
	b := n.insert(key)
	b.buf = buf
	o.load.leaves.Add(1)
	o.load.memory.Add(int64(cap(buf)))
	o.load.addData(0, len(buf))
	return b
}

// base returns the content below of a block that is about to be written
// [at, at+n); nil: the write covers it.
func (t *Txn) base(ctx context.Context, n *onode, key uint64, at, count int) ([]byte, error) {
	have, size, err := t.baseLen(ctx, n.inum, key)
	if err != nil {
		return nil, err
	}
	if size < key {
		if err := t.sealEnd(ctx, n, size); err != nil {
			return nil, err
		}
	}
	if have == 0 || at == 0 && count >= have {
		return nil, nil
	}
	buf := getBuffer(have)
	if err := t.content(ctx, n.inum, key, buf); err != nil {
		putBuffer(buf)
		return nil, err
	}
	return buf, nil
}

// baseLen is how many bytes of the block the layers below have, and the size
// of the file in the tree.
func (t *Txn) baseLen(ctx context.Context, inum, key uint64) (have int, size uint64, err error) {
	s := t.p.acquire()
	defer s.release()
	for _, o := range s.below(t.g.overlay) {
		if o == nil {
			continue
		}
		if n, where := o.find(inum).validLen(key); where != dataBelow || o.isNew(inum) {
			return n, maxData, nil
		}
	}
	err = t.p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
		rec, ok, err := v.Inode(ctx, inum)
		if ok {
			size = rec.Meta.Size
		}
		return err
	})
	if size > key {
		have = int(min(size-key, ondisk.LogicalBlock))
	}
	return have, size, err
}

// sealEnd takes care of garbage that may lie on media behind the end of the
// file, size bytes, before the file grows over it. Only other writers leave any.
func (t *Txn) sealEnd(ctx context.Context, n *onode, size uint64) error {
	key := blockAt(size)
	n.mu.RLock()
	_, where := n.look(key)
	settled := n.sealed || where != dataBelow
	n.mu.RUnlock()
	if settled || size == key || t.g.isNew(n.inum) {
		return nil
	}
	s := t.p.acquire()
	defer s.release()
	for _, o := range s.below(t.g.overlay) {
		if _, where := o.find(n.inum).validLen(key); where != dataBelow {
			return nil
		}
	}
	have := int(size - key)
	block := getBuffer(ondisk.LogicalBlock)
	defer putBuffer(block)
	clear(block)
	err := t.p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error { return wholeBlock(ctx, v, n.inum, key, block) })
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sealed = true
	for _, c := range block[have:] {
		if c != 0 {
			t.g.store(n, key, 0, block[:have])
			break
		}
	}
	return nil
}

// wholeBlock reads a block as it is stored, wherever the file ends. A hole
// leaves dst as it is.
func wholeBlock(ctx context.Context, v *chain.View, inum, key uint64, dst []byte) error {
	ref, found, err := dataRef(ctx, v, inum, key)
	if err != nil || !found {
		return err
	}
	return readWhole(ctx, v, inum, &ref, dst)
}

// readWhole decodes the block of an inode at ref. An error says whose block it is: it
// is repaired there.
func readWhole(ctx context.Context, v *chain.View, inum uint64, ref *ondisk.Blockref, dst []byte) error {
	blk, err := v.ReadBlock(ctx, ref)
	if err != nil {
		return &chain.NodeError{Path: fmt.Sprintf("inode %d", inum), Inum: inum, Key: ref.Key, Ref: *ref, Err: err}
	}
	if _, err := ondisk.DecodeData(ref, blk.Bytes, dst); err != nil {
		return &chain.NodeError{Path: fmt.Sprintf("inode %d", inum), Inum: inum, Key: ref.Key, Ref: *ref, Err: err}
	}
	return nil
}

// ZeroData makes bytes [from, to) zero: whole blocks become holes.
func (t *Txn) ZeroData(ctx context.Context, inum, from, to uint64) error {
	if from >= to {
		return nil
	}
	to = min(to, maxData)
	t.touch()
	first, last := roundUp(from), blockAt(to)
	if blockAt(from) == last && from != last || first > last {
		return t.zeroPart(ctx, inum, blockAt(from), int(from-blockAt(from)), int(to-blockAt(from)))
	}
	if from < first {
		if err := t.zeroPart(ctx, inum, first-ondisk.LogicalBlock, int(from%ondisk.LogicalBlock), ondisk.LogicalBlock); err != nil {
			return err
		}
	}
	if last < to {
		if err := t.zeroPart(ctx, inum, last, 0, int(to-last)); err != nil {
			return err
		}
	}
	t.plain(inum)
	t.g.growth.gave.Store(true)
	t.g.punch(inum, first, last)
	return nil
}

// plain turns inline content into a block, if there is any.
func (t *Txn) plain(inum uint64) {
	if n := t.g.find(inum); n != nil {
		n.mu.Lock()
		n.uninline(t.g.overlay)
		n.mu.Unlock()
	}
}

// zeroPart zeroes bytes [from, to) of the block at key.
func (t *Txn) zeroPart(ctx context.Context, inum, key uint64, from, to int) error {
	return t.edit(ctx, inum, key, from, func(b *oblock) {
		if to >= len(b.buf) {
			t.g.resize(b, from)
			return
		}
		t.g.resize(b, len(b.buf)) // so that it may be changed
		clear(b.buf[from:to])
	})
}

// edit calls fn with the block at key, its lock held, if it has more than
// beyond valid bytes.
func (t *Txn) edit(ctx context.Context, inum, key uint64, beyond int, fn func(*oblock)) error {
	n := t.g.node(inum)
	if err := t.settle(ctx, n, key, beyond); err != nil {
		return err
	}
	n.mu.Lock()
	n.uninline(t.g.overlay)
	b := n.block(key)
	_, where := n.look(key)
	if b != nil || where != dataBelow || t.g.isNew(inum) {
		if b != nil && len(b.buf) > beyond {
			fn(b)
		}
		n.mu.Unlock()
		return nil
	}
	n.mu.Unlock()
	have, _, err := t.baseLen(ctx, inum, key)
	if err != nil || have <= beyond {
		return err
	}
	buf := getBuffer(have)
	if err := t.content(ctx, inum, key, buf); err != nil {
		putBuffer(buf)
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	fn(t.g.adopt(n, key, buf))
	return nil
}

// TruncateData makes the data fit a new size: what is behind it goes, and
// reads as zeros if the file grows again.
func (t *Txn) TruncateData(ctx context.Context, inum, oldSize, newSize uint64) error {
	t.touch()
	if newSize < oldSize {
		key := blockAt(newSize)
		if at := int(newSize - key); at > 0 {
			err := t.edit(ctx, inum, key, at, func(b *oblock) { t.g.resize(b, at) })
			if err != nil {
				return err
			}
		}
		t.plain(inum)
		t.g.growth.gave.Store(true)
		t.g.punch(inum, roundUp(newSize), maxData)
		return nil
	}
	_, size, err := t.baseLen(ctx, inum, blockAt(oldSize))
	if err != nil || newSize == oldSize || size != oldSize {
		return err
	}
	return t.sealEnd(ctx, t.g.node(inum), oldSize)
}
