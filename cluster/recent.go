package cluster

import (
	"bytes"
	"context"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	recentShare = 32  // the index takes this part of Options.Memory
	recentEntry = 128 // bytes that one block takes in it, about
	recentRadix = 12  // smaller blocks are not worth a second look
)

// A recent remembers where the blocks written lately are, to find equals of
// them when a group is committed. It belongs to the commit loop. What it says is
// a guess: who is found is read and compared before it is shared.
type recent struct {
	places map[BlockID]placeOf
	order  []BlockID // round and round: the next to be forgotten is at at
	at     int
	batch  uint64 // counts calls of merge
}

// A placeOf is where a block was put.
type placeOf struct {
	inum, key uint64
	batch     uint64
	change    int // in that batch
}

func newRecent(limit int) *recent {
	return &recent{places: make(map[BlockID]placeOf), order: make([]BlockID, max(limit, 1024))}
}

// merge lets the blocks of a batch be those that are there already, in the batch
// or on media, where they are equal. What cannot be compared is written.
func (r *recent) merge(ctx context.Context, p *Pool, b *chain.Batch) {
	r.batch++
	var s *state
	for i := range b.Changes {
		c := &b.Changes[i]
		if c.Block == nil || c.Twin || c.Block.Radix < recentRadix {
			continue
		}
		ref := ondisk.Blockref{Key: c.Key, DataOff: ondisk.MakeDataOff(0, c.Block.Radix)}
		c.Block.SetRef(&ref)
		if _, ok := chain.ShareOf(c.Inum, &ref); !ok {
			continue
		}
		id := blockID(&ref)
		at, ok := r.places[id]
		switch {
		case ok && at.batch == r.batch:
			if first := &b.Changes[at.change]; first.Block != nil && bytes.Equal(first.Block.Bytes, c.Block.Bytes) {
				first.Twin, c.Twin, c.Block = true, true, first.Block
			}
			continue
		case ok:
			if s == nil {
				s = p.acquire()
				defer s.release()
			}
			if share := p.equalOnMedia(ctx, s, at.inum, at.key, &ref, c.Block.Bytes); share != nil {
				c.Share, c.Block = share, nil
				continue // what was there first stays the one that is known
			}
		}
		r.note(id, placeOf{c.Inum, c.Key, r.batch, i})
	}
}

// note remembers a place, and forgets the oldest for it if need be.
func (r *recent) note(id BlockID, at placeOf) {
	if _, known := r.places[id]; !known {
		delete(r.places, r.order[r.at])
		r.order[r.at] = id
		r.at = (r.at + 1) % len(r.order)
	}
	r.places[id] = at
}

// equalOnMedia is the block at (inum, key) of the tree if it is stored as these
// bytes, like ref says; nil if it is not, or nobody can tell.
func (p *Pool) equalOnMedia(ctx context.Context, s *state, inum, key uint64, ref *ondisk.Blockref, stored []byte) (share *chain.Share) {
	if _, where := s.logged.find(inum).where(key); where != dataBelow {
		return nil // what the tree has there is going to be replaced
	}
	err := p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
		share = nil
		there, ok, err := dataRef(ctx, v, inum, key)
		if err != nil || !ok || blockID(&there) != blockID(ref) {
			return err
		}
		blk, err := v.ReadBlock(ctx, &there)
		if err == nil && bytes.Equal(blk.Bytes, stored) {
			share, _ = chain.ShareOf(inum, &there)
		}
		return err
	})
	if err != nil {
		return nil
	}
	return share
}
