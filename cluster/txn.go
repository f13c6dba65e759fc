package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Txn is the change of one system call. It is used by one goroutine. The
// caller holds its own locks on the inodes it changes, so that no two
// transactions change one inode at once.
type Txn struct {
	p    *Pool
	g    *group
	cost int64 // admitted
	data bool  // it may have large blocks
	done bool

	later bool // as in Cost

	charged []uint64 // accounts that grow by what is written
}

// End closes the transaction: its changes are visible, and become durable
// with their group. It must be called exactly once.
func (t *Txn) End() {
	if t.done {
		panic("cluster: transaction ended twice")
	}
	t.done = true
	t.p.budget.leave(t.cost, t.data)
	full := t.g.load.memory.Load() >= t.p.budget.closeAt
	t.g.leave()
	if full {
		poke(t.p.wish)
	}
}

// touch notes that the group has something to commit.
func (t *Txn) touch() {
	if !t.g.touched.Load() && t.g.touched.CompareAndSwap(false, true) {
		poke(t.p.firstChange)
	}
}

// NewInum returns a number that no inode ever had.
func (t *Txn) NewInum() uint64 { return t.p.lastInum.Add(1) }

// PutInode sets a whole record. Nobody may change in afterwards. A record that
// turns inline content on takes the place of all data; turning it off needs
// a WriteData of the content in the same transaction.
func (t *Txn) PutInode(in *Inode) {
	if in.Meta.Account|uint64(in.Meta.AccountFlags) != 0 {
		t.p.KeepAccounts()
	}
	t.touch()
	t.g.put(in)
}

// DeleteInode removes an inode, its entries and its data.
func (t *Txn) DeleteInode(inum uint64) {
	t.touch()
	t.g.growth.gave.Store(true)
	t.g.remove(inum)
}

// AddDirent enters a name that the directory does not have. It takes the
// lowest free key of the name's hash; ErrHashFull: there is none.
func (t *Txn) AddDirent(dir uint64, name string, inum uint64, typ ondisk.ObjType) error {
	hash := ondisk.NameHash(name)
	taken, err := t.takenKeys(dir, hash)
	if err != nil {
		return err
	}
	key := hash
	for _, k := range taken {
		if k.live && k.key == key {
			key++
		}
	}
	if key > hash|ondisk.CollisionMask {
		return fmt.Errorf("directory %d: %q: %w", dir, name, ErrHashFull)
	}
	below := false
	for _, k := range taken {
		below = below || k.key == key && k.below
	}
	t.touch()
	t.g.setEntry(dir, ondisk.Dirent{Key: key, Inum: inum, Type: typ, Name: name}, dentLive, below)
	return nil
}

// RemoveDirent takes a name out of a directory. ErrNoEntry: it is not there.
func (t *Txn) RemoveDirent(dir uint64, name string) error {
	d, below, err := t.entry(dir, name)
	if err != nil {
		return err
	}
	t.touch()
	t.g.setEntry(dir, d, dentGone, below)
	return nil
}

// ReplaceDirent lets a name that is there stand for another inode.
// ErrNoEntry: it is not there.
func (t *Txn) ReplaceDirent(dir uint64, name string, inum uint64, typ ondisk.ObjType) error {
	d, below, err := t.entry(dir, name)
	if err != nil {
		return err
	}
	d.Inum, d.Type = inum, typ
	t.touch()
	t.g.setEntry(dir, d, dentLive, below)
	return nil
}

// entry finds a name, and whether a layer below the group knows its key.
func (t *Txn) entry(dir uint64, name string) (d ondisk.Dirent, below bool, err error) {
	if e := liveEntry(t.g.find(dir), name); e != nil {
		return e.Dirent, e.below, nil
	}
	d, ok, err := t.p.Lookup(t.p.ctx, dir, name)
	if err == nil && !ok {
		err = fmt.Errorf("directory %d: %q: %w", dir, name, ErrNoEntry)
	}
	return d, true, err
}

func liveEntry(n *onode, name string) *dent {
	if n == nil {
		return nil
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if e := n.dir.name(ondisk.NameHash(name), name); e != nil {
		copied := *e
		return &copied
	}
	return nil
}

// A takenKey is a key of a hash range that some layer knows.
type takenKey struct {
	key   uint64
	live  bool // an entry has it
	below bool // a layer below the open one knows it
}

// takenKeys lists the known keys of a range in ascending order.
func (t *Txn) takenKeys(dir, hash uint64) (taken []takenKey, err error) {
	note := func(key uint64, live, below bool) {
		at := 0
		for at < len(taken) && taken[at].key < key {
			at++
		}
		if at < len(taken) && taken[at].key == key {
			taken[at].below = taken[at].below || below // a higher layer decided
			return
		}
		taken = append(taken, takenKey{})
		copy(taken[at+1:], taken[at:])
		taken[at] = takenKey{key, live, below}
	}
	s := t.p.acquire()
	defer s.release()
	for i, o := range s.under(t.g.overlay) {
		if o == nil {
			continue
		}
		deleted := o.eachKey(dir, hash, func(e *dent) {
			note(e.Key, e.state == dentLive, e.below || i > 0)
		})
		if deleted || o.isNew(dir) {
			return taken, nil
		}
	}
	err = t.p.onTree(t.p.ctx, s, func(ctx context.Context, v *chain.View) error {
		return v.Dirents(ctx, dir, hash, hash|ondisk.CollisionMask, func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
			note(d.Key, true, true)
			return true
		})
	})
	if errors.Is(err, chain.ErrNoInode) {
		err = nil
	}
	return taken, err
}

// eachKey calls fn for the keys of a range that the overlay knows. deleted
// says that nothing below counts.
func (o *overlay) eachKey(dir, hash uint64, fn func(*dent)) (deleted bool) {
	n := o.find(dir)
	if n == nil {
		return false
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.dir != nil {
		for e := n.dir.byHash[hash]; e != nil; e = e.next {
			fn(e)
		}
	}
	return n.deleted
}

// content reads the valid bytes of a block below the group, n of them at most.
func (t *Txn) content(ctx context.Context, inum, key uint64, buf []byte) error {
	s := t.p.acquire()
	defer s.release()
	return t.p.readUnder(ctx, s, s.below(t.g.overlay), inum, key, buf)
}
