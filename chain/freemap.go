package chain

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	segsPerZone   = ondisk.ZoneSize / ondisk.SegmentSize
	chunksPerZone = ondisk.ZoneSize / ondisk.ChunkSize
	// maxCleanZones bounds the leaves that are kept in memory unchanged.
	maxCleanZones = 512
)

// A freemap is the map of free chunks: the tree of nodes and leaves on media,
// and in memory the leaves in use. Whoever has the volume's turn owns it.
//
// Freemap blocks need no allocation: each has eight places in the reserved
// segment of its zone and moves to the next one when it changes, so that what
// older headers refer to stays.
type freemap struct {
	v      *Volume
	root   fmNode           // level 6: the four blockrefs of the header
	zones  map[uint64]*zone // by number; every zone of the volume that was looked at
	free   uint64           // allocator_free of the next header
	usable uint64           // bytes that allocate can hand out, fragments included
	total  uint64           // bytes that blocks can ever be in
	runs   uint64           // in the zones that were read
	looked uint64           // zones below it were looked at for runs
	alloc  allocator
	holes  bool // nodes were lost: what has no leaf is not free (Options.DoubtFreemap)
}

// A fmNode is an array of freemap blockrefs, sorted by key.
type fmNode struct {
	level uint8 // 2..5; 6 = in the header
	kids  []*fmElem
}

// A fmElem is a blockref and, for a node, the array behind it.
type fmElem struct {
	ref   ondisk.Blockref // DataOff 0: never written yet
	node  *fmNode         // nil for a leaf
	dirty bool
}

// A zone is a leaf: 256 segments of 4 MiB.
type zone struct {
	n       uint64
	elem    *fmElem // nil: the leaf is not in the tree yet
	lo, hi  int     // segments [lo, hi) can hold blocks
	entries *[ondisk.FreemapRefs]ondisk.FreemapEntry
	avail   uint64             // free bytes in [lo, hi)
	runs    uint64             // free runs in [lo, hi), as last counted
	tooBig  [segsPerZone]uint8 // smallest radix that found no place, 0 = unknown
	bad     bool               // the leaf cannot be read: nothing is allocated here
}

// keyBits is the range of a blockref at a level.
func levelBits(level uint8) uint8 { return ondisk.ZoneRadix + 8*(level-1) }

// newFreemap reads the nodes that the header refers to; leaves are read when
// they are needed.
func newFreemap(ctx context.Context, v *Volume, h *ondisk.VolumeHeader) (*freemap, error) {
	fm := &freemap{v: v, root: fmNode{level: 6}, zones: make(map[uint64]*zone), free: h.AllocatorFree}
	fm.alloc.init()
	var refs []ondisk.Blockref
	for i := range h.Freemap {
		if h.Freemap[i].Type != ondisk.TypeEmpty {
			refs = append(refs, h.Freemap[i])
		}
	}
	if err := fm.loadNode(ctx, &fm.root, refs); err != nil {
		return nil, fmt.Errorf("freemap: %w", err)
	}
	g := v.geo.Load()
	fm.total = roomFrom(g.beg, g.total)
	fm.usable = freeOf(h, fm.total)
	return fm, nil
}

func (fm *freemap) loadNode(ctx context.Context, n *fmNode, refs []ondisk.Blockref) error {
	for i := range refs {
		e := &fmElem{ref: refs[i]}
		if err := fm.loadElem(ctx, n, e); err != nil {
			if !fm.v.opts.DoubtFreemap {
				return err
			}
			fm.v.log.Warn("part of the freemap is lost", "device", fm.v.Name(), "err", err)
			fm.holes = true
			continue
		}
		n.kids = append(n.kids, e)
	}
	return nil
}

// loadElem reads what is behind e, which is to be in n.
func (fm *freemap) loadElem(ctx context.Context, n *fmNode, e *fmElem) error {
	if e.ref.Type == ondisk.TypeFreemapLeaf {
		return nil
	}
	level := (e.ref.KeyBits-ondisk.ZoneRadix)/8 + 1
	if level >= n.level {
		return damaged("%v below a node of level %d", &e.ref, n.level)
	}
	block, err := fm.v.readRaw(ctx, &e.ref)
	if err != nil {
		return err
	}
	kids, err := ondisk.DecodeBlockrefs(block)
	if err != nil {
		return fmt.Errorf("%v: %w", &e.ref, err)
	}
	for k := range kids {
		leaf := kids[k].Type == ondisk.TypeFreemapLeaf || kids[k].Type == ondisk.TypeFreemapNode
		if !leaf || kids[k].Key < e.ref.Key || kids[k].LastKey() > e.ref.LastKey() {
			return damaged("%v: %v does not belong there", &e.ref, &kids[k])
		}
	}
	e.node = &fmNode{level: level}
	return fm.loadNode(ctx, e.node, kids)
}

