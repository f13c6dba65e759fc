package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A crossing is an inode that comes from one account into another by getting
// a name there. A nil crossing stays where it is.
//
// What is below a directory cannot be charged elsewhere in one step, so a
// directory does not cross, nor does a file with names on both sides: EXDEV,
// and mv(1) copies. An empty directory does, and one with an account of its
// own, of which the sums are known.
type crossing struct {
	q             *quotas
	to            uint64
	relink        bool // an account that lies in another one from now on
	look          bool // a directory to be looked at by the counter
	grant         *grant
	bytes, inodes uint64
}

// cross plans that a locked inode gets a name in directory to instead of from,
// and admits the growth; the caller ends it.
func (f *FS) cross(ctx context.Context, rec *Record, from uint64, to *ondisk.InodeMeta) (*crossing, error) {
	if !f.quotas.any.Load() {
		return nil, nil
	}
	return f.quotas.cross(ctx, &rec.Meta, from, to)
}

func (q *quotas) cross(ctx context.Context, m *ondisk.InodeMeta, from uint64, to *ondisk.InodeMeta) (*crossing, error) {
	c := &crossing{q: q, to: q.of(to)}
	isDir := m.Type == ondisk.ObjDir
	if m.OwnsAccount() {
		if m.Account == c.to && m.AccountIn == q.genOf(c.to) {
			return nil, nil
		}
		if m.AccountFlags&ondisk.AccountLeaving != 0 {
			return nil, errBusy // its inodes are on the way to where it lies
		}
		c.relink = true
		u, _, err := q.store.Usage(ctx, m.Inum)
		if err != nil {
			return nil, err
		}
		c.bytes, c.inodes = u.Bytes+u.More, u.Inodes+u.MoreInodes
		return c, c.admit(ctx, m)
	}
	c.look = isDir && q.active()
	if m.Account == c.to {
		if !c.look && q.charged(m, c.to) {
			return nil, nil
		}
		return c, nil // it may leave a directory before that is counted anew
	}
	if isDir || m.Nlinks > 1 {
		if err := q.checkCross(ctx, m, from, to.Inum); err != nil {
			return nil, err
		}
	}
	c.inodes = 1
	switch {
	case m.DirectData():
		c.bytes = m.InlineCharge()
	case !isDir:
		var err error
		if c.bytes, err = q.store.DataBytes(ctx, m.Inum, 0, 1<<63); err != nil {
			return nil, err
		}
	}
	return c, c.admit(ctx, m)
}

// checkCross refuses what cannot cross as a whole. While a tree is being
// counted, directories in it are of different accounts for a while.
func (q *quotas) checkCross(ctx context.Context, m *ondisk.InodeMeta, from, to uint64) error {
	if q.active() {
		a, err := q.top(ctx, from)
		if err != nil {
			return err
		}
		b, err := q.top(ctx, to)
		if err != nil {
			return err
		}
		if a == b {
			return nil
		}
	}
	if m.Type != ondisk.ObjDir || q.f.checkEmpty(ctx, m.Inum) != nil {
		return errOtherTree
	}
	return nil
}

// top is the account that a directory lies in by its path, 0 for none.
func (q *quotas) top(ctx context.Context, dir uint64) (uint64, error) {
	for range 1 << 16 { // ends the walk on damaged media
		rec, err := q.f.peek(ctx, dir)
		if err != nil {
			return 0, err
		}
		if m := &rec.Meta; m.OwnsAccount() && m.AccountFlags&ondisk.AccountLeaving == 0 {
			return dir, nil
		}
		if dir == ondisk.InumRoot {
			return 0, nil
		}
		dir = rec.Meta.Iparent
	}
	return 0, errIO
}

// admit asks the accounts that have the inode from now on and did not before.
func (c *crossing) admit(ctx context.Context, m *ondisk.InodeMeta) (err error) {
	before := make(map[uint64]bool)
	for _, a := range c.q.chain(m.Account) {
		before[a.inum] = true
	}
	var grows []*account
	for _, a := range c.q.chain(c.to) {
		if !before[a.inum] {
			grows = append(grows, a)
		}
	}
	c.grant, err = c.q.admitTo(ctx, grows, growth{bytes: c.bytes, inodes: c.inodes})
	return err
}

func (c *crossing) end() {
	if c != nil {
		c.grant.end()
	}
}

// apply changes the record of the inode, the last thing before it is stored.
func (c *crossing) apply(t Txn, m *ondisk.InodeMeta) {
	if c == nil {
		return
	}
	c.grant.charge(t, c.bytes, c.inodes)
	if c.relink {
		m.Account, m.AccountIn = c.to, c.q.genOf(c.to)
		c.q.mu.Lock()
		c.q.keep(m)
		c.q.mu.Unlock()
		return
	}
	c.q.stamp(m, c.to)
	if c.look {
		c.q.moved(c.to, m.Inum)
	}
}
