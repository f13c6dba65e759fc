package fsck

import (
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// accountsMax ends walks from account to account on damaged media.
const accountsMax = 1 << 10

// A counted says which inodes an account has: those of its count.
type counted struct {
	root uint64
	gen  uint32
}

// A use is what inodes are charged.
type use struct{ bytes, inodes uint64 }

// accounts are what the inodes of a PFS say of accounts; see ondisk/account.go.
type accounts struct {
	uses  map[counted]use
	roots map[uint64]ondisk.InodeMeta
}

// add notes an inode.
func (a *accounts) add(m *ondisk.InodeMeta) {
	to := m.ChargedTo()
	if to == 0 || m.Inum&ondisk.AttrBit != 0 {
		return
	}
	if a.uses == nil {
		a.uses, a.roots = make(map[counted]use), make(map[uint64]ondisk.InodeMeta)
	}
	key := counted{to, m.AccountGen}
	u := a.uses[key]
	u.inodes++
	if m.OwnsAccount() {
		a.roots[m.Inum] = *m
	} else {
		u.bytes += m.Charge
	}
	a.uses[key] = u
}

// sums is what each account should have, those in it included.
func (a *accounts) sums() map[uint64]use {
	sums := make(map[uint64]use, len(a.roots))
	for inum, m := range a.roots {
		u := a.uses[counted{inum, m.AccountGen}]
		for range accountsMax {
			s := sums[inum]
			sums[inum] = use{s.bytes + u.bytes, s.inodes + u.inodes}
			up, ok := a.roots[m.Account]
			if !ok || up.AccountGen != m.AccountIn || m.Account == inum {
				break
			}
			inum, m = m.Account, up
		}
	}
	return sums
}

// accounts compares the accounts of a PFS with the inodes in them.
func (c *checker) accounts(p *pfsState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	root := p.meta
	p.accounts.add(&root)
	if p.lost > 0 || unfinished(p.label) {
		return // there may be more inodes, or other ones
	}
	for inum, want := range p.accounts.sums() {
		m := p.accounts.roots[inum]
		if m.Charge != want.bytes || m.ChargeInodes != want.inodes {
			c.add(Finding{Severity: Warning, PFS: p.label, Inum: inum, resolve: true,
				What:   fmt.Sprintf("the account of the directory has %d bytes and %d inodes, the inodes in it have %d and are %d", m.Charge, m.ChargeInodes, want.bytes, want.inodes),
				Remedy: p.remedy(remedyCount)})
		}
	}
}

const remedyCount = "anvilfs quota recount MNT counts anew; systems that know no accounts leave them as they were"

// charged compares what an inode is charged with its blocks, where all of
// them are in the inode.
func (w *walk) charged(pl place, r *ondisk.Blockref, m *ondisk.InodeMeta, refs []ondisk.Blockref) {
	if m.Account == 0 || m.OwnsAccount() || m.Inum&ondisk.AttrBit != 0 {
		return
	}
	want := uint64(0)
	for i := range refs {
		if refs[i].Type != ondisk.TypeData {
			return
		}
		want += uint64(refs[i].Size())
	}
	if m.DirectData() {
		want = m.InlineCharge()
	}
	if m.Charge != want {
		w.found(pl, r, Warning, fmt.Sprintf("charged %d bytes to the account of inode %d, its blocks have %d", m.Charge, m.Account, want), remedyCount)
	}
}
