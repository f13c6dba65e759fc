package fs

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// An accountStore keeps the sums of accounts; see ondisk/account.go.
// *cluster.Pool is one.
type accountStore interface {
	KeepAccounts()
	Usage(ctx context.Context, root uint64) (cluster.Usage, bool, error)
	DataBytes(ctx context.Context, inum, from, to uint64) (uint64, error)
	Sized(ctx context.Context, inum uint64) (r *Record, bytes uint64, ok bool, err error)
	OursSince() (since ondisk.Tid, ok bool)
}

// An accountTxn is told what a call adds to accounts.
type accountTxn interface {
	Charge(roots []uint64)
	Expect(root, bytes, inodes uint64)
}

// accountsAttr is the attribute of the root directory that lists the roots of
// accounts: their numbers, 8 bytes each. One with sinceBit is what OursSince
// said when they were right (see quotaforeign.go), one with genBit the highest number of a count, so
// that none is used twice for one directory. Users do not see it.
const (
	accountsAttr = propPrefix + "accounts"
	sinceBit     = 1 << 63
	genBit       = 1 << 62
)

// quotas are the accounts of directories: who is charged for what, and
// whether a call may grow them.
//
// The inode of a file names its account, so finding it costs nothing. The
// sums are the store's, which alone knows what blocks take; here are the
// limits, and what was admitted and is not yet in the store's numbers.
type quotas struct {
	f     *FS
	store accountStore
	any   atomic.Bool // there is an account

	mu       sync.Mutex
	accounts map[uint64]*account
	gen      uint32 // last number of a count
	since    uint64 // with sinceBit, or sinceCluster; 0: not known
	stale    bool   // another system changed what is in the accounts

	counter counter
}

// An account is a directory that is accounted for.
type account struct {
	inum   uint64
	parent uint64 // 0: in no other
	gen    uint32
	flags  uint8
	limit  Limits

	// Admitted to calls that have not ended.
	bytes, inodes uint64
}

// Limits of an account; 0 is none.
type Limits struct {
	Bytes, Inodes uint64
}

// newQuotas reads which accounts there are. Without a store for them, or in a
// snapshot, there are none.
func newQuotas(ctx context.Context, f *FS) (*quotas, error) {
	q := &quotas{f: f, accounts: make(map[uint64]*account)}
	store, ok := f.store.(accountStore)
	if !ok {
		return q, nil
	}
	q.store = store
	return q, q.load(ctx)
}

// load reads the list. Directories that are gone are left out.
func (q *quotas) load(ctx context.Context) error {
	n, _, err := q.f.rlock(ctx, ondisk.InumRoot)
	if err != nil {
		return err
	}
	set, err := q.f.loadAttrs(ctx, n)
	q.f.runlock(n)
	if err != nil {
		return err
	}
	list, _ := set.get(accountsAttr)
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.accounts)
	q.since = 0
	for ; len(list) >= 8; list = list[8:] {
		switch n := binary.LittleEndian.Uint64(list); {
		case n&sinceBit != 0:
			q.since = n
			continue
		case n&genBit != 0:
			q.gen = max(q.gen, uint32(n))
			continue
		}
		rec, ok, err := q.f.store.Inode(ctx, binary.LittleEndian.Uint64(list))
		if err != nil {
			return err
		}
		if ok && rec.Meta.OwnsAccount() {
			q.keep(&rec.Meta)
		}
	}
	q.stale = len(q.accounts) > 0 && q.changedByOthers()
	return nil
}

// again goes on after stop: with other content there are other accounts.
func (q *quotas) again(ctx context.Context, other bool) {
	if q.store == nil {
		return
	}
	if other {
		if err := q.load(ctx); err != nil {
			q.f.log.Warn("directory quotas are not known: none is enforced", "error", err)
		}
	}
	q.start()
}

// keep takes over what a record says of its account. q.mu is held.
func (q *quotas) keep(m *ondisk.InodeMeta) {
	a := q.accounts[m.Inum]
	if a == nil {
		a = &account{inum: m.Inum}
		q.accounts[m.Inum] = a
	}
	a.parent, a.gen, a.flags = m.Account, m.AccountGen, m.AccountFlags
	a.limit = Limits{m.DataQuota, m.InodeQuota}
	q.gen = max(q.gen, a.gen)
	if !q.any.Swap(true) {
		q.store.KeepAccounts()
	}
}

// drop forgets an account whose directory is gone, or gave it up.
func (q *quotas) drop(inum uint64) {
	if !q.any.Load() {
		return
	}
	q.mu.Lock()
	delete(q.accounts, inum)
	q.mu.Unlock()
}

// list is the value of accountsAttr with one account more or less.
func (q *quotas) list(with, without uint64) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	var inums []uint64
	for inum := range q.accounts {
		if inum != without && inum != with {
			inums = append(inums, inum)
		}
	}
	if with != 0 {
		inums = append(inums, with)
	}
	slices.Sort(inums)
	var value []byte
	if len(inums) > 0 && q.since != 0 {
		value = binary.LittleEndian.AppendUint64(value, q.since)
	}
	if q.gen != 0 {
		value = binary.LittleEndian.AppendUint64(value, genBit|uint64(q.gen))
	}
	for _, inum := range inums {
		value = binary.LittleEndian.AppendUint64(value, inum)
	}
	return value
}

// chain returns the accounts that are charged for what is charged to inum:
// itself, the one it lies in, and so on.
func (q *quotas) chain(inum uint64) (chain []*account) {
	if inum == 0 || !q.any.Load() {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.chainLocked(inum)
}

func (q *quotas) chainLocked(inum uint64) (chain []*account) {
	for len(chain) <= len(q.accounts) { // ends on damaged media
		a := q.accounts[inum]
		if a == nil {
			break
		}
		chain = append(chain, a)
		inum = a.parent
	}
	return chain
}

// of is the account of what is made in a directory: its own, or the one that
// it is in.
func (q *quotas) of(dir *ondisk.InodeMeta) uint64 {
	if dir.OwnsAccount() && dir.AccountFlags&ondisk.AccountLeaving == 0 {
		return dir.Inum
	}
	return dir.Account
}

// stamp charges an inode to an account.
func (q *quotas) stamp(m *ondisk.InodeMeta, inum uint64) {
	if inum == 0 {
		m.Account, m.AccountGen = 0, 0
		return
	}
	m.Account, m.AccountGen = inum, q.genOf(inum)
	if m.AccountGen == 0 {
		m.Account = 0 // the directory was removed
	}
}

// genOf is the number of an account's count, 0 if there is no such account.
func (q *quotas) genOf(inum uint64) uint32 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if a := q.accounts[inum]; a != nil {
		return a.gen
	}
	return 0
}

// charged reports whether an inode is counted by the account.
func (q *quotas) charged(m *ondisk.InodeMeta, inum uint64) bool {
	if m.Account != inum {
		return false
	}
	if inum == 0 {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.accounts[inum]
	return a == nil || m.AccountGen == a.gen
}
