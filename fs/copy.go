package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// What one call of Copy moves at most; the caller comes again. Each call is one
// transaction.
const (
	copyMax  = 1 << 20 // bytes that are copied
	shareMax = 1 << 30 // bytes of blocks that both files have afterwards
)

// Copy copies a range between files, or within one, and returns how much it
// copied. Ranges of one file must not overlap. Where both ranges lie alike in
// their blocks, both files have the same blocks afterwards and none is copied:
// what either writes later is its own.
func (f *FS) Copy(ctx context.Context, src, srcOff, dst, dstOff, length uint64, kill bool) (uint64, error) {
	if end := min(srcOff+min(length, shareMax), sizeMax); alike(srcOff, dstOff) && length >= ondisk.LogicalBlock {
		// Before the locks: a commit waits for calls that may want them.
		if err := f.store.SettleData(ctx, src, min(srcOff, end), end); err != nil {
			return 0, err
		}
	}
	s := f.lockset()
	defer s.unlock()
	s.cover(min(src, dst), max(src, dst))
	rec, err := s.record(ctx, src)
	if err != nil {
		return 0, err
	}
	return f.copyLocked(ctx, s, &copying{from: rec, fromFS: f, srcOff: srcOff, dstOff: dstOff}, dst, length, kill)
}

// CopyFrom is Copy out of a snapshot, which snap shows.
func (f *FS) CopyFrom(ctx context.Context, snap *FS, name cluster.SnapshotName, src, srcOff, dst, dstOff, length uint64, kill bool) (uint64, error) {
	rec, err := snap.peek(ctx, src)
	if err != nil {
		return 0, err
	}
	s := f.lockset()
	defer s.unlock()
	s.cover(dst)
	return f.copyLocked(ctx, s, &copying{from: rec, fromFS: snap, snap: &name, srcOff: srcOff, dstOff: dstOff}, dst, length, kill)
}

// copyLocked does it with the inodes locked that may change.
func (f *FS) copyLocked(ctx context.Context, s *lockset, c *copying, dst, length uint64, kill bool) (uint64, error) {
	from, srcOff, dstOff := c.from, c.srcOff, c.dstOff
	to, err := s.record(ctx, dst)
	if err != nil {
		return 0, err
	}
	switch {
	case from.Meta.Type != ondisk.ObjFile || to.Meta.Type != ondisk.ObjFile:
		return 0, errInvalid
	case to.Meta.UFlags&(flagsImmutable|flagsAppend) != 0:
		return 0, errPerm
	case srcOff >= from.Meta.Size:
		return 0, nil
	}
	length = min(length, from.Meta.Size-srcOff, f.shareable())
	if dstOff > sizeMax || length > sizeMax-dstOff {
		return 0, errTooBig
	}
	if c.snap == nil && from.Meta.Inum == dst && srcOff < dstOff+length && dstOff < srcOff+length {
		return 0, errInvalid
	}
	c.to, c.length = to, length
	if c.plan() {
		return f.copyShared(ctx, s.node(dst), c, kill)
	}
	buf := make([]byte, min(length, copyMax))
	if _, err := c.fromFS.readLocked(ctx, from, srcOff, buf); err != nil {
		return 0, err
	}
	return uint64(len(buf)), f.writeLocked(ctx, s.node(dst), dstOff, buf, kill)
}

// shareable is how much one call shares: so much that the tables for it fit into
// half of the space there is, as if each had room for a few blocks only.
func (f *FS) shareable() uint64 {
	const blockCost, least = 2048, 64
	blocks := max(f.store.StatFS().Avail/2/blockCost, least)
	return min(blocks*ondisk.LogicalBlock, shareMax)
}

// alike reports whether two offsets lie at the same place of a block.
func alike(a, b uint64) bool { return (a^b)%ondisk.LogicalBlock == 0 }

// A copying is one call of Copy, cut at the blocks.
type copying struct {
	from, to               *Record
	fromFS                 *FS
	snap                   *cluster.SnapshotName // that fromFS shows; nil: it is the target's
	srcOff, dstOff, length uint64
	head, whole            uint64 // bytes before the first block, and of the blocks
}

// plan finds the blocks; false: there are none. The last one of the source
// counts as whole if the target ends with it.
func (c *copying) plan() bool {
	if c.from.Meta.DirectData() || !alike(c.srcOff, c.dstOff) {
		return false
	}
	c.head = -c.srcOff % ondisk.LogicalBlock
	if c.length < c.head+ondisk.LogicalBlock {
		return false
	}
	c.whole = c.length - c.head
	end, dstEnd := c.srcOff+c.length, c.dstOff+c.length
	if end != c.from.Meta.Size || dstEnd < c.to.Meta.Size {
		c.whole -= end % ondisk.LogicalBlock
	}
	return c.whole > 0
}

// copyShared makes a copy by reference, as one transaction: what lies before and
// behind the blocks is copied.
func (f *FS) copyShared(ctx context.Context, n *node, c *copying, kill bool) (uint64, error) {
	dropCaps, err := f.hasCaps(ctx, n)
	if err != nil {
		return 0, err
	}
	grant, err := f.admitWrite(ctx, c.to, c.dstOff, c.length)
	if err != nil {
		return 0, err
	}
	defer grant.end()
	cost := writeCost(2 * ondisk.LogicalBlock)
	shared := cluster.ShareCost(c.whole)
	cost.Leaves, cost.Bytes = cost.Leaves+shared.Leaves, cost.Bytes+shared.Bytes
	t, err := f.store.Begin(ctx, cost)
	if err != nil {
		return 0, err
	}
	defer t.End()
	grant.charge(t, 0, 0)
	if err := f.prepareTail(ctx, t, c.to, c.dstOff); err != nil {
		return 0, err
	}
	done, err := f.copyParts(ctx, t, c)
	if err != nil && done == 0 {
		return 0, err
	}
	r := &Record{Meta: c.to.Meta} // an error behind the beginning is met by the next call
	r.Meta.OpFlags &^= ondisk.OpDirectData
	r.Meta.Size = max(r.Meta.Size, c.dstOff+done)
	f.putWritten(ctx, t, n, r, kill, dropCaps)
	return done, nil
}

// copyParts copies up to the first block, shares, and copies what is left.
func (f *FS) copyParts(ctx context.Context, t Txn, c *copying) (done uint64, err error) {
	bytes := func(n uint64) error {
		if n == 0 {
			return nil
		}
		buf := make([]byte, n)
		if _, err := c.fromFS.readLocked(ctx, c.from, c.srcOff+done, buf); err != nil {
			return err
		}
		if err := t.WriteData(ctx, c.to.Meta.Inum, c.dstOff+done, buf); err != nil {
			return err
		}
		done += n
		return nil
	}
	if err := bytes(c.head); err != nil {
		return 0, err
	}
	n, err := c.share(ctx, t, done)
	done += n
	if err != nil || n < c.whole {
		return done, err
	}
	return done, bytes(c.length - done)
}

// share gives the target the whole blocks, which begin after so many bytes.
func (c *copying) share(ctx context.Context, t Txn, after uint64) (uint64, error) {
	if c.snap == nil {
		return t.ShareData(ctx, c.from.Meta.Inum, c.srcOff+after, c.to.Meta.Inum, c.dstOff+after, c.whole)
	}
	return t.ShareSnapshot(ctx, *c.snap, c.from.Meta.Inum, c.srcOff+after, c.to.Meta.Inum, c.dstOff+after, c.whole)
}
