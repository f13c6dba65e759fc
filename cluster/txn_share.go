package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// shareCopies is how many blocks of one call are copied since they cannot be
// shared, at most: as much as a plain copy takes at once.
const shareCopies = 16

// How a worker that has a block just now is waited for.
const (
	workerTries = 1000
	workerPause = 100 * time.Microsecond
)

// ShareCost bounds what ShareData of n bytes adds: an element for each block,
// in tables that may be half full, and the copies.
func ShareCost(n uint64) Cost {
	return Cost{
		Leaves: 8 + int(n/ondisk.LogicalBlock/tableFill)*2,
		Bytes:  (shareCopies + 2) * ondisk.LogicalBlock,
	}
}

// ShareData gives bytes [dstOff, dstOff+length) of dst the content that src has
// at srcOff, and lets both have the same blocks where that can be: where dst's
// settings would allow the block as it is stored. Holes stay holes.
//
// Both offsets are multiples of the block size, and so is length, unless src
// ends there and dst is to end there. The ranges do not overlap. It stops early,
// at a block, when it had to copy much: done says how far it came.
func (t *Txn) ShareData(ctx context.Context, src, srcOff, dst, dstOff, length uint64) (done uint64, err error) {
	if (srcOff|dstOff)%ondisk.LogicalBlock != 0 || max(srcOff, dstOff)+length > maxData {
		return 0, fmt.Errorf("inode %d: %d bytes at %#x shared with %#x: not whole blocks", dst, length, srcOff, dstOff)
	}
	return t.share(ctx, &sharer{src: src}, srcOff, dst, dstOff, length)
}

// share is ShareData by sh, which knows where the source is.
func (t *Txn) share(ctx context.Context, sh *sharer, srcOff, dst, dstOff, length uint64) (done uint64, err error) {
	t.touch()
	sh.t, sh.to = t, t.g.node(dst)
	if sh.comp, sh.check, err = t.p.settings(ctx, t.g.overlay, sh.to); err != nil {
		return 0, err
	}
	if err := sh.load(ctx, srcOff, srcOff+length); err != nil {
		return 0, err
	}
	t.plain(dst)
	for copies := 0; done < length; {
		n := min(length-done, ondisk.LogicalBlock)
		copied, err := sh.block(ctx, srcOff+done, dstOff+done, int(n))
		if err != nil {
			return done, err
		}
		done += n
		if copied {
			copies++
		} else {
			t.grow(0, int(n)) // each who has the block is charged
		}
		if copies == shareCopies {
			break
		}
	}
	t.g.load.written.Add(int64(done))
	return done, nil
}

// A sharer is one call of ShareData.
type sharer struct {
	t           *Txn
	src         uint64
	snap        *snapSource // that src is in; nil: it is in the PFS
	to          *onode
	comp, check uint8                       // settings of the target
	below       []*overlay                  // under the group, nil for what is not there
	tree        map[uint64]*ondisk.Blockref // what the tree has of the source
}

// load looks up what the tree has of the source's bytes [lo, hi).
func (sh *sharer) load(ctx context.Context, lo, hi uint64) error {
	if sh.snap != nil {
		return sh.snap.onView(ctx, func(ctx context.Context, v *chain.View) (err error) {
			sh.tree, err = dataMap(ctx, v, sh.src, lo, hi)
			return err
		})
	}
	s := sh.t.p.acquire()
	defer s.release()
	sh.below = s.below(sh.t.g.overlay)
	isNew := func(o *overlay) bool { return o != nil && o.isNew(sh.src) }
	if sh.t.g.isNew(sh.src) || slices.ContainsFunc(sh.below, isNew) {
		return nil
	}
	return sh.t.p.onTree(ctx, s, func(ctx context.Context, v *chain.View) (err error) {
		sh.tree, err = dataMap(ctx, v, sh.src, lo, hi)
		return err
	})
}

