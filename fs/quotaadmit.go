package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A grant is growth that accounts admitted to one call, until its end. A nil
// grant is that of a call that grows none.
type grant struct {
	q             *quotas
	chain         []*account
	bytes, inodes uint64
}

// end gives back what was admitted: what was used of it is in the store's
// numbers since the transaction ended.
func (g *grant) end() {
	if g == nil {
		return
	}
	g.q.mu.Lock()
	for _, a := range g.chain {
		a.bytes -= g.bytes
		a.inodes -= g.inodes
	}
	g.q.mu.Unlock()
}

// charge tells a transaction who pays for the data it writes, and that it
// adds so many bytes beside, and inodes.
func (g *grant) charge(t Txn, bytes, inodes uint64) {
	at, ok := t.(accountTxn)
	if g == nil || !ok {
		return
	}
	roots := make([]uint64, len(g.chain))
	for i, a := range g.chain {
		roots[i] = a.inum
		if bytes|inodes != 0 {
			at.Expect(a.inum, bytes, inodes)
		}
	}
	at.Charge(roots)
}

// A growth is what a call may add to accounts at most.
type growth struct {
	bytes, inodes uint64
	// exact is bytes once more, at a price: what is already there of the
	// blocks to be written does not count. nil: it is exact.
	exact func() (uint64, error)
}

// admit lets a call grow an account and those that it lies in, or says
// EDQUOT. The numbers are upper bounds while calls are not committed, so a
// call is refused only after a commit, and after files without a name are gone.
//
// The caller may hold locks of inodes; it must not be in a transaction.
func (q *quotas) admit(ctx context.Context, inum uint64, by growth) (*grant, error) {
	return q.admitTo(ctx, q.chain(inum), by)
}

func (q *quotas) admitTo(ctx context.Context, chain []*account, by growth) (*grant, error) {
	if len(chain) == 0 {
		return nil, nil
	}
	g := &grant{q: q, chain: chain, bytes: by.bytes, inodes: by.inodes}
	for round := 0; ; round++ {
		ok, unsure, err := g.try(ctx)
		switch {
		case err != nil:
			return nil, err
		case ok:
			return g, nil
		case round < 2 && (unsure || q.f.reaper.busy()):
			// Twice: the kernel may forget the last file only now.
			q.f.reaper.settle(ctx)
			if err := q.f.store.Sync(ctx); err != nil {
				return nil, err
			}
		case by.exact != nil:
			if g.bytes, err = by.exact(); err != nil {
				return nil, err
			}
			by.exact = nil
		default:
			return nil, errQuota
		}
	}
}

// try admits if all limits allow it. unsure says that a commit may make room.
func (g *grant) try(ctx context.Context) (ok, unsure bool, err error) {
	q := g.q
	q.mu.Lock()
	defer q.mu.Unlock()
	ok = true
	for _, a := range g.chain {
		if a.limit == (Limits{}) {
			continue
		}
		// In this order: a call that ends in between counts twice, not never.
		bytes, inodes := a.bytes, a.inodes
		u, _, err := q.store.Usage(ctx, a.inum)
		if err != nil {
			return false, false, err
		}
		fits := within(a.limit.Bytes, u.Bytes+u.More+bytes, g.bytes) &&
			within(a.limit.Inodes, u.Inodes+u.MoreInodes+inodes, g.inodes)
		ok = ok && fits
		unsure = unsure || !fits && (u.Gave || u.More+u.MoreInodes > 0)
	}
	if ok {
		for _, a := range g.chain {
			a.bytes += g.bytes
			a.inodes += g.inodes
		}
	}
	return ok, unsure, nil
}

// within reports whether more fits below a limit. What does not grow always does.
func within(limit, used, more uint64) bool {
	return limit == 0 || more == 0 || used < limit && more <= limit-used
}

// mediaMax is the most that n bytes of one block take on media.
func mediaMax(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	return 1 << ondisk.DataRadix(int(min(n, ondisk.LogicalBlock)))
}

