package fs

import (
	"context"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A Quota is an account for people and programs.
type Quota struct {
	Inum       uint64 `json:"inode"`
	Bytes      uint64 `json:"bytes"`
	Inodes     uint64 `json:"inodes"`
	MaxBytes   uint64 `json:"max_bytes"`  // 0 = no limit
	MaxInodes  uint64 `json:"max_inodes"` // 0 = no limit
	Counting   bool   `json:"counting"`   // the sums are still too low
	Leaving    bool   `json:"leaving"`    // it is being given up
	Stale      bool   `json:"stale"`      // another system changed the filesystem; a mount for writing counts anew
	Parent     uint64 `json:"parent"`     // account it lies in, 0 = none
	MoreBytes  uint64 `json:"-"`          // not committed, at most
	MoreInodes uint64 `json:"-"`
}

// Percent is how full the account is, of the limit that is nearer; 0 without
// limits.
func (s *Quota) Percent() (percent int) {
	for _, of := range [][2]uint64{{s.Bytes, s.MaxBytes}, {s.Inodes, s.MaxInodes}} {
		if of[1] > 0 {
			percent = max(percent, int(min(float64(of[0])*100/float64(of[1]), 1e6)))
		}
	}
	return percent
}

// SetQuota gives a directory an account, if it has none, and limits. A limit
// below what is used stops growth, no more.
func (f *FS) SetQuota(ctx context.Context, dir uint64, change func(*Limits)) error {
	q := f.quotas
	switch {
	case q.store == nil:
		return errNotHere
	case f.readOnly:
		return errReadOnly
	}
	s := f.lockset()
	defer s.unlock()
	s.cover(ondisk.InumRoot, dir)
	rec, err := s.record(ctx, dir)
	if err != nil {
		return err
	}
	m := &rec.Meta
	switch {
	case m.Type != ondisk.ObjDir:
		return errNotDir
	case m.Nlinks == 0:
		return errNoEntry
	}
	if m.AccountFlags&ondisk.AccountLeaving != 0 {
		return errBusy
	}
	limit := Limits{m.DataQuota, m.InodeQuota}
	change(&limit)
	t, err := f.store.Begin(ctx, Cost{Leaves: 4, Bytes: 2 * ondisk.LogicalBlock})
	if err != nil {
		return err
	}
	defer t.End()
	fresh := !m.OwnsAccount()
	if fresh {
		q.noteSince()
		if err := q.storeList(ctx, t, s.node(ondisk.InumRoot), dir, 0); err != nil {
			return err
		}
	}
	q.set(t, s.node(dir), limit, fresh)
	if fresh {
		q.count(dir)
	}
	return nil
}

// set makes a locked directory the root of an account; fresh: what is in it
// is not counted yet, or no longer.
func (q *quotas) set(t Txn, n *node, limit Limits, fresh bool) {
	gen := uint32(0)
	if fresh {
		gen = q.nextGen()
	}
	r := q.f.update(t, n, func(m *ondisk.InodeMeta) {
		if !m.OwnsAccount() || m.DataQuota != limit.Bytes || m.InodeQuota != limit.Inodes {
			m.SetCtime(q.f.clock()) // counting anew is no change of the directory
		}
		m.DataQuota, m.InodeQuota = limit.Bytes, limit.Inodes
		if !m.OwnsAccount() {
			m.AccountIn = m.AccountGen // where it is counted now
		}
		m.AccountFlags |= ondisk.AccountRoot
		if fresh {
			m.AccountGen = gen
			if m.AccountFlags&ondisk.AccountLeaving == 0 {
				m.AccountFlags |= ondisk.AccountCounting
			}
		}
	})
	q.mu.Lock()
	q.keep(&r.Meta)
	q.mu.Unlock()
}

// nextGen is a number that no count had: inodes that were in an earlier one, and
// were never taken out of it, would be in the sums twice.
func (q *quotas) nextGen() uint32 {
	sec, _ := q.f.clock()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gen = max(q.gen+1, uint32(sec))
	return q.gen
}

// ClearQuota takes limits and account from a directory. Its inodes go to the
// account around it, if there is one, in the background.
func (f *FS) ClearQuota(ctx context.Context, dir uint64) error {
	n, rec, err := f.lock(ctx, dir)
	if err != nil {
		return err
	}
	defer f.unlock(n)
	if !rec.Meta.OwnsAccount() || rec.Meta.Nlinks == 0 || f.quotas.store == nil {
		return errNoAttr
	}
	t, err := f.store.BeginFree(ctx)
	if err != nil {
		return err
	}
	defer t.End()
	r := f.update(t, n, func(m *ondisk.InodeMeta) {
		m.DataQuota, m.InodeQuota = 0, 0
		m.AccountFlags = m.AccountFlags&^ondisk.AccountCounting | ondisk.AccountLeaving
		m.SetCtime(f.clock())
	})
	f.quotas.mu.Lock()
	f.quotas.keep(&r.Meta)
	f.quotas.mu.Unlock()
	f.quotas.count(dir)
	return nil
}

// RecountQuotas voids the sums of all accounts and counts anew. All, since
// those in others are part of them.
func (f *FS) RecountQuotas(ctx context.Context) error {
	q := f.quotas
	if q.store == nil {
		return errNotHere
	}
	roots := q.roots()
	s := f.lockset()
	defer s.unlock()
	s.cover(roots...)
	t, err := f.store.Begin(ctx, Cost{Leaves: 1 + len(roots)})
	if err != nil {
		return err
	}
	defer t.End()
	for _, inum := range roots {
		rec, err := s.record(ctx, inum)
		if err != nil || !rec.Meta.OwnsAccount() || rec.Meta.Nlinks == 0 {
			continue // removed meanwhile
		}
		q.set(t, s.node(inum), Limits{rec.Meta.DataQuota, rec.Meta.InodeQuota}, true)
	}
	for _, inum := range roots {
		q.count(inum)
	}
	return nil
}

// roots lists the accounts by number.
func (q *quotas) roots() []uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]uint64, 0, len(q.accounts))
	for inum := range q.accounts {
		list = append(list, inum)
	}
	slices.Sort(list)
	return list
}

