package cluster

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	overlayShards = 64
	maxData       = 1 << 63 // no byte of a file is at or beyond it
)

// An overlay is what one transaction group changes: records, entries, data
// blocks, and what it takes away from the layers below. Its map is safe for
// concurrent use; calls about one inode are ordered by the caller.
type overlay struct {
	shards [overlayShards]overlayShard

	// No layer below has an inode with this number or a higher one. It is
	// MaxUint64 until the calls of the group below have ended.
	firstNew atomic.Uint64

	refs atomic.Int64 // states that show the overlay
	bufs [][]byte     // to be used again when the last of them is gone

	taken snapSources // snapshots that blocks of the overlay are in

	load load

	encoding sync.WaitGroup // blocks handed to the workers early
	filling  sync.WaitGroup // incomplete blocks handed to the fillers
	partial  atomic.Bool    // some block was incomplete once
}

type overlayShard struct {
	mu    sync.RWMutex
	nodes map[uint64]*onode
	_     [32]byte // keeps neighbours out of one cache line
}

// load counts what an overlay holds.
type load struct {
	memory  atomic.Int64 // bytes held in memory
	data    atomic.Int64 // bytes that its blocks take on media at most
	large   atomic.Int64 // blocks longer than SmallBlock
	slack   atomic.Int64 // what they would take more if all were of the largest size
	inodes  atomic.Int64 // inodes touched
	leaves  atomic.Int64 // entries and blocks set or deleted
	written atomic.Int64 // bytes of data handed in, for reports
}

// Rough memory of what is not a buffer.
const (
	nodeMemory  = 1024
	entryMemory = 160
)

// An onode is what an overlay knows of one inode. Layers below show through
// where it says nothing.
type onode struct {
	inum uint64

	mu      sync.RWMutex // guards what follows
	rec     *Inode       // nil: as below
	deleted bool         // the inode and everything of it is gone
	sealed  bool         // bytes behind the end of the file below were looked at
	dir     *odir        // nil: no entry changed
	holes   []span       // blocks that are gone below, apart and sorted
	blocks  []*oblock    // by key
	growing *oblock      // incomplete, and left alone while it may be written to its end

	// The first block and its place, so that a small file takes one object.
	one   oblock
	place [1]*oblock
}

func newOverlay() *overlay {
	o := new(overlay)
	o.firstNew.Store(math.MaxUint64)
	return o
}

func (o *overlay) shard(inum uint64) *overlayShard {
	return &o.shards[(inum^inum>>56)%overlayShards]
}

// find returns the onode of inum, nil if the overlay says nothing about it.
func (o *overlay) find(inum uint64) *onode {
	if o == nil {
		return nil
	}
	s := o.shard(inum)
	s.mu.RLock()
	n := s.nodes[inum]
	s.mu.RUnlock()
	return n
}

// node returns the onode of inum, made if need be.
func (o *overlay) node(inum uint64) *onode {
	if n := o.find(inum); n != nil {
		return n
	}
	s := o.shard(inum)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[inum]
	if n == nil {
		n = &onode{inum: inum}
		if s.nodes == nil {
			s.nodes = make(map[uint64]*onode)
		}
		s.nodes[inum] = n
		o.load.inodes.Add(1)
		o.load.memory.Add(nodeMemory)
	}
	return n
}

// isNew reports that no layer below can have the inode. The attributes of an
// inode are younger than the inode.
func (o *overlay) isNew(inum uint64) bool {
	return inum&^ondisk.AttrBit >= o.firstNew.Load()
}

// put sets the record of inum.
func (o *overlay) put(in *Inode) {
	n := o.node(in.Meta.Inum)
	n.mu.Lock()
	defer n.mu.Unlock()
	if in.Meta.DirectData() {
		o.dropBlocks(n, 0, maxData)
		if !o.isNew(n.inum) {
			n.addHole(0, maxData)
		}
	} else if n.rec != nil && n.rec.Meta.DirectData() {
		o.unfold(n)
	}
	n.rec, n.deleted = in, false
}

// unfold turns inline content of this overlay into a block, for the record
// is about to say that there is no such content.
func (o *overlay) unfold(n *onode) {
	content := n.rec.Inline[:min(len(n.rec.Inline), int(min(n.rec.Meta.Size, ondisk.InlineMax)))]
	if len(content) > 0 && n.block(0) == nil {
		o.store(n, 0, 0, content)
	}
}

// remove deletes inum with everything below it.
func (o *overlay) remove(inum uint64) {
	n := o.node(inum)
	n.mu.Lock()
	o.dropBlocks(n, 0, maxData)
	if n.dir != nil {
		o.load.leaves.Add(-int64(n.dir.count))
		o.load.memory.Add(-int64(n.dir.count) * entryMemory)
	}
	n.rec, n.dir, n.holes, n.deleted = nil, nil, nil, true
	n.mu.Unlock()
	if !o.isNew(inum) {
		return
	}
	s := o.shard(inum)
	s.mu.Lock()
	delete(s.nodes, inum)
	s.mu.Unlock()
	o.load.inodes.Add(-1)
	o.load.memory.Add(-nodeMemory)
}

// record returns what the overlay says of an inode's record.
func (o *overlay) record(inum uint64) (in *Inode, known bool) {
	n := o.find(inum)
	if n == nil {
		return nil, false
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.rec, n.rec != nil || n.deleted
}

// unref ends the use by one state.
func (o *overlay) unref() {
	if o == nil || o.refs.Add(-1) > 0 {
		return
	}
	for _, b := range o.bufs {
		putBuffer(b)
	}
	o.bufs = nil
	o.taken.close()
}
