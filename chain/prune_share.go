package chain

import "github.com/anvilfs/anvilfs/ondisk"

// maxSharedPlaces bounds what a SharedPlaces remembers, to about 16 MiB.
const maxSharedPlaces = 1 << 18

// A SharedPlaces lets the changes of a Diff share blocks where the source does:
// what has several places there is copied once. It belongs to one view of the
// source and one target, over all calls of Diff that bring the one to the other.
// What the target had before is not relied on.
type SharedPlaces struct {
	places map[uint64]sharedPlace          // applied, by address at the source
	fresh  map[uint64]sharedPlace          // emitted, and not applied yet
	blocks map[uint64]*ondisk.EncodedBlock // of these
}

type sharedPlace struct {
	inum, key uint64
	modify    ondisk.Tid
}

// NewSharedPlaces returns an empty one.
func NewSharedPlaces() *SharedPlaces {
	p := &SharedPlaces{places: make(map[uint64]sharedPlace)}
	p.begin()
	return p
}

func (p *SharedPlaces) begin() {
	p.fresh, p.blocks = make(map[uint64]sharedPlace), make(map[uint64]*ondisk.EncodedBlock)
}

// Applied says that all that was emitted so far is in the target.
func (p *SharedPlaces) Applied() {
	for off, at := range p.fresh {
		if len(p.places) < maxSharedPlaces {
			p.places[off] = at
		}
	}
	p.begin()
}

// take completes a change that brings the block at ref, if it was emitted before.
func (p *SharedPlaces) take(c *Change, ref *ondisk.Blockref) bool {
	if b := p.blocks[ref.Off()]; b != nil {
		c.Block, c.Twin = b, true
		return true
	}
	at, ok := p.places[ref.Off()]
	if !ok {
		return false
	}
	from := *ref
	from.Key, from.ModifyTid = at.key, at.modify
	c.Share, ok = ShareOf(at.inum, &from)
	return ok
}

// note remembers a change that brings the block at ref.
func (p *SharedPlaces) note(c *Change, ref *ondisk.Blockref) {
	c.Twin = true
	p.fresh[ref.Off()] = sharedPlace{c.Inum, c.Key, c.ModifyTid}
	p.blocks[ref.Off()] = c.Block
}
