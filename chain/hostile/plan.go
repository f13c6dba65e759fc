package hostile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// header is the number of the volume header among a Plan's blocks.
const header = 0

// A Plan knows every block of a sound volume and all that refers to it. It is
// immutable; images are made from it.
type Plan struct {
	Name   string
	devs   []*memdev.Device // in order of volume
	loff   []uint64
	slot   int64 // where the header in use is
	blocks []block
	sites  []site // in no order of meaning, the same each time
	order  []int  // blocks, referring ones after what they refer to
	byOff  map[uint64]int
	pfs    []string // labels, by number
}

// A block is one of the tree, the freemap or the header.
type block struct {
	ref   ondisk.Blockref // by which it was first met
	sites []int           // that refer to it
	kids  []int           // sites in it
	pfs   map[int]bool    // which PFSs reach it; freemap, super-root and header: none
}

// A site is 128 bytes in a block that hold a blockref.
type site struct {
	in, at int // block, and offset in it
	to     int // block referred to; -1 = none (an entry with a short name)
	ref    ondisk.Blockref
	pfs    int // the first PFS it was met in, -1 = none
}

// NewPlan reads a volume, which must be sound. The devices must not change
// afterwards.
func NewPlan(name string, devs ...*memdev.Device) (*Plan, error) {
	p := &Plan{Name: name, devs: devs, byOff: make(map[uint64]int)}
	var list []ondisk.Device
	for _, d := range devs {
		d.Reopen()
		list = append(list, d)
	}
	set, err := media.Open(list)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	h := set.Header()
	p.slot, p.loff = set.Best.Off, []uint64{0}
	if h.Version > 1 {
		p.loff = slices.Clone(h.VoluLoff[:h.NVolumes])
	}
	p.blocks = []block{{}}
	r := planner{Plan: p, set: set, done: make(map[int]bool)}
	raw := set.Best.Raw
	if err := r.walk(header, srootAt, -1, raw[srootAt:srootAt+512]); err != nil {
		return nil, err
	}
	if err := r.walk(header, freemapAt, -1, raw[freemapAt:freemapAt+512]); err != nil {
		return nil, err
	}
	p.sort()
	p.belong()
	return p, nil
}

// A planner reads what a Plan knows.
type planner struct {
	*Plan
	set  *media.Set
	done map[int]bool // blocks that were read
}

// walk takes in the elements in raw, which is at base of block in.
func (p *planner) walk(in, base, pfs int, raw []byte) (err error) {
	media.Elements(raw, func(i int, ref ondisk.Blockref, eerr error) {
		if eerr == nil && err == nil {
			eerr = p.enter(in, base+i*ondisk.BlockrefSize, pfs, ref)
		}
		if err == nil {
			err = eerr
		}
	})
	return err
}

// enter takes in one element, and what is below it.
func (p *planner) enter(in, at, pfs int, ref ondisk.Blockref) error {
	s, n := site{in: in, at: at, to: -1, ref: ref, pfs: pfs}, len(p.sites)
	p.blocks[in].kids = append(p.blocks[in].kids, n)
	if ref.DataOff != 0 {
		s.to = p.block(&ref)
		p.blocks[s.to].sites = append(p.blocks[s.to].sites, n)
	}
	p.sites = append(p.sites, s)
	if s.to < 0 || p.done[s.to] {
		return nil
	}
	p.done[s.to] = true
	stored, err := p.set.Read(&ref)
	if err != nil {
		return fmt.Errorf("%s is not sound: %v: %w", p.Name, &ref, err)
	}
	switch ref.Type {
	case ondisk.TypeIndirect, ondisk.TypeFreemapNode:
		return p.walk(s.to, 0, pfs, stored)
	case ondisk.TypeInode:
		meta, err := ondisk.DecodeInodeMeta(stored)
		if err != nil || meta.DirectData() {
			return err
		}
		if ref.Flags&ondisk.FlagPFSRoot != 0 {
			pfs = len(p.pfs)
			p.pfs = append(p.pfs, meta.Name())
		}
		return p.walk(s.to, ondisk.InodeMetaSize, pfs, stored[ondisk.InodeMetaSize:])
	}
	return nil
}

// block is the number of the block that ref refers to.
func (p *Plan) block(ref *ondisk.Blockref) int {
	key := ref.DataOff
	if n, ok := p.byOff[key]; ok {
		return n
	}
	p.byOff[key] = len(p.blocks)
	p.blocks = append(p.blocks, block{ref: *ref})
	return len(p.blocks) - 1
}

// sort orders the blocks so that codes can be computed one after the other.
func (p *Plan) sort() {
	height := make([]int, len(p.blocks))
	var of func(n int) int
	of = func(n int) int {
		if height[n] == 0 {
			h := 1
			for _, s := range p.blocks[n].kids {
				if to := p.sites[s].to; to >= 0 {
					h = max(h, of(to)+1)
				}
			}
			height[n] = h
		}
		return height[n]
	}
	of(header)
	for n := range p.blocks {
		p.order = append(p.order, n)
	}
	slices.SortStableFunc(p.order, func(a, b int) int { return cmp.Compare(height[a], height[b]) })
}

// belong finds out which PFSs reach which blocks.
func (p *Plan) belong() {
	var mark func(n, pfs int)
	mark = func(n, pfs int) {
		b := &p.blocks[n]
		if b.pfs[pfs] {
			return
		}
		if b.pfs == nil {
			b.pfs = make(map[int]bool)
		}
		b.pfs[pfs] = true
		for _, s := range b.kids {
			if to := p.sites[s].to; to >= 0 {
				mark(to, pfs)
			}
		}
	}
	pfs := 0
	for _, s := range p.sites {
		if s.ref.Type == ondisk.TypeInode && s.ref.Flags&ondisk.FlagPFSRoot != 0 {
			mark(s.to, pfs)
			pfs++
		}
	}
}

// Elements is the number of blockrefs on the volume.
func (p *Plan) Elements() int { return len(p.sites) }
