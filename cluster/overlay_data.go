package cluster

import (
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A span is the bytes [lo, hi) of a file, whole blocks.
type span struct{ lo, hi uint64 }

// An oblock is the content of one logical block. buf holds its valid bytes;
// the rest of the block is zero.
type oblock struct {
	key    uint64
	buf    []byte
	frozen bool // someone reads buf without the lock: replace, don't change
	shared bool // buf belongs to enc
	early  bool // was handed to the workers once
	ready  bool // enc and hole are those of buf
	hole   bool // all zero, and the settings let that be a hole
	enc    *ondisk.EncodedBlock
	twin   bool    // another block of the overlay may have the same enc
	from   *source // the content is another block's, and there is no buf; nil = it is in buf
	partial
}

// blockAt is the key of the block that holds off.
func blockAt(off uint64) uint64 { return off &^ (ondisk.LogicalBlock - 1) }

// roundUp is the first block boundary at or after off.
func roundUp(off uint64) uint64 { return blockAt(off + ondisk.LogicalBlock - 1) }

// bufferPools hold buffers by radix.
var bufferPools [ondisk.MaxRadix + 1]sync.Pool

// getBuffer returns n bytes of any content in a buffer whose capacity is the
// size of a block on media.
func getBuffer(n int) []byte {
	r := ondisk.DataRadix(max(n, 1))
	if p, ok := bufferPools[r].Get().(*[]byte); ok {
		return (*p)[:n]
	}
	return ondisk.AlignedBuffer(1 << r)[:n]
}

// putBuffer takes back a buffer that nobody will look at again.
func putBuffer(b []byte) {
	if c := cap(b); c >= ondisk.MinBlock && c <= ondisk.MaxBlock && c&(c-1) == 0 {
		b = b[:c]
		bufferPools[ondisk.DataRadix(c)].Put(&b)
	}
}

// search returns where the block with key is, or would be.
func (n *onode) search(key uint64) (int, bool) {
	if k := len(n.blocks); k == 0 || n.blocks[k-1].key < key {
		return k, false
	}
	return slices.BinarySearchFunc(n.blocks, key, func(b *oblock, key uint64) int {
		switch {
		case b.key < key:
			return -1
		case b.key > key:
			return 1
		}
		return 0
	})
}

func (n *onode) block(key uint64) *oblock {
	if i, ok := n.search(key); ok {
		return n.blocks[i]
	}
	return nil
}

// insert makes a block that is not there yet.
func (n *onode) insert(key uint64) *oblock {
	b := &n.one
	if n.blocks == nil {
		n.blocks = n.place[:0]
		*b = oblock{key: key}
	} else {
		b = &oblock{key: key}
	}
	i, _ := n.search(key)
	n.blocks = slices.Insert(n.blocks, i, b)
	return b
}

// hidden reports that the block at key is gone below.
func (n *onode) hidden(key uint64) bool {
	for _, h := range n.holes {
		if key < h.lo {
			return false
		}
		if key < h.hi {
			return true
		}
	}
	return false
}

// addHole joins [lo, hi) to the holes.
func (n *onode) addHole(lo, hi uint64) { n.holes = joinSpan(n.holes, span{lo, hi}) }

// joinSpan adds s to sorted spans that are apart from each other.
func joinSpan(spans []span, s span) []span {
	i := 0
	for i < len(spans) && spans[i].hi < s.lo {
		i++
	}
	j := i
	for j < len(spans) && spans[j].lo <= s.hi {
		s.lo, s.hi = min(s.lo, spans[j].lo), max(s.hi, spans[j].hi)
		j++
	}
	return slices.Replace(spans, i, j, s)
}

// A layerData is what a layer says of a block.
type layerData uint8

const (
	dataBelow  layerData = iota // nothing: look below
	dataHole                    // zeros
	dataHere                    // it has the bytes
	dataShared                  // it knows which block of the layers below has them
	dataPart                    // it has some of the bytes, and those below have the others
)

// look tells where the content of the block at key is; bytes is valid while
// the lock is held.
func (n *onode) look(key uint64) (bytes []byte, where layerData) {
	if n == nil {
		return nil, dataBelow
	}
	if b := n.block(key); b != nil && b.from != nil {
		return nil, dataShared
	} else if b != nil {
		return b.buf, dataHere
	}
	if n.rec != nil && n.rec.Meta.DirectData() {
		if size := n.rec.Meta.Size; key == 0 && size > 0 {
			return n.rec.Inline[:min(uint64(len(n.rec.Inline)), size)], dataHere
		}
		return nil, dataHole
	}
	if n.deleted || n.hidden(key) {
		return nil, dataHole
	}
	return nil, dataBelow
}

// copyOut fills dst from byte at of the block on, if the layer has it.
func (n *onode) copyOut(key uint64, at int, dst []byte) layerData {
	if n == nil {
		return dataBelow
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	bytes, where := n.look(key)
	switch where {
	case dataHere:
		if b := n.block(key); b != nil && b.lacks(at, at+len(dst)) {
			return dataPart
		}
		clear(dst[copy(dst, bytes[min(at, len(bytes)):]):])
	case dataHole:
		clear(dst)
	}
	return where
}

// validLen is how many bytes of the block the layer has, itself or elsewhere.
func (n *onode) validLen(key uint64) (int, layerData) {
	if n == nil {
		return 0, dataBelow
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	bytes, where := n.look(key)
	if where == dataShared {
		return n.block(key).from.valid, dataHere
	}
	return len(bytes), where
}

// store writes p at byte at of the block at key, which is made empty if it is
// not there. The lock is held.
func (o *overlay) store(n *onode, key uint64, at int, p []byte) *oblock {
	b := n.block(key)
	if b == nil {
		b = n.insert(key)
		o.load.leaves.Add(1)
	}
	end := at + len(p)
	o.resize(b, max(len(b.buf), end))
	copy(b.buf[at:], p)
	b.known(at, end)
	return b
}

// resize makes the valid length n and buf changeable. What it adds is zero.
func (o *overlay) resize(b *oblock, n int) {
	old := len(b.buf)
	o.load.memory.Add(-b.shareMemory())
	b.ready, b.hole, b.enc, b.twin, b.from = false, false, nil, false, nil
	if n > cap(b.buf) || b.frozen || b.shared {
		buf := getBuffer(n)
		copy(buf, b.buf)
		o.load.memory.Add(int64(cap(buf) - cap(b.buf)))
		if !b.frozen && !b.shared && cap(b.buf) > 0 {
			putBuffer(b.buf)
		}
		b.buf, b.frozen, b.shared = buf, false, false
	} else {
		b.buf = b.buf[:n]
	}
	if n > old {
		clear(b.buf[old:n])
	}
	b.known(n, ondisk.LogicalBlock)
	o.load.addData(old, n)
}

// addData takes account of a block whose valid length was changed.
func (l *load) addData(was, is int) {
	l.data.Add(mediaSize(is) - mediaSize(was))
	l.slack.Add(slackOf(is) - slackOf(was))
	switch {
	case was <= SmallBlock && is > SmallBlock:
		l.large.Add(1)
	case was > SmallBlock && is <= SmallBlock:
		l.large.Add(-1)
	}
}

func slackOf(n int) int64 {
	if n == 0 {
		return 0
	}
	return ondisk.LogicalBlock - mediaSize(n)
}

// mediaSize is the largest number of bytes that n valid ones take on media.
func mediaSize(n int) int64 {
	if n == 0 {
		return 0
	}
	return 1 << ondisk.DataRadix(n)
}

// dropBlocks forgets the blocks of [lo, hi). The lock is held.
func (o *overlay) dropBlocks(n *onode, lo, hi uint64) {
	i, _ := n.search(lo)
	j, _ := n.search(hi)
	for _, b := range n.blocks[i:j] {
		o.load.memory.Add(-int64(cap(b.buf)) - b.shareMemory())
		o.load.addData(len(b.buf), 0)
		o.load.leaves.Add(-1)
		if !b.frozen && !b.shared {
			putBuffer(b.buf)
		}
		*b = oblock{key: b.key, early: true, frozen: true}
	}
	n.blocks = slices.Delete(n.blocks, i, j)
}

// punch makes the blocks of [lo, hi) holes, whatever is below.
func (o *overlay) punch(inum, lo, hi uint64) {
	if lo >= hi {
		return
	}
	n := o.node(inum)
	n.mu.Lock()
	defer n.mu.Unlock()
	o.dropBlocks(n, lo, hi)
	if !o.isNew(inum) {
		before := len(n.holes)
		n.addHole(lo, hi)
		o.load.leaves.Add(int64(len(n.holes) - before))
	}
}