// dataMap is the leaves of an inode's bytes [lo, hi) by key.
func dataMap(ctx context.Context, v *chain.View, inum, lo, hi uint64) (map[uint64]*ondisk.Blockref, error) {
	refs := make(map[uint64]*ondisk.Blockref)
	err := v.DataRefs(ctx, inum, lo, hi, func(ref *ondisk.Blockref) bool {
		r := *ref
		refs[r.Key] = &r
		return true
	})
	if errors.Is(err, chain.ErrNoInode) {
		err = nil
	}
	return refs, err
}

// block makes one block of the target what the source has at from, n bytes of it.
func (sh *sharer) block(ctx context.Context, from, to uint64, n int) (copied bool, err error) {
	for i, o := range append([]*overlay{sh.t.g.overlay}, sh.below...) {
		if o == nil || sh.snap != nil {
			continue
		}
		node := o.find(sh.src)
		switch _, where := node.where(from); {
		case where == dataHere && i > 0:
			if s := sh.syncing(node, from); s != nil {
				s.valid = n
				sh.t.g.refer(sh.to, to, s)
				return false, nil
			}
			return true, sh.copy(ctx, from, to, n)
		case where == dataHere:
			if ok, err := sh.twin(ctx, node, from, to); ok || err != nil {
				return false, err
			}
			return true, sh.copy(ctx, from, to, n)
		case where == dataShared:
			return sh.again(ctx, o, node.source(from), from, to, n)
		case where == dataHole || o.isNew(sh.src):
			sh.t.g.punch(sh.to.inum, to, to+ondisk.LogicalBlock)
			return false, nil
		}
	}
	ref := sh.tree[from]
	if ref == nil {
		sh.t.g.punch(sh.to.inum, to, to+ondisk.LogicalBlock)
		return false, nil
	}
	share, ok := chain.ShareOf(sh.src, ref)
	if ok && sh.fits(share.Comp, share.Check) && (sh.snap == nil || sh.snap.lends) {
		if clean, err := sh.cleanTail(ctx, ref, n); err != nil {
			return false, err
		} else if clean {
			if sh.snap != nil {
				share.Snap, share.SnapClid = sh.snap.entry.Name, sh.snap.entry.Clid
			}
			sh.t.g.refer(sh.to, to, &source{*share, n, sh.snap})
			return false, nil
		}
	}
	return true, sh.copy(ctx, from, to, n)
}

// where tells what the layer says of a block.
func (n *onode) where(key uint64) (size int, where layerData) {
	if n == nil {
		return 0, dataBelow
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	bytes, where := n.look(key)
	return len(bytes), where
}

// fits reports whether the target may have a block stored like that: with its
// check method, and compressed its way or not at all.
func (sh *sharer) fits(comp ondisk.CompMethod, check ondisk.CheckMethod) bool {
	return check == ondisk.CheckMethod(sh.check&15) && (comp == ondisk.CompNone || comp == ondisk.CompMethod(sh.comp&15))
}

// twin lets the target have a block of the same group, which is then written
// once. The copy in memory is its own: either may change before.
func (sh *sharer) twin(ctx context.Context, n *onode, from, to uint64) (ok bool, err error) {
	o := sh.t.g.overlay
	comp, check, err := sh.t.p.settings(ctx, o, n)
	if err != nil {
		return false, err
	}
	n.mu.RLock()
	b := n.block(from)
	n.mu.RUnlock()
	if b == nil { // inline content
		return false, nil
	}
	// A worker may be encoding it, which takes less than a copy of it costs.
	for try := 0; try == 0 || try < workerTries && n.beingEncoded(b); try++ {
		if try > 0 {
			time.Sleep(workerPause)
		}
		if err := encodeBlock(o, n, b, comp, check); err != nil {
			return false, err
		}
	}
	n.mu.Lock()
	enc := b.enc
	if !b.ready || enc == nil || !sh.fits(enc.Comp, enc.Check) || enc.Check == ondisk.CheckNone || enc.Check == ondisk.CheckDisabled {
		n.mu.Unlock()
		return false, nil
	}
	b.twin = true
	buf := getBuffer(len(b.buf))
	copy(buf, b.buf)
	n.mu.Unlock()

	sh.to.mu.Lock()
	defer sh.to.mu.Unlock()
	o.dropBlocks(sh.to, to, to+ondisk.LogicalBlock)
	c := o.adopt(sh.to, to, buf)
	c.enc, c.ready, c.twin, c.early = enc, true, true, true
	return true, nil
}

// beingEncoded reports whether a worker has the block.
func (n *onode) beingEncoded(b *oblock) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return b.frozen && !b.ready
}

