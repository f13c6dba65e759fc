package cluster

import (
	"context"
	"math"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A settlement brings the accounts up to date with a group that is about to
// be committed: the sums are leaves of the same txg as what they count, and
// so are right in every state that a crash can leave. Only now the sizes of
// blocks are known; they are the same on all nodes, as encoded bytes are.
//
// The layer below the group is the tree alone, since groups are committed one
// after the other. So what an inode was charged before is in its record
// there, and the new charge is that, less the blocks that go, and those that
// come. Whoever puts a record leaves the sums to us.
type settlement struct {
	p     *Pool
	g     *group
	ctx   context.Context
	state *state

	nodes    []*onode
	olds     map[uint64]*chain.InodeRec // of nodes, nil if new
	accounts map[uint64]*account
	err      error
}

// An account is a root while it is settled.
type account struct {
	inum     uint64
	old, now *ondisk.InodeMeta // nil: it is none
	parent   uint64            // that counts it, as of the step of the settlement; 0: none
	bytes    int64
	inodes   int64
}

// void reports whether what the account held does not count any more.
func (a *account) void() bool {
	return a.old == nil || a.now == nil || a.old.AccountGen != a.now.AccountGen
}

// maxNesting ends walks from account to account on damaged media.
const maxNesting = 1 << 10

// settleAccounts adds to the group what its changes mean for accounts, and returns
// the nodes with those that this added.
func (p *Pool) settleAccounts(ctx context.Context, g *group, nodes []*onode) ([]*onode, error) {
	if !g.accounts {
		return nodes, nil
	}
	s := p.acquire()
	defer s.release()
	st := &settlement{p: p, g: g, ctx: ctx, state: s, nodes: nodes, accounts: make(map[uint64]*account)}
	if err := st.load(); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if st.concerns(n) && (st.owned(st.old(n)) || st.owned(st.now(n))) {
			st.account(n.inum)
		}
	}
	st.restructure()
	for _, n := range nodes {
		if st.concerns(n) {
			st.charge(n)
		}
	}
	if st.err != nil {
		return nil, st.err
	}
	if st.write() {
		return p.existing(ctx, g)
	}
	return nodes, nil
}

// concerns reports whether an inode can be in an account at all.
func (st *settlement) concerns(n *onode) bool {
	return n.inum == ondisk.InumRoot || n.inum >= ondisk.InumFirst && n.inum < ondisk.AttrBit
}

// load reads the records below all nodes.
func (st *settlement) load() error {
	return st.p.onTree(st.ctx, st.state, func(ctx context.Context, v *chain.View) error {
		st.olds = make(map[uint64]*chain.InodeRec, len(st.nodes))
		for _, n := range st.nodes {
			if !st.concerns(n) || st.g.isNew(n.inum) {
				continue
			}
			rec, ok, err := v.Inode(ctx, n.inum)
			if err != nil {
				return err
			}
			if ok {
				st.olds[n.inum] = rec
			}
		}
		return nil
	})
}

// old is the record of a node below the group, nil if there is none.
func (st *settlement) old(n *onode) *ondisk.InodeMeta {
	if rec := st.olds[n.inum]; rec != nil {
		return &rec.Meta
	}
	return nil
}

// now is the record that the group leaves, nil if there is none.
func (st *settlement) now(n *onode) *ondisk.InodeMeta {
	switch {
	case n.rec != nil:
		return &n.rec.Meta
	case n.deleted:
		return nil
	}
	return st.old(n)
}

func (st *settlement) owned(m *ondisk.InodeMeta) bool { return m != nil && m.OwnsAccount() }

