package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Found makes one cluster of the PFSs named label on several new volumes:
// the same cluster id on all, roles[i] for vols[i], the first charter and the
// same first state everywhere. The PFSs must be empty. Until it returned nil
// nothing may be mounted; after an error format again.
//
// The number of masters is in the charter only. pfs_nmasters stays 0 on the
// media: with more, another system that is given one copy alone would wait
// for the rest.
func Found(ctx context.Context, vols []*chain.Volume, label string, roles []ondisk.PFSType) error {
	return FoundWith(ctx, vols, label, roles, ondisk.NewUUID)
}

// FoundWith is Found with ids of the caller's making, each a new one.
func FoundWith(ctx context.Context, vols []*chain.Volume, label string, roles []ondisk.PFSType, newID func() ondisk.UUID) error {
	if len(vols) != len(roles) {
		return fmt.Errorf("%d volumes, but %d roles", len(vols), len(roles))
	}
	return found(ctx, vols, label, roles, newID(), newID)
}

// found makes the cluster clid of the PFSs named label. All that they hold is the
// same everywhere.
func found(ctx context.Context, vols []*chain.Volume, label string, roles []ondisk.PFSType, clid ondisk.UUID, newID func() ondisk.UUID) error {
	c := &Charter{Config: Config{Version: 1}}
	var epoch uint32
	for i, v := range vols {
		info, err := findPFS(ctx, v, label)
		if err != nil {
			return err
		}
		epoch = max(epoch, info.T.Epoch())
		fsid := info.Fsid
		if _, twice := c.Config.Member(fsid); twice || fsid.IsZero() {
			fsid = newID()
		}
		c.Config.Members = append(c.Config.Members, Member{Fsid: fsid, Role: roles[i], Incarnation: newID()})
	}
	epoch++
	c.Lineage = *c.Lineage.WithEpoch(epoch, Position{})
	if err := validateCharter(c); err != nil {
		return err
	}
	b := charterBatch(ondisk.MakeTid(epoch, 0), c)
	pos := Position{T: b.T, H: NextH(History{}, b.T, c.Config.Version, Manifest(b))}
	for i, v := range vols {
		if err := foundOne(ctx, v, label, clid, &c.Config.Members[i], pos, b); err != nil {
			return fmt.Errorf("%s: %w", v.Name(), err)
		}
	}
	return nil
}

func foundOne(ctx context.Context, v *chain.Volume, label string, clid ondisk.UUID, m *Member, pos Position, b *chain.Batch) error {
	t, err := v.Begin(ctx)
	if err != nil {
		return err
	}
	err = errors.Join(
		t.SetPFS(ctx, label, func(meta *ondisk.InodeMeta) {
			meta.PFSType, meta.PFSClid, meta.PFSFsid, meta.PFSNMasters = m.Role, clid, m.Fsid, 0
		}),
		t.Apply(ctx, label, b),
		t.SetState(ondisk.StateEntry{Fsid: m.Fsid, PromisedEpoch: pos.T.Epoch(), ConfigVersion: 1,
			T: pos.T, H: pos.H, Incarnation: m.Incarnation, Acked: pos.T}),
	)
	if err != nil {
		t.Abort()
		return err
	}
	return t.Commit(ctx)
}
