package cluster

import (
	"context"
	"errors"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// ErrCopyAnew: a table of a snapshot is damaged on a node, or a block whose place
// cannot be written. What lies below a table is not known there, so the snapshot
// as a whole is to be copied from another node.
var ErrCopyAnew = errors.New("the snapshot has to be copied anew")

// probeBytes is enough to read all tables on the way to a place.
const probeBytes = 1 << 20

// unreadable reports whether what leads to the leaf, or the leaf if it is no
// data block, cannot be read on the device: another repair may have come first.
func (l Leaf) unreadable(ctx context.Context, vol *chain.Volume, label string) (bad bool, err error) {
	v, err := vol.ColdView(ctx, label)
	if err != nil {
		return false, err
	}
	defer v.Release()
	at := chain.VerifyPlace{Index: l.Key}
	if l.Inum != ondisk.InumRoot {
		at = chain.VerifyPlace{Index: l.Inum, Key: l.Key}
	}
	_, _, _, err = v.Verify(ctx, at, probeBytes, nil, func(e *chain.NodeError) error {
		bad = bad || e.Ref.Type != ondisk.TypeData
		return nil
	})
	return bad, err
}

// readsNow reports whether a table of the PFS can be read again: by now it was
// copied, or the device was in trouble for a moment only.
func (e *engine) readsNow(ctx context.Context, m *member, d Damage) bool {
	if d.Single() {
		return false
	}
	for _, v := range e.attached() {
		if v.m == m {
			bad, err := d.unreadable(ctx, v.conn.vol, v.conn.label)
			return !bad && err == nil
		}
	}
	return false
}

// SnapshotRenewed says that a node's copy of a snapshot was put in place of one
// that could not be read: who has the snapshot open looks again.
func (p *Pool) SnapshotRenewed(node, name string) {
	p.snapMends.Add(1)
	if e, ok := p.engine.(*engine); ok {
		e.ask(func() {
			if m := e.byName(node); m != nil {
				m.repaired.Add(1)
			}
		})
		e.mu.Lock()
		e.announce()
		e.mu.Unlock()
	}
	p.log.Info("a damaged snapshot was copied anew", "member", node, "snapshot", name)
}

// Snapshot finds an entry of the list.
func (t *SnapshotTable) Snapshot(name string) (e SnapshotEntry, ok bool) {
	i := t.find(name)
	if i < 0 {
		return e, false
	}
	return t.Entries[i], true
}