// account returns the account of a directory, which may be none.
func (st *settlement) account(inum uint64) *account {
	if a := st.accounts[inum]; a != nil {
		return a
	}
	a := &account{inum: inum}
	st.accounts[inum] = a
	rec, known := st.olds[inum]
	if !known && !st.g.isNew(inum) {
		err := st.p.onTree(st.ctx, st.state, func(ctx context.Context, v *chain.View) (err error) {
			var ok bool
			if rec, ok, err = v.Inode(ctx, inum); !ok {
				rec = nil
			}
			return err
		})
		if err != nil && st.err == nil {
			st.err = err
		}
	}
	if rec != nil && rec.Meta.OwnsAccount() {
		a.old = &rec.Meta
		a.bytes, a.inodes = int64(rec.Meta.Charge), int64(rec.Meta.ChargeInodes)
	}
	a.now = a.old
	if in, known := st.g.record(inum); known {
		if a.now = nil; in != nil && in.Meta.OwnsAccount() {
			a.now = &in.Meta
		}
	}
	a.parent = st.counts(a.now, false)
	return a
}

// counts is the account that has another one, as m says, in its sums; 0: none.
func (st *settlement) counts(m *ondisk.InodeMeta, before bool) uint64 {
	if m == nil || m.Account == 0 || m.Account == m.Inum {
		return 0
	}
	p := st.account(m.Account)
	in := p.now
	if before {
		in = p.old
	}
	if in == nil || in.AccountGen != m.AccountIn {
		return 0
	}
	return m.Account
}

// restructure makes accounts lie in each other as the group leaves them, with
// what they held before. All that change are taken out before any is put in:
// so they are never in a circle.
func (st *settlement) restructure() {
	var moved []*account
	for _, n := range st.nodes {
		if a := st.accounts[n.inum]; a != nil && st.concerns(n) {
			a.parent = st.counts(a.old, true)
			// One that stays in an account counted anew has to come in again.
			if to := st.counts(a.now, false); a.void() || to != a.parent || to != 0 && st.account(to).void() {
				moved = append(moved, a)
			}
		}
	}
	for _, a := range moved {
		st.add(a.parent, -a.bytes, -a.inodes)
		a.parent = 0
	}
	for _, a := range moved {
		if a.void() {
			a.bytes, a.inodes = 0, 0
		}
	}
	for _, a := range moved {
		if a.now != nil {
			a.parent = st.counts(a.now, false)
			st.add(a.parent, a.bytes, a.inodes)
		}
	}
}

// add adds to an account and to all that it lies in.
func (st *settlement) add(inum uint64, bytes, inodes int64) {
	for range maxNesting {
		if inum == 0 || bytes == 0 && inodes == 0 {
			return
		}
		a := st.account(inum)
		a.bytes, a.inodes = a.bytes+bytes, a.inodes+inodes
		inum = a.parent
	}
}

// charge moves what an inode was charged, and is, between accounts.
func (st *settlement) charge(n *onode) {
	old, now := st.old(n), st.now(n)
	wasIn, isIn := uint64(0), uint64(0)
	if old != nil && old.ChargedTo() != 0 {
		a := st.account(old.ChargedTo())
		if a.old != nil && a.old.AccountGen == old.AccountGen {
			wasIn = a.inum
			if a.now != nil && a.now.AccountGen == old.AccountGen { // else all of it is void
				st.add(a.inum, -own(old), -1)
			}
		}
	}
	if now != nil && now.ChargedTo() != 0 {
		if a := st.account(now.ChargedTo()); a.now != nil && a.now.AccountGen == now.AccountGen {
			isIn = a.inum
		}
	}
	if isIn == 0 {
		if n.rec != nil && now.Account != 0 && !now.OwnsAccount() {
			st.release(n)
		}
		return
	}
	bytes, err := st.bytes(n, wasIn != 0)
	if err != nil && st.err == nil {
		st.err = err
	}
	st.add(isIn, int64(bytes), 1)
	if !now.OwnsAccount() && (n.rec != nil || now.Charge != bytes) {
		st.setCharge(n, bytes, 0)
	}
}

// release takes an inode out of an account that does not count it, or is gone:
// on media, an inode that names an account has its own charge right.
func (st *settlement) release(n *onode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := *n.rec
	in.Meta.Account, in.Meta.AccountGen, in.Meta.Charge = 0, 0, 0
	n.rec = &in
}