// zoneCount is the number of begun GiBs.
func (fm *freemap) zoneCount() uint64 {
	return zonesOf(fm.v.geo.Load().total)
}

// bounds returns the segments [lo, hi) of zone n that blocks can be in.
func (fm *freemap) bounds(n uint64) (lo, hi int) {
	g := fm.v.geo.Load()
	return segments(n, g.beg, g.total)
}

// find returns the leaf of zone n in the tree, nil if there is none.
func (fm *freemap) find(n uint64) *fmElem {
	key := n * ondisk.ZoneSize
	for node := &fm.root; ; {
		e := node.covering(key)
		if e == nil || e.node == nil {
			return e
		}
		node = e.node
	}
}

// covering returns the element whose range holds key.
func (n *fmNode) covering(key uint64) *fmElem {
	i, ok := slices.BinarySearchFunc(n.kids, key, func(e *fmElem, k uint64) int {
		switch {
		case e.ref.LastKey() < k:
			return -1
		case e.ref.Key > k:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return n.kids[i]
}

// zone returns zone n with its leaf loaded, or made if there is none.
func (fm *freemap) zone(n uint64) *zone {
	z := fm.zones[n]
	if z == nil {
		z = fm.newZone(n)
	}
	if z.entries == nil && !z.bad {
		fm.load(z)
	}
	return z
}

func (fm *freemap) newZone(n uint64) *zone {
	z := &zone{n: n, elem: fm.find(n)}
	z.lo, z.hi = fm.bounds(n)
	fm.zones[n] = z
	return z
}

// load reads the leaf of z. A leaf that cannot be read loses the space of its
// zone until it is repaired, but stops nothing.
func (fm *freemap) load(z *zone) {
	if err := fm.read(z); err != nil {
		fm.v.log.Error("freemap leaf unreadable: its zone is left alone", "device", fm.v.Name(), "zone", z.n, "err", err)
		z.bad, z.avail = true, 0
		fm.countRuns(z)
	}
}

// read is load that leaves z as it is if its leaf cannot be read.
func (fm *freemap) read(z *zone) error {
	z.tooBig = [segsPerZone]uint8{}
	switch {
	case z.elem == nil && fm.holes:
		fm.fill(z)
	case z.elem == nil:
		z.entries = newLeaf(z.lo, z.hi)
	default:
		block, err := fm.v.readRaw(context.Background(), &z.elem.ref)
		if err == nil {
			z.entries, err = ondisk.DecodeFreemapLeaf(block)
		}
		if err != nil && fm.v.opts.DoubtFreemap {
			fm.fill(z)
			break
		}
		if err != nil {
			z.entries = nil
			return err
		}
	}
	z.avail = 0
	for i := z.lo; i < z.hi; i++ {
		e := &z.entries[i]
		e.Avail = uint32(e.FreeChunks()) * ondisk.ChunkSize
		z.avail += uint64(e.Avail)
	}
	fm.countRuns(z)
	return nil
}

// newLeaf is the leaf of a zone in which nothing was ever allocated.
func newLeaf(lo, hi int) *[ondisk.FreemapRefs]ondisk.FreemapEntry {
	leaf := new([ondisk.FreemapRefs]ondisk.FreemapEntry)
	for i := range leaf {
		e := &leaf[i]
		if i >= lo && i < hi {
			e.Avail = ondisk.SegmentSize
			continue
		}
		e.Linear = ondisk.SegmentSize
		for w := range e.Bitmap {
			e.Bitmap[w] = ^uint64(0)
		}
	}
	return leaf
}

// touch marks z for the next commit, and gives it a place in the tree.
func (fm *freemap) touch(z *zone) {
	if z.elem == nil {
		z.elem = &fmElem{ref: newFreemapRef(ondisk.TypeFreemapLeaf, 1, z.n*ondisk.ZoneSize)}
		binary.LittleEndian.PutUint64(z.elem.ref.Check[8:], uint64(z.hi-z.lo)*ondisk.SegmentSize)
		fm.insert(&fm.root, z.elem)
	}
	z.elem.dirty = true
}

func newFreemapRef(typ ondisk.BlockType, level uint8, key uint64) ondisk.Blockref {
	ref := ondisk.Blockref{Type: typ, Key: key, KeyBits: levelBits(level)}
	ref.SetMethods(ondisk.CheckFreemap, ondisk.CompNone)
	return ref
}

// insert puts a leaf into the deepest array that covers it. A full array
// first gets a node one level above its smallest elements, at the lowest of
// them, which takes over what it covers.
func (fm *freemap) insert(n *fmNode, leaf *fmElem) {
	for {
		if e := n.covering(leaf.ref.Key); e != nil {
			e.dirty = true
			n = e.node
			continue
		}
		limit := ondisk.FreemapRefs
		if n.level == 6 {
			limit = ondisk.InodeRefs
		}
		if len(n.kids) < limit {
			break
		}
		n.grow()
	}
	n.kids = append(n.kids, leaf)
	n.sort()
}

func (n *fmNode) sort() {
	slices.SortFunc(n.kids, func(a, b *fmElem) int {
		if a.ref.Key < b.ref.Key {
			return -1
		}
		return 1
	})
}

func (n *fmNode) grow() {
	low := n.kids[0]
	for _, e := range n.kids {
		if e.ref.KeyBits < low.ref.KeyBits {
			low = e
		}
	}
	level := (low.ref.KeyBits-ondisk.ZoneRadix)/8 + 2
	key := low.ref.Key &^ (1<<levelBits(level) - 1)
	node := &fmElem{ref: newFreemapRef(ondisk.TypeFreemapNode, level, key), node: &fmNode{level: level}, dirty: true}
	kept := n.kids[:0:0]
	for _, e := range n.kids {
		if e.ref.Key >= key && e.ref.Key <= node.ref.LastKey() {
			node.node.kids = append(node.node.kids, e)
		} else {
			kept = append(kept, e)
		}
	}
	n.kids = append(kept, node)
	n.sort()
}

// write puts every changed leaf and node into its next copy, children first,
// passes the blocks to put, and returns the header's four blockrefs.
func (fm *freemap) write(tid, modify ondisk.Tid, put func(off uint64, block []byte)) (refs [ondisk.InodeRefs]ondisk.Blockref) {
	for _, e := range fm.root.kids {
		fm.writeElem(e, tid, modify, put)
	}
	for i, e := range fm.root.kids {
		refs[i] = e.ref
	}
	return refs
}

// writeElem writes e if it or anything below changed.
func (fm *freemap) writeElem(e *fmElem, tid, modify ondisk.Tid, put func(off uint64, block []byte)) bool {
	changed := e.dirty
	if e.node != nil {
		for _, kid := range e.node.kids {
			changed = fm.writeElem(kid, tid, modify, put) || changed
		}
	}
	if !changed {
		return false
	}
	e.dirty = false
	block := ondisk.AlignedBuffer(ondisk.FreemapBlockSize)
	level := uint8(1)
	if e.node != nil {
		level = e.node.level
		refs := make([]ondisk.Blockref, len(e.node.kids))
		var bytes uint64
		for i, kid := range e.node.kids {
			refs[i] = kid.ref
			bytes += uint64(kid.ref.Size())
		}
		ondisk.EncodeBlockrefs(block, refs)
		e.ref.SetCounts(bytes, 0)
	} else {
		z := fm.zones[e.ref.Key/ondisk.ZoneSize]
		ondisk.EncodeFreemapLeaf(block, z.entries)
		binary.LittleEndian.PutUint32(e.ref.Check[4:], ^uint32(0))
	}
	copyNo := uint64(0)
	if e.ref.DataOff != 0 {
		copyNo = (freemapCopy(&e.ref) + 1) % ondisk.FreemapCopies
	}
	off := e.ref.Key + (1+5*copyNo+uint64(level)-1)*ondisk.MaxBlock
	e.ref.DataOff = ondisk.MakeDataOff(off, ondisk.FreemapBlockRadix)
	e.ref.MirrorTid, e.ref.ModifyTid = tid, modify
	e.ref.SetCheck(block)
	put(off, block)
	return true
}

// freemapCopy is which of its eight places a freemap block is in.
func freemapCopy(ref *ondisk.Blockref) uint64 {
	return ((ref.Off()-ref.Key)/ondisk.MaxBlock - 1) / 5 % ondisk.FreemapCopies
}

// trim forgets unchanged leaves when there are many.
func (fm *freemap) trim() {
	if len(fm.zones) <= maxCleanZones {
		return
	}
	for n, z := range fm.zones {
		if z.elem != nil && !z.elem.dirty && z.entries != nil && !fm.alloc.inUse(n) {
			// Bounds and avail stay: they tell whether to load it again.
			z.entries = nil
		}
	}
}