// HasQuotas reports whether there is an account, or was one since the mount.
func (f *FS) HasQuotas() bool { return f.quotas.any.Load() }

// WaitQuota returns when a directory's account is counted, or given up, and when
// what another system may have changed is.
func (f *FS) WaitQuota(ctx context.Context, dir uint64) error {
	if f.quotas.store == nil {
		return nil
	}
	if err := f.quotas.counter.waitAnew(ctx); err != nil {
		return err
	}
	return f.quotas.wait(ctx, dir)
}

// QuotaInForce is WaitQuota, and has what was counted committed: limits go by the sums
// of the last commit, and would let writers in on what is not in them yet.
func (f *FS) QuotaInForce(ctx context.Context, dir uint64) error {
	if err := f.WaitQuota(ctx, dir); err != nil || f.quotas.store == nil {
		return err
	}
	return f.store.Sync(ctx)
}

// Quotas lists the accounts of directories that have a name, as of the last
// commit.
func (f *FS) Quotas(ctx context.Context) ([]Quota, error) {
	var list []Quota
	for _, inum := range f.quotas.roots() {
		one, ok, err := f.QuotaOf(ctx, inum)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, one)
		}
	}
	return list, nil
}

// QuotaOf is the account that a directory has; ok is false if it has none.
func (f *FS) QuotaOf(ctx context.Context, dir uint64) (one Quota, ok bool, err error) {
	if !f.quotas.any.Load() {
		return one, false, nil
	}
	rec, err := f.peek(ctx, dir)
	if err == errStale || err == nil && (!rec.Meta.OwnsAccount() || rec.Meta.Nlinks == 0) {
		return one, false, nil
	}
	if err != nil {
		return one, false, err
	}
	u, _, err := f.quotas.store.Usage(ctx, dir)
	m := &rec.Meta
	return Quota{
		Inum: dir, Bytes: u.Bytes, Inodes: u.Inodes, MoreBytes: u.More, MoreInodes: u.MoreInodes,
		MaxBytes: m.DataQuota, MaxInodes: m.InodeQuota, Parent: m.Account,
		// The sums are those of the last commit: a count that has ended since is
		// not in them yet.
		Counting: u.Counting || m.AccountFlags&ondisk.AccountCounting != 0,
		Leaving:  m.AccountFlags&ondisk.AccountLeaving != 0,
		Stale:    f.quotas.isStale(),
	}, err == nil, err
}

// AccountOf is the directory whose account an inode is charged to; 0: none.
func (f *FS) AccountOf(ctx context.Context, inum uint64) (uint64, error) {
	rec, err := f.peek(ctx, inum)
	if err != nil {
		return 0, err
	}
	return rec.Meta.ChargedTo(), nil
}

// storeList stores which accounts there are; root is the locked root directory.
func (q *quotas) storeList(ctx context.Context, t Txn, root *node, with, without uint64) error {
	if _, err := q.f.record(ctx, root); err != nil {
		return err
	}
	value := q.list(with, without)
	if len(value) == 0 {
		return q.f.dropAttr(ctx, t, root, accountsAttr)
	}
	if len(value) > ondisk.XattrValueMax {
		return errNoSpace
	}
	return q.f.putAttr(ctx, t, root, accountsAttr, value)
}