// own is what an inode itself was charged.
func own(m *ondisk.InodeMeta) int64 {
	if m.OwnsAccount() {
		return 0
	}
	return int64(m.Charge)
}

// bytes is the charge of an inode as the group leaves it. known says that the
// record below has the charge of the blocks there.
func (st *settlement) bytes(n *onode, known bool) (uint64, error) {
	now := st.now(n)
	switch {
	case now.Type != ondisk.ObjFile && now.Type != ondisk.ObjSymlink:
		return 0, nil
	case now.DirectData():
		return now.InlineCharge(), nil
	}
	came := uint64(0)
	for _, b := range n.blocks {
		switch {
		case b.from != nil: // shared blocks are charged to each who has them
			came += 1 << b.from.Radix
		case b.enc != nil:
			came += uint64(len(b.enc.Bytes))
		}
	}
	old := st.old(n)
	if old == nil || old.DirectData() || old.Type != now.Type {
		return came, nil
	}
	var stays uint64
	err := st.p.onTree(st.ctx, st.state, func(ctx context.Context, v *chain.View) (err error) {
		if !known {
			stays, err = treeBytes(ctx, v, n.inum, 0, maxData, n.replaces)
			return err
		}
		gone, err := n.replaced(ctx, v)
		stays = old.Charge - min(gone, old.Charge)
		return err
	})
	return stays + came, err
}

// replaces reports whether the group decides about the block at key.
func (n *onode) replaces(key uint64) bool { return n.hidden(key) || n.block(key) != nil }

// replaced sums the blocks of a view that the group takes away.
func (n *onode) replaced(ctx context.Context, v *chain.View) (gone uint64, err error) {
	for _, h := range n.holes {
		bytes, err := treeBytes(ctx, v, n.inum, h.lo, h.hi, nil)
		if err != nil {
			return 0, err
		}
		gone += bytes
	}
	for i := 0; i < len(n.blocks); {
		first := n.blocks[i].key
		end := first
		for ; i < len(n.blocks) && n.blocks[i].key == end; i++ {
			end += ondisk.LogicalBlock
		}
		bytes, err := treeBytes(ctx, v, n.inum, first, end, n.hidden)
		if err != nil {
			return 0, err
		}
		gone += bytes
	}
	return gone, nil
}

// setCharge puts sums into the record of a node that the group has.
func (st *settlement) setCharge(n *onode, bytes, inodes uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := &Inode{}
	if n.rec != nil {
		*in = *n.rec
	} else {
		in.Meta = st.olds[n.inum].Meta
		in.Meta.SharedTid = 0 // the node's own
	}
	in.Meta.Charge, in.Meta.ChargeInodes = bytes, inodes
	n.rec = in
}

// write puts the sums into the records of accounts, and reports whether this
// added nodes to the group.
func (st *settlement) write() (added bool) {
	for inum, a := range st.accounts {
		if a.now == nil {
			continue
		}
		if a.bytes < 0 || a.inodes < 0 || a.bytes == math.MaxInt64 {
			st.p.log.Error("the sums of an account were wrong: count it anew", "directory", inum)
		}
		bytes, inodes := uint64(max(a.bytes, 0)), uint64(max(a.inodes, 0))
		if n := st.g.find(inum); n != nil {
			if n.rec != nil || bytes != a.now.Charge || inodes != a.now.ChargeInodes {
				st.setRoot(n, a.now, bytes, inodes)
			}
		} else if bytes != a.now.Charge || inodes != a.now.ChargeInodes {
			st.setRoot(st.g.node(inum), a.now, bytes, inodes)
			added = true
		}
	}
	return added
}

func (st *settlement) setRoot(n *onode, m *ondisk.InodeMeta, bytes, inodes uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := &Inode{Meta: *m}
	in.Meta.SharedTid = 0 // the node's own
	in.Meta.Charge, in.Meta.ChargeInodes = bytes, inodes
	n.rec = in
}
