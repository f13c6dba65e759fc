package chain

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// OpKind says what a PFSOp does.
type OpKind uint8

// The kinds of operations on snapshots.
const (
	OpSnapshot OpKind = iota + 1 // make snapshot Name of the PFS
	OpDelete                     // remove snapshot Name
)

var opNames = [...]string{"none", "snapshot", "delete"}

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
}

func (o *PFSOp) validate() error {
	if o.Kind < OpSnapshot || o.Kind > OpDelete {
		return fmt.Errorf("%w: %v", ErrBadBatch, o.Kind)
	}
	if err := validLabel(o.Name); err != nil {
		return fmt.Errorf("%w: %v: %w", ErrBadBatch, o.Kind, err)
	}
	if o.Clid.IsZero() {
		return fmt.Errorf("%w: %v of %q without an identity", ErrBadBatch, o.Kind, o.Name)
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

// operate carries out one operation of a batch of that tid on the PFS of that
// label.
func (t *Txn) operate(ctx context.Context, label string, tid ondisk.Tid, op *PFSOp) error {
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
