package cluster

import (
	"context"
	"errors"
	"fmt"

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
	if l.Inum == 0 {
		err := vol.VerifySuper(ctx, func(key uint64) { bad = bad || key == l.Key })
		return bad || errors.Is(err, ondisk.ErrCorrupt), err
	}
	v, err := vol.ColdView(ctx, label)
	if errors.Is(err, ondisk.ErrCorrupt) {
		return true, nil // its root
	}
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

// SuperLeaf is the super-root of a volume, which leads to its PFSs; with a key, the
// root of one whose name is not known.
func SuperLeaf(key uint64) Leaf { return Leaf{Inum: 0, Key: key, Kind: ondisk.TypeInode} }

// RootLeaf is the root of a PFS.
func RootLeaf() Leaf { return Leaf{Inum: ondisk.InumRoot, Kind: ondisk.TypeInode} }

// HeaderLeaf is a copy of a volume header, by its place on the file system.
func HeaderLeaf(off uint64) Leaf { return Leaf{Inum: 0, Key: off, Kind: ondisk.TypeEmpty} }

// Header reports whether the leaf is a copy of a volume header.
func (l Leaf) Header() bool { return l.Kind == ondisk.TypeEmpty && l.Inum == 0 }

// root reports whether the leaf is the super-root or a root.
func (l Leaf) root() bool {
	return l.Kind == ondisk.TypeInode && (l.Inum == 0 || l.Inum == ondisk.InumRoot && l.Key == 0)
}

// repairRoot writes the root of a PFS anew, and the super-root above it, from what
// memory has of them: they are read when a volume is opened, and not again while it
// is. Without that the PFS is copied; what leads to all PFSs cannot be.
func (e *engine) repairRoot(ctx context.Context, m *member, d Damage) error {
	c, err := e.repairable(m)
	if err != nil {
		return err
	}
	if bad, err := d.unreadable(ctx, c.vol, d.Label); !bad {
		return err
	}
	err = c.rewriteRoot(ctx, d.Label)
	if errors.Is(err, chain.ErrVolumeFailed) {
		e.post(func() { e.fail(m, err.Error()) })
		return err
	}
	if bad, again := d.unreadable(ctx, c.vol, d.Label); err == nil && !bad && again == nil {
		m.repaired.Add(1)
		e.mu.Lock()
		e.announce()
		e.mu.Unlock()
		e.log.Info("a root was written anew", "member", d.Node, "pfs", d.Label)
		return nil
	}
	switch {
	case d.Inum == 0 && d.Key != 0:
		return errors.Join(fmt.Errorf("it is the root of a snapshot, which is copied again by itself, or of another filesystem on %s: "+
			"copy out what else it has, then anvilfs node replace MNT NODE DEVICE, or %s", d.Node, d.givenUp()), err)
	case d.Inum == 0:
		return errors.Join(errors.New("what leads to the filesystem and its snapshots cannot be read: anvilfs node replace MNT NODE DEVICE"), err)
	case d.Label == e.o.Label:
		return e.condemn(damage{m: m, Leaf: d.Leaf})
	}
	return fmt.Errorf("its root is damaged: %w", ErrCopyAnew)
}

// givenUp says how a root without a known name is deleted.
func (l Leaf) givenUp() string {
	return fmt.Sprintf("anvilfs pfs delete --damaged DEVICE %016x, once it is not mounted", l.Key)
}

// repairHeader writes a copy of a volume header anew. The others on the same device
// are what it is written from, so that no other node is needed.
func (e *engine) repairHeader(ctx context.Context, m *member, d Damage) error {
	c, err := e.repairable(m)
	if err != nil {
		return err
	}
	written, err := c.vol.MendHeader(ctx, d.Key)
	if errors.Is(err, chain.ErrVolumeFailed) {
		e.post(func() { e.fail(m, err.Error()) })
	}
	if err == nil && written {
		m.repaired.Add(1)
		e.log.Info("a copy of the volume header was written anew", "member", d.Node, "at", d.Key)
	}
	return err
}

// rewriteRoot moves a root, and so the super-root. Nothing in them is changed.
func (c *conn) rewriteRoot(ctx context.Context, label string) error {
	t, err := c.vol.Begin(ctx)
	if err != nil {
		return err
	}
	t.UseReserve()
	if err := t.SetPFS(ctx, label, func(*ondisk.InodeMeta) {}); err != nil {
		t.Abort()
		return err
	}
	if err := t.Commit(ctx); err != nil {
		return err
	}
	return c.showAgain(ctx)
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