// admitWrite is admit for a write of n bytes at off of a locked file.
func (f *FS) admitWrite(ctx context.Context, rec *Record, off, n uint64) (*grant, error) {
	m := &rec.Meta
	if m.Account == 0 || !f.quotas.any.Load() {
		return nil, nil
	}
	end := off + n
	if m.DirectData() && max(end, m.Size) <= inlineMax {
		if m.Size > 0 {
			return f.quotas.admit(ctx, m.Account, growth{})
		}
		return f.quotas.admit(ctx, m.Account, growth{bytes: ondisk.InodeSize})
	}
	first, last := off/ondisk.LogicalBlock, (end-1)/ondisk.LogicalBlock
	blocks := last - first + 1
	if m.DirectData() && first > 0 {
		blocks++ // the content moves to a block of its own
	}
	return f.quotas.admit(ctx, m.Account, growth{
		bytes: blocks * ondisk.LogicalBlock,
		exact: func() (uint64, error) { return f.exactGrowth(ctx, m, off, end) },
	})
}

// exactGrowth is how much more the file takes after a write of [off, end), if
// nothing compresses.
func (f *FS) exactGrowth(ctx context.Context, m *ondisk.InodeMeta, off, end uint64) (uint64, error) {
	first := off / ondisk.LogicalBlock * ondisk.LogicalBlock
	size := max(m.Size, end)
	need, have := uint64(0), uint64(0)
	for at := first; at < end; at += ondisk.LogicalBlock {
		need += mediaMax(size - at)
	}
	if m.DirectData() {
		if have = m.InlineCharge(); first > 0 && m.Size > 0 {
			need += mediaMax(m.Size)
		}
	} else {
		var err error
		if have, err = f.quotas.store.DataBytes(ctx, m.Inum, first, end); err != nil {
			return 0, err
		}
	}
	return need - min(need, have), nil
}

// room is how much an account and those it lies in may grow, and what the
// smallest of their limits is; ok is false if none has a limit.
func (q *quotas) room(ctx context.Context, inum uint64) (room, of Limits, ok bool, err error) {
	const none = ^uint64(0)
	room = Limits{none, none}
	for _, a := range q.chain(inum) {
		q.mu.Lock()
		limit := a.limit
		q.mu.Unlock()
		u, _, err := q.store.Usage(ctx, a.inum)
		if err != nil {
			return room, of, false, err
		}
		if left := limit.Bytes - min(limit.Bytes, u.Bytes+u.More); limit.Bytes > 0 && left < room.Bytes {
			room.Bytes, of.Bytes = left, limit.Bytes
		}
		if left := limit.Inodes - min(limit.Inodes, u.Inodes+u.MoreInodes); limit.Inodes > 0 && left < room.Inodes {
			room.Inodes, of.Inodes = left, limit.Inodes
		}
	}
	return room, of, of != Limits{}, nil
}

// An fsStat is what statfs(2) says.
type fsStat struct {
	StatFS
	Files uint64 // inodes there are and could be
}

// statFS is what statfs(2) says of an inode: of a directory tree with a
// limit, as if it were a filesystem of that size.
func (f *FS) statFS(ctx context.Context, inum uint64) fsStat {
	s := fsStat{StatFS: f.store.StatFS()}
	s.Files = s.Inodes + s.Avail/ondisk.InodeSize // inodes need only space
	if !f.quotas.any.Load() {
		return s
	}
	rec, err := f.peek(ctx, inum)
	if err != nil {
		return s
	}
	room, of, ok, err := f.quotas.room(ctx, rec.Meta.ChargedTo())
	if err != nil || !ok {
		return s
	}
	if of.Bytes > 0 {
		used := of.Bytes - room.Bytes
		s.Avail = min(s.Avail, room.Bytes)
		s.Free = s.Avail
		s.Total = used + s.Avail
		if room.Bytes == s.Avail {
			s.Total = of.Bytes
		}
	}
	if of.Inodes > 0 {
		s.Files = of.Inodes
		s.Inodes = of.Inodes - room.Inodes
	}
	return s
}