// syncing is a block of the group below as a source; nil if it is not known yet
// how it will be stored.
func (sh *sharer) syncing(n *onode, key uint64) *source {
	n.mu.RLock()
	defer n.mu.RUnlock()
	b := n.block(key)
	if b == nil || !b.ready || b.enc == nil || !sh.fits(b.enc.Comp, b.enc.Check) {
		return nil
	}
	ref := ondisk.Blockref{Key: key, DataOff: ondisk.MakeDataOff(0, b.enc.Radix)}
	b.enc.SetRef(&ref)
	s, ok := chain.ShareOf(n.inum, &ref)
	if !ok {
		return nil
	}
	return &source{*s, len(b.buf), nil}
}

// again shares a block of the source that is a shared one itself and not
// committed yet.
func (sh *sharer) again(ctx context.Context, o *overlay, src *source, from, to uint64, n int) (copied bool, err error) {
	if src.valid > n || !sh.fits(src.Comp, src.Check) {
		return true, sh.copy(ctx, from, to, n)
	}
	s := *src
	if o != sh.t.g.overlay { // by the time it counts the source has the block
		s.Inum, s.Key, s.ModifyTid = sh.src, from, 0
		s.Snap, s.SnapClid, s.snap = "", ondisk.UUID{}, nil
	}
	sh.t.g.refer(sh.to, to, &s)
	return false, nil
}

// cleanTail reports whether a block has nothing but zeros behind n bytes. Other
// writers may leave garbage behind the end of a file.
func (sh *sharer) cleanTail(ctx context.Context, ref *ondisk.Blockref, n int) (bool, error) {
	if n == ondisk.LogicalBlock {
		return true, nil
	}
	block := getBuffer(ondisk.LogicalBlock)
	defer putBuffer(block)
	read := func(ctx context.Context, v *chain.View) error {
		clear(block)
		return wholeBlock(ctx, v, sh.src, ref.Key, block)
	}
	var err error
	if sh.snap != nil {
		err = sh.snap.onView(ctx, read)
	} else {
		s := sh.t.p.acquire()
		defer s.release()
		err = sh.t.p.onTree(ctx, s, read)
	}
	if err != nil {
		return false, err
	}
	for _, c := range block[n:] {
		if c != 0 {
			return false, nil
		}
	}
	return true, nil
}

// copy copies n bytes.
func (sh *sharer) copy(ctx context.Context, from, to uint64, n int) error {
	buf := getBuffer(n)
	defer putBuffer(buf)
	read := sh.t.p.ReadData
	if sh.snap != nil {
		read = sh.snap.readData
	}
	if err := read(ctx, sh.src, from, buf); err != nil {
		return err
	}
	return sh.t.WriteData(ctx, sh.to.inum, to, buf)
}

// SettleData commits what is in memory if more of an inode's bytes [lo, hi) are
// there than ShareData would copy: what is on media can be shared.
func (p *Pool) SettleData(ctx context.Context, inum, lo, hi uint64) error {
	s := p.acquire()
	n := 0
	for _, o := range s.layers() {
		n += o.find(inum).buffered(lo, hi)
	}
	s.release()
	if n <= shareCopies {
		return nil
	}
	return p.Settle(ctx)
}

// buffered counts the blocks of [lo, hi) whose bytes the overlay has.
func (n *onode) buffered(lo, hi uint64) (count int) {
	if n == nil {
		return 0
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	for i, _ := n.search(blockAt(lo)); i < len(n.blocks) && n.blocks[i].key < hi; i++ {
		if n.blocks[i].from == nil {
			count++
		}
	}
	return count
}
