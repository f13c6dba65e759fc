package cluster

import "context"

// A piece is the bytes [lo, hi) of a block.
type piece struct{ lo, hi int }

// partial is what an incomplete block lacks: a write that covers a part of a
// block does not wait for the rest of it, which is in the layers below. What
// they have stays the same as long as the overlay is above them, so that it
// does not matter when it is read.
type partial struct {
	gaps   []piece // bytes of buf that are not there yet, apart and sorted; none: it is complete
	queued bool    // was handed to the fillers once
}

// lacks reports whether some of the bytes [lo, hi) are missing.
func (b *partial) lacks(lo, hi int) bool {
	for _, g := range b.gaps {
		if g.lo < hi && lo < g.hi {
			return true
		}
	}
	return false
}

// begun reports whether the block was written from its start on, and no further:
// it may well be written to its end soon.
func (b *partial) begun() bool { return len(b.gaps) == 1 && b.gaps[0].lo > 0 }

// known says that the bytes [lo, hi) are there now.
func (b *partial) known(lo, hi int) {
	if !b.lacks(lo, hi) {
		return
	}
	left := make([]piece, 0, len(b.gaps)+1)
	for _, g := range b.gaps {
		if g.lo < min(g.hi, lo) {
			left = append(left, piece{g.lo, min(g.hi, lo)})
		}
		if max(g.lo, hi) < g.hi {
			left = append(left, piece{max(g.lo, hi), g.hi})
		}
	}
	b.gaps = left
}

// lacking is where the last gap of the block at key ends; 0: it has none.
func (n *onode) lacking(key uint64) int {
	if n == nil {
		return 0
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if b := n.block(key); b != nil && len(b.gaps) > 0 {
		return b.gaps[len(b.gaps)-1].hi
	}
	return 0
}

// fillBlock reads what the block at key of o lacks. It may be done twice at once.
func (p *Pool) fillBlock(ctx context.Context, o *overlay, n *onode, key uint64) error {
	have := n.lacking(key)
	if have == 0 {
		return nil
	}
	s := p.acquire()
	defer s.release()
	buf := getBuffer(have)
	defer putBuffer(buf)
	if err := p.readUnder(ctx, s, s.below(o), n.inum, key, buf); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if b := n.block(key); b != nil {
		for _, g := range b.gaps {
			copy(b.buf[g.lo:g.hi], buf[g.lo:g.hi])
		}
		b.gaps = nil
	}
	return nil
}

// readUnder fills buf with the first bytes of a block as the layers below and
// the tree have it.
func (p *Pool) readUnder(ctx context.Context, s *state, below []*overlay, inum, key uint64, buf []byte) error {
	for i, o := range below {
		n := o.find(inum)
		where := n.copyOut(key, 0, buf)
		for where == dataPart {
			if err := p.fillBlock(ctx, o, n, key); err != nil {
				return err
			}
			where = n.copyOut(key, 0, buf)
		}
		switch where {
		case dataBelow:
		case dataShared:
			return p.readSource(ctx, s, below[i+1:], n.source(key), inum, key, 0, buf)
		default:
			return nil
		}
	}
	return p.readTree(ctx, s, inum, key, buf)
}

// fillTop completes the block at key in the top layer that lacks some of it.
func (l *dataLayers) fillTop(ctx context.Context, p *Pool, s *state, key uint64) error {
	layers := s.layers()
	for i, n := range l.nodes {
		if n.lacking(key) > 0 {
			return p.fillBlock(ctx, layers[i], n, key)
		}
	}
	return nil
}
