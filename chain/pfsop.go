package chain

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// OpKind says what a PFSOp does.
type OpKind uint8

// The kinds of operations on snapshots.
const (
	OpSnapshot OpKind = iota + 1 // make snapshot Name of the PFS
	OpDelete                     // remove snapshot Name
	OpClone                      // make a PFS of its own of snapshot Name
	OpRollback                   // put back the content of snapshot Name
)

var opNames = [...]string{"none", "snapshot", "delete", "clone", "rollback"}

// String returns the lower-case name of the kind.
func (k OpKind) String() string {
	if int(k) < len(opNames) {
		return opNames[k]
	}
	return fmt.Sprintf("unknown(%d)", uint8(k))
}

// A PFSOp is an operation on a whole PFS that is part of a batch: every node
// carries it out at the same T, in the same commit as the batch's changes.
//
// An operation is about the snapshot with this Clid. Done a second time it
// changes nothing, and a PFS of another origin under the same label is left
// alone: then the node lacks the snapshot, as if it had been away.
type PFSOp struct {
	Kind OpKind
	Name string      // label of the snapshot
	Clid ondisk.UUID // its identity, the same on all nodes
	Auto bool        // OpSnapshot: made by a policy, not by a person

	Clone *CloneSpec // OpClone

	// To, of OpRollback, is a txg in the history of both the snapshot and the
	// PFS. Chain does nothing with it: whoever compares histories must know.
	To ondisk.Tid
}

// A CloneSpec is what a clone is to be: a filesystem that others may change.
type CloneSpec struct {
	Label string
	Clid  ondisk.UUID
	// Nodes are the fsids of those that take part, SnapshotFsid of Clid and the
	// node's own; others leave the clone out. None: all do.
	Nodes []ondisk.UUID
	// First, if not nil, is applied to the clone, whose T is its T from then on.
	First *Batch
	// State, if not nil, is the clone's state entry, all but Fsid and
	// Incarnation, which CloneIncarnation makes.
	State *ondisk.StateEntry
}

// CloneIncarnation is the first incarnation of a clone's node.
func CloneIncarnation(fsid ondisk.UUID) ondisk.UUID { return SnapshotFsid(fsid, fsid) }

func (o *PFSOp) validate() error {
	if o.Kind < OpSnapshot || o.Kind > OpRollback || (o.Kind == OpClone) != (o.Clone != nil) {
		return fmt.Errorf("%w: %v", ErrBadBatch, o.Kind)
	}
	if err := validLabel(o.Name); err != nil {
		return fmt.Errorf("%w: %v: %w", ErrBadBatch, o.Kind, err)
	}
	if o.Clid.IsZero() {
		return fmt.Errorf("%w: %v of %q without an identity", ErrBadBatch, o.Kind, o.Name)
	}
	if c := o.Clone; c != nil {
		if err := validLabel(c.Label); err != nil || c.Clid.IsZero() {
			return fmt.Errorf("%w: clone %q with identity %v", ErrBadBatch, c.Label, c.Clid)
		}
		if c.First != nil {
			return c.First.Validate()
		}
	}
	return nil
}

// SnapshotFsid is the fsid that a node's copy of the snapshot clid has; node
// is the fsid of the PFS it was taken of. That an fsid is derived so is the
// proof on media that a snapshot belongs to that PFS and was made by us.
func SnapshotFsid(clid, node ondisk.UUID) ondisk.UUID {
	sum := sha256.Sum256(append(append([]byte("anvilfs snapshot"), clid[:]...), node[:]...))
	return ondisk.UUID(sum[:16])
}

// SnapshotOf reports whether p is a snapshot that an operation made of the
// PFS with that fsid.
func (p *PFSInfo) SnapshotOf(node ondisk.UUID) bool {
	return p.Subtype != ondisk.PFSSubNone && p.Fsid == SnapshotFsid(p.Clid, node)
}

