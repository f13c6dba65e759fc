package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

var (
	// ErrNoSnapshot: the pool has no snapshot of that name.
	ErrNoSnapshot = errors.New("there is no such snapshot")

	// ErrSnapshotExists: the name is taken.
	ErrSnapshotExists = errors.New("there is a snapshot of that name")

	// ErrIsSnapshot: what was to be opened for writing is a snapshot.
	ErrIsSnapshot = errors.New("a snapshot can only be read")

	// ErrHeld: a hold keeps the snapshot.
	ErrHeld = errors.New("the snapshot is held")

	// errNotDurable: it was done, and is not committed yet.
	errNotDurable = errors.New("not durable yet")
)

// snapshotTable reads the list as the open group has it. A PFS that never had
// a snapshot has an empty one.
func (p *Pool) snapshotTable(ctx context.Context) (t *SnapshotTable, size uint64, err error) {
	b, err := p.snapshotBytes(ctx)
	if err != nil || b == nil {
		return &SnapshotTable{}, 0, err
	}
	t, err = DecodeSnapshotTable(b)
	return t, uint64(len(b)), err
}

// snapshotBytes is the list as it is stored, nil if there never was one. What a
// snapshot has in its place is the list of its source, as that was then.
func (p *Pool) snapshotBytes(ctx context.Context) ([]byte, error) {
	if vols := p.engine.volumes(); len(vols) > 0 && vols[0].Snap {
		return nil, nil
	}
	in, ok, err := p.Inode(ctx, ondisk.InumSnapshots)
	if err != nil || !ok {
		return nil, err
	}
	if in.Meta.Size > snapTableMax {
		return nil, snapErrorf("%d bytes", in.Meta.Size)
	}
	b := make([]byte, in.Meta.Size)
	return b, p.ReadData(ctx, ondisk.InumSnapshots, 0, b)
}

// ReadSnapshotTable reads the list of snapshots of a tree.
func ReadSnapshotTable(ctx context.Context, v *chain.View) (*SnapshotTable, error) {
	in, ok, err := v.Inode(ctx, ondisk.InumSnapshots)
	if err != nil || !ok {
		return &SnapshotTable{}, err
	}
	if in.Meta.Size > snapTableMax {
		return nil, snapErrorf("%d bytes", in.Meta.Size)
	}
	b := make([]byte, in.Meta.Size)
	if err := v.ReadData(ctx, ondisk.InumSnapshots, 0, b); err != nil {
		return nil, err
	}
	return DecodeSnapshotTable(b)
}

// changeSnapshots lets edit change the list, and makes that durable together
// with the operations that edit returns. What edit refuses changes nothing.
func (p *Pool) changeSnapshots(ctx context.Context, edit func(t *SnapshotTable) ([]chain.PFSOp, error)) error {
	if p.opts.ReadOnly {
		return ErrReadOnly
	}
	select {
	case p.snapTurn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() {
		p.snapChanges.Add(1)
		<-p.snapTurn
	}()
	table, size, err := p.snapshotTable(ctx)
	if err != nil {
		return err
	}
	ops, err := edit(table)
	if err != nil {
		return err
	}
	content, err := EncodeSnapshotTable(table)
	if err != nil {
		return err
	}
	if err := p.storeSnapshots(ctx, content, size, ops); err != nil {
		return err
	}
	if err := p.Settle(ctx); err != nil {
		return fmt.Errorf("%w, it is made so when the members answer: %w", errNotDurable, err)
	}
	return nil
}

// storeSnapshots puts the list and the operations into the open group. It may
// use the reserve: deleting snapshots is how a full pool gets space.
func (p *Pool) storeSnapshots(ctx context.Context, content []byte, oldSize uint64, ops []chain.PFSOp) error {
	most := max(len(content), int(oldSize))
	cost := Cost{Leaves: 4, Bytes: int64(most), Small: most <= SmallBlock}
	t, err := p.beginDeletion(ctx, cost, ops)
	if err != nil {
		return err
	}
	defer t.End()
	meta := ondisk.NewInodeMeta(ondisk.InumSnapshots, ondisk.ObjFile)
	meta.Mode, meta.Nlinks, meta.Iparent, meta.Size = 0o600, 1, ondisk.InumRoot, uint64(len(content))
	meta.CompAlgo, meta.CheckAlgo = uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64)
	if meta.Size < oldSize {
		// A failure here leaves the list as it was: nothing shorter is written yet.
		if err := t.TruncateData(p.ctx, ondisk.InumSnapshots, oldSize, meta.Size); err != nil {
			return err
		}
	}
	t.PutInode(&Inode{Meta: meta})
	if err := t.WriteData(p.ctx, ondisk.InumSnapshots, 0, content); err != nil {
		return err
	}
	t.g.addOps(ops)
	return nil
}

// addOps has the group carry out operations at its end.
func (g *group) addOps(ops []chain.PFSOp) {
	g.opsMu.Lock()
	defer g.opsMu.Unlock()
	g.ops = append(g.ops, ops...)
}

