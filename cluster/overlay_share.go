package cluster

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A source is a block of the layers below that a block of an overlay is to be:
// of the group below it, or of the tree. What that place holds when the overlay
// is committed is what it held when the source was taken, since only calls of the
// overlay's own group can have changed it meanwhile.
type source struct {
	chain.Share
	valid int         // bytes that the file has of it; the rest is zero
	snap  *snapSource // nil: it is no snapshot's
}

// sourceMemory is the rough memory of a block that is elsewhere.
const sourceMemory = 384

// shareMemory is what the load counts for a block without a buffer.
func (b *oblock) shareMemory() int64 {
	if b.from == nil {
		return 0
	}
	return sourceMemory
}

// source is where the block at key has its content, nil if not elsewhere.
func (n *onode) source(key uint64) *source {
	if n == nil {
		return nil
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if b := n.block(key); b != nil {
		return b.from
	}
	return nil
}

// refer makes the block at key one that is elsewhere.
func (o *overlay) refer(n *onode, key uint64, src *source) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.uninline(o)
	o.dropBlocks(n, key, key+ondisk.LogicalBlock)
	b := n.insert(key)
	b.from = src
	o.load.leaves.Add(1)
	o.load.memory.Add(sourceMemory)
}

// readShared fills dst from byte at of a block that the top layer which knows
// it has elsewhere.
func (l *dataLayers) readShared(ctx context.Context, p *Pool, s *state, inum, key uint64, at int, dst []byte) error {
	for i, n := range l.nodes {
		if src := n.source(key); src != nil {
			layers := s.layers()
			return p.readSource(ctx, s, layers[i+1:], src, inum, key, at, dst)
		}
		if _, where := n.validLen(key); where != dataBelow {
			break
		}
	}
	return fmt.Errorf("inode %d: block %#x: a shared block without a source", inum, key)
}

// readSource fills dst from byte at of the block that is to be at (inum, key).
// below are the layers under the one that says so.
func (p *Pool) readSource(ctx context.Context, s *state, below []*overlay, src *source, inum, key uint64, at int, dst []byte) error {
	valid := max(src.valid-at, 0)
	if valid < len(dst) {
		clear(dst[valid:])
		dst = dst[:valid]
	}
	if len(dst) == 0 {
		return nil
	}
	if src.snap != nil {
		block := getBuffer(ondisk.LogicalBlock)
		defer putBuffer(block)
		err := src.snap.read(ctx, &src.Share, block)
		copy(dst, block[at:])
		return err
	}
	for i, o := range below {
		switch n := o.find(src.Inum); n.copyOut(src.Key, at, dst) {
		case dataHere, dataHole:
			return nil
		case dataShared:
			return p.readSource(ctx, s, below[i+1:], n.source(src.Key), src.Inum, src.Key, at, dst)
		}
	}
	block := getBuffer(ondisk.LogicalBlock)
	defer putBuffer(block)
	err := p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
		ref, err := src.find(ctx, v, inum, key)
		if err != nil {
			return err
		}
		clear(block)
		return readWhole(ctx, v, src.Inum, &ref, block)
	})
	if err == nil {
		copy(dst, block[at:])
	}
	return err
}

// find returns the leaf in v that has the block: where it was taken from, or, if
// the group is in v already, where it is to be.
func (s *source) find(ctx context.Context, v *chain.View, inum, key uint64) (ondisk.Blockref, error) {
	ref, ok, err := dataRef(ctx, v, s.Inum, s.Key)
	if err != nil || ok && s.Source(&ref) {
		return ref, err
	}
	ref, ok, err = dataRef(ctx, v, inum, key)
	if err == nil && !(ok && s.Is(&ref)) {
		err = fmt.Errorf("inode %d: block %#x is neither there nor in inode %d at %#x: %w", inum, key, s.Inum, s.Key, ondisk.ErrCorrupt)
	}
	return ref, err
}

// settle gives the group a copy of its own of a block that it has elsewhere, if
// that has more than beyond bytes.
func (t *Txn) settle(ctx context.Context, n *onode, key uint64, beyond int) error {
	src := n.source(key)
	if src == nil || src.valid <= beyond {
		return nil
	}
	s := t.p.acquire()
	defer s.release()
	buf := getBuffer(src.valid)
	if err := t.p.readSource(ctx, s, s.below(t.g.overlay), src, n.inum, key, 0, buf); err != nil {
		putBuffer(buf)
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.block(key)
	b.from, b.buf = nil, buf
	t.g.load.memory.Add(int64(cap(buf)) - sourceMemory)
	t.g.load.addData(0, len(buf))
	return nil
}
