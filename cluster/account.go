package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Usage is what an account holds (see ondisk/account.go).
type Usage struct {
	Bytes, Inodes uint64 // as of the last commit
	// More is how much calls that are not committed yet may have added at
	// most: as if nothing compressed, and nothing was overwritten or deleted.
	More, MoreInodes uint64
	// Gave: a call that is not committed yet gave space back, to whomever.
	Gave bool
	// Counting: as of the last commit the sums are too low, or there are none.
	Counting bool
}

// KeepAccounts tells the pool that there are accounts. Until then, a commit
// does not look for them.
func (p *Pool) KeepAccounts() { p.accounting.Store(true) }

// Usage tells how full the account of a directory is. ok is false if it has
// none.
func (p *Pool) Usage(ctx context.Context, root uint64) (u Usage, ok bool, err error) {
	s := p.acquire()
	defer s.release()
	err = p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
		rec, found, err := v.Inode(ctx, root)
		if ok = found && rec.Meta.OwnsAccount(); ok {
			u.Bytes, u.Inodes = rec.Meta.Charge, rec.Meta.ChargeInodes
		}
		u.Counting = !ok || rec.Meta.AccountFlags&ondisk.AccountCounting != 0
		return err
	})
	for _, g := range []*group{s.open, s.syncing} {
		if g != nil {
			bytes, inodes := g.growth.of(root)
			u.More, u.MoreInodes = u.More+bytes, u.MoreInodes+inodes
			u.Gave = u.Gave || g.growth.gave.Load()
		}
	}
	return u, ok || u.MoreInodes > 0, err
}

// OursSince tells by which commit another system wrote a single copy last: a
// number that rises when one did, 0 until we have written after it. ok is false
// for clusters, where no such change comes into the filesystem.
func (p *Pool) OursSince() (since ondisk.Tid, ok bool) {
	e, _ := p.engine.(*engine)
	if e == nil || !e.solo {
		return 0, false
	}
	for _, n := range e.volumes() {
		return n.Vol.OursSince(), true
	}
	return 0, false
}

// DataBytes is what the blocks of an inode in [from, to) take on media, in
// bytes; what is not committed yet is counted as if it did not compress.
func (p *Pool) DataBytes(ctx context.Context, inum, from, to uint64) (total uint64, err error) {
	err = p.eachBlock(ctx, inum, from, to, func(_, size uint64) bool {
		total += size
		return true
	})
	return total, err
}

// growth is what the calls in a group may add to accounts.
type growth struct {
	mu   sync.Mutex
	some atomic.Bool
	gave atomic.Bool           // something was deleted
	by   map[uint64]*[2]uint64 // bytes, inodes
}

func (w *growth) add(root, bytes, inodes uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = make(map[uint64]*[2]uint64)
		w.some.Store(true)
	}
	n := w.by[root]
	if n == nil {
		n = new([2]uint64)
		w.by[root] = n
	}
	n[0], n[1] = n[0]+bytes, n[1]+inodes
}

func (w *growth) of(root uint64) (bytes, inodes uint64) {
	if !w.some.Load() {
		return 0, 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.by[root]; n != nil {
		return n[0], n[1]
	}
	return 0, 0
}

// Charge says which accounts grow by the data that this call writes. It must
// come before the data.
func (t *Txn) Charge(roots []uint64) { t.charged = roots }

// Expect says that the call adds to an account what is not data it writes.
func (t *Txn) Expect(root, bytes, inodes uint64) { t.g.growth.add(root, bytes, inodes) }

// grow notes that the valid length of a block went from have to n bytes.
func (t *Txn) grow(have, n int) {
	if more := mediaSize(n) - mediaSize(have); more > 0 {
		for _, root := range t.charged {
			t.g.growth.add(root, uint64(more), 0)
		}
	}
}

// treeBytes sums the sizes of the blocks of an inode that a view has in
// [from, to), without those that skip refuses.
func treeBytes(ctx context.Context, v *chain.View, inum, from, to uint64, skip func(key uint64) bool) (total uint64, err error) {
	err = v.DataRefs(ctx, inum, from, to, func(ref *ondisk.Blockref) bool {
		if skip == nil || !skip(ref.Key) {
			total += uint64(ref.Size())
		}
		return true
	})
	if errors.Is(err, chain.ErrNoInode) {
		return 0, nil
	}
	return total, err
}

// Sized returns a record and the space its data takes, as Inode and Blocks
// do, in one look.
func (p *Pool) Sized(ctx context.Context, inum uint64) (in *Inode, bytes uint64, ok bool, err error) {
	s := p.acquire()
	if !s.inTreeOnly(inum) {
		s.release()
		if in, ok, err = p.Inode(ctx, inum); ok && err == nil {
			bytes, err = p.Blocks(ctx, inum)
		}
		return in, bytes, ok, err
	}
	defer s.release()
	err = p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
		rec, found, err := v.Inode(ctx, inum)
		if ok = found; ok {
			in, bytes = &Inode{Meta: rec.Meta, Inline: rec.Inline}, dataSpace(rec)
		}
		return err
	})
	return in, bytes, ok, err
}

// dataSpace is the space of an inode's data in the tree, without a walk. An
// account has the sizes of blocks, the same on all nodes, and as quotas count;
// otherwise tables count, which are each node's own.
func dataSpace(rec *chain.InodeRec) uint64 {
	if rec.Meta.Account != 0 && !rec.Meta.DirectData() {
		return rec.Meta.Charge
	}
	return rec.Ref.DataCount()
}