// operate carries out one operation of a batch on the PFS of that label.
func (t *Txn) operate(ctx context.Context, label string, b *Batch, op *PFSOp) error {
	tid := b.T
	p, err := t.pfs(ctx, label)
	if err != nil {
		return err
	}
	have, err := t.pfs(ctx, op.Name)
	switch {
	case errors.Is(err, ErrNoPFS):
	case err != nil:
		return err
	case have.meta.PFSFsid != SnapshotFsid(have.meta.PFSClid, p.meta.PFSFsid):
		t.v.log.Warn("snapshot left out: another PFS has its label", "device", t.v.Name(), "label", op.Name)
		return nil
	}
	same := have != nil && have.meta.PFSClid == op.Clid
	if op.Kind == OpClone {
		if !same {
			t.v.log.Warn("clone left out: its snapshot is not here", "device", t.v.Name(), "label", op.Clone.Label, "snapshot", op.Name)
			return nil
		}
		return t.clone(ctx, op, tid, &p.meta)
	}
	if op.Kind == OpRollback {
		if !same {
			return fmt.Errorf("%s: rollback to snapshot %q: %w", t.v.Name(), op.Name, ErrNoPFS)
		}
		return t.rollback(ctx, p, have, b)
	}
	if same == (op.Kind == OpSnapshot) {
		return nil // done before
	}
	if have != nil { // to go, or of a history that was given up
		if err := t.DeletePFS(ctx, op.Name); err != nil || op.Kind == OpDelete {
			return err
		}
	}
	return t.Snapshot(ctx, label, op.Name, op.spec(tid, p.meta.PFSFsid))
}

// spec says how a node makes its copy of the snapshot.
func (o *PFSOp) spec(tid ondisk.Tid, node ondisk.UUID) SnapSpec {
	s := SnapSpec{T: tid, Subtype: ondisk.PFSSubSnapshot, Clid: o.Clid, Fsid: SnapshotFsid(o.Clid, node)}
	if o.Auto {
		s.Subtype = ondisk.PFSSubAutoSnapshot
	}
	return s
}

// clone makes a PFS of its own of the snapshot, which is here. of is the root of
// the PFS that the snapshot was taken of.
func (t *Txn) clone(ctx context.Context, op *PFSOp, tid ondisk.Tid, of *ondisk.InodeMeta) error {
	c, fsid := op.Clone, SnapshotFsid(op.Clone.Clid, of.PFSFsid)
	if len(c.Nodes) > 0 && !slices.Contains(c.Nodes, fsid) {
		return nil
	}
	switch have, err := t.pfs(ctx, c.Label); {
	case err == nil && have.meta.PFSClid == c.Clid:
		return nil // done before
	case err == nil:
		t.v.log.Warn("clone left out: another PFS has its label", "device", t.v.Name(), "label", c.Label)
		return nil
	case !errors.Is(err, ErrNoPFS):
		return err
	}
	if c.First != nil && c.First.T <= tid || c.State != nil && len(t.states) == ondisk.MaxStates {
		t.v.log.Warn("clone left out: no room for its state, or numbers that are in use", "device", t.v.Name(), "label", c.Label)
		return nil
	}
	if err := t.Snapshot(ctx, op.Name, c.Label, SnapSpec{T: tid, Type: of.PFSType, Shadow: true, Clid: c.Clid, Fsid: fsid}); err != nil {
		return err
	}
	if c.First != nil {
		if err := t.Apply(ctx, c.Label, c.First); err != nil {
			return err
		}
	}
	if c.State == nil {
		return nil
	}
	e := *c.State
	e.Fsid, e.Incarnation = fsid, CloneIncarnation(fsid)
	return t.SetState(e)
}

// rollback gives p the content that its snapshot s has, but for the inodes that
// anvilfs keeps for itself: those are as the batch, which has to bring them
// whole, says. What only p had is left to Bulkfree.
func (t *Txn) rollback(ctx context.Context, p, s *pfsInfo, b *Batch) error {
	set, err := t.rootSet(ctx, s)
	if err != nil {
		return err
	}
	meta := mergeRootMeta(&s.meta, &p.meta)
	meta.PFSLsnapTid = b.T // the snapshot has all of it
	t.shared++
	t.leave(&p.ref)
	if err := t.writeRoot(p, p.ref, meta, set); err != nil {
		return err
	}
	own := &Batch{T: b.T} // gives the root its T, also if it is empty
	for i := range b.Changes {
		c := b.Changes[i]
		if c.Inum == ondisk.InumRoot || c.Inum >= ondisk.InumFirst {
			continue
		}
		own.Changes = append(own.Changes, c)
		if c.Kind == KindInode && !c.Delete {
			own.Changes = append(own.Changes, Change{Inum: c.Inum, Kind: KindData, Delete: true, To: ondisk.DirBit})
		}
	}
	own.Sort()
	return t.applyBatch(ctx, t.changed[p.ref.Key], own)
}