// SnapshotCreate makes a snapshot of all calls that have ended. It takes no
// longer in a large pool than in a small one. An empty name: the time.
func (p *Pool) SnapshotCreate(ctx context.Context, name string, auto bool, holds ...Hold) (string, error) {
	now := p.now()
	op := chain.PFSOp{Kind: chain.OpSnapshot, Clid: ondisk.NewUUID(), Auto: auto}
	err := p.changeSnapshots(ctx, func(t *SnapshotTable) ([]chain.PFSOp, error) {
		op.Name = t.nameAt(name, now)
		if err := checkSnapshotName(op.Name); err != nil {
			return nil, err
		}
		if t.find(op.Name) >= 0 {
			return nil, fmt.Errorf("%q: %w: choose another name, or delete it first", op.Name, ErrSnapshotExists)
		}
		if err := p.labelFree(ctx, op.Name); err != nil {
			return nil, err
		}
		t.Entries = append(t.Entries, SnapshotEntry{Name: op.Name, Clid: op.Clid,
			After: p.engine.committed().T, Created: now, Auto: auto, Holds: holds})
		return []chain.PFSOp{op}, nil
	})
	if err != nil {
		return "", fmt.Errorf("snapshot create: %w", err)
	}
	return op.Name, nil
}

// nameAt is name, or one made of the time that nobody has.
func (t *SnapshotTable) nameAt(name string, now time.Time) string {
	if name != "" {
		return name
	}
	name = now.Format("2006-01-02T15.04.05")
	for i := 2; t.find(name) >= 0; i++ {
		name = fmt.Sprintf("%s-%d", now.Format("2006-01-02T15.04.05"), i)
	}
	return name
}

// labelFree refuses a name that is the label of another PFS on some member.
func (p *Pool) labelFree(ctx context.Context, name string) error {
	for _, n := range p.engine.volumes() {
		infos, err := n.pfss(ctx)
		if err != nil {
			continue // that member has other troubles
		}
		for i := range infos {
			if infos[i].Label == name && !infos[i].SnapshotOf(n.Fsid) {
				return fmt.Errorf("%q is the label of another PFS on %s: choose another name", name, n.Name)
			}
		}
	}
	return nil
}

// SnapshotDelete removes snapshots, all or none of them. One that is held
// stays: ErrHeld.
func (p *Pool) SnapshotDelete(ctx context.Context, names ...string) error {
	err := p.deleteSnapshots(ctx, names...)
	if err == nil {
		p.Dropped()
	}
	return err
}

// deleteSnapshots is SnapshotDelete for who does it again and again: a walk that
// finds their space is not worth it each time.
func (p *Pool) deleteSnapshots(ctx context.Context, names ...string) error {
	now := p.now()
	err := p.changeSnapshots(ctx, func(t *SnapshotTable) (ops []chain.PFSOp, err error) {
		for i, name := range names {
			if slices.Contains(names[:i], name) {
				continue
			}
			op, err := t.Delete(name, now)
			if err != nil {
				return nil, err
			}
			ops = append(ops, op)
		}
		return ops, nil
	})
	if err != nil {
		return fmt.Errorf("snapshot delete: %w", err)
	}
	return nil
}

// Delete takes a snapshot off the list, and returns what removes it. One that is
// held stays: ErrHeld.
func (t *SnapshotTable) Delete(name string, now time.Time) (op chain.PFSOp, err error) {
	i := t.find(name)
	if i < 0 {
		return op, noSnapshot(name)
	}
	e := t.Entries[i]
	for _, h := range e.Holds {
		if h.ActiveAt(now) {
			return op, fmt.Errorf("%q: %w by %s%s: release it first", name, ErrHeld, h.Owner, untilText(h.Until))
		}
	}
	t.Entries = slices.Delete(t.Entries, i, i+1)
	return chain.PFSOp{Kind: chain.OpDelete, Name: name, Clid: e.Clid}, nil
}

func noSnapshot(name string) error {
	return fmt.Errorf("%q: %w: anvilfs snapshot list MNT shows those there are", name, ErrNoSnapshot)
}

func untilText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " until " + t.UTC().Format(time.RFC3339)
}

// SnapshotHold keeps a snapshot from being deleted. A hold of the same owner
// is replaced.
func (p *Pool) SnapshotHold(ctx context.Context, name, owner string, until time.Time) error {
	now := p.now()
	err := p.changeSnapshots(ctx, func(t *SnapshotTable) ([]chain.PFSOp, error) {
		i := t.find(name)
		if i < 0 {
			return nil, noSnapshot(name)
		}
		if !until.IsZero() && !until.After(now) {
			return nil, fmt.Errorf("a hold until %s would be over: give a time to come", until.UTC().Format(time.RFC3339))
		}
		e := &t.Entries[i]
		e.Holds = slices.DeleteFunc(slices.Clone(e.Holds), func(h Hold) bool { return h.Owner == owner || !h.ActiveAt(now) })
		e.Holds = append(e.Holds, Hold{Owner: owner, Since: now, Until: until})
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("snapshot hold: %w", err)
	}
	return nil
}

// SnapshotRelease takes back a hold.
func (p *Pool) SnapshotRelease(ctx context.Context, name, owner string) error {
	err := p.changeSnapshots(ctx, func(t *SnapshotTable) ([]chain.PFSOp, error) {
		i := t.find(name)
		if i < 0 {
			return nil, noSnapshot(name)
		}
		e := &t.Entries[i]
		kept := slices.DeleteFunc(slices.Clone(e.Holds), func(h Hold) bool { return h.Owner == owner })
		if len(kept) == len(e.Holds) {
			return nil, fmt.Errorf("%q is not held by %s%s", name, owner, e.holders())
		}
		e.Holds = kept
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("snapshot release: %w", err)
	}
	return nil
}

func (e *SnapshotEntry) holders() string {
	if len(e.Holds) == 0 {
		return " nor by anybody"
	}
	var names []string
	for _, h := range e.Holds {
		names = append(names, h.Owner)
	}
	return ", but by " + strings.Join(names, ", ")
}
