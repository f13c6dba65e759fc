package cluster

import (
	"context"
	"errors"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A leftover is a clone on one member that nobody ever opened.
type leftover struct {
	node nodeVolume
	info chain.PFSInfo
}

// dropAbandoned deletes what a clone of that label left whose txg was given up:
// it is no part of the PFS, so no resync takes it away, and its label would be
// taken for good. Nothing is deleted unless every member is there and in sync, and
// so is each that the clone was made for, fewer of these have it than it needs, and
// nobody ever opened it: what it has is what its snapshot had. One whose other copies
// were taken out of the cluster since may be whole there.
func (p *Pool) dropAbandoned(ctx context.Context, label string) error {
	var law *Charter
	found := make(map[ondisk.UUID][]leftover)
	level := make(map[ondisk.UUID]bool)
	for _, n := range p.engine.volumes() {
		infos, err := n.pfss(ctx)
		if err != nil {
			return nil // who cannot be asked may have it
		}
		if level[n.Fsid] = n.InSync; n.InSync {
			held, err := charterIn(ctx, &n)
			if err != nil {
				return err
			}
			if law == nil || held != nil && held.Config.Version > law.Config.Version {
				law = held
			}
		}
		for i := range infos {
			if infos[i].Label == label {
				found[infos[i].Clid] = append(found[infos[i].Clid], leftover{n, infos[i]})
			}
		}
	}
	if law == nil || slices.ContainsFunc(law.Config.Members, func(m Member) bool { return !level[m.Fsid] }) {
		return nil
	}
	for _, list := range found {
		if gone, err := abandoned(ctx, list, level); err != nil || !gone {
			return err
		}
		for i := range list {
			if err := list[i].drop(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// abandoned reports whether those that have a clone are too few to be one, all
// that could have it are at hand, and it was never opened. level are the members
// of the PFS in sync.
func abandoned(ctx context.Context, list []leftover, level map[ondisk.UUID]bool) (bool, error) {
	has := make(map[ondisk.UUID]bool)
	var law *Charter
	for i := range list {
		l := &list[i]
		if l.info.Subtype != ondisk.PFSSubNone || l.info.Fsid != chain.SnapshotFsid(l.info.Clid, l.node.Fsid) {
			return false, nil
		}
		v, err := l.node.view(ctx, l.info.Label)
		if err != nil {
			return false, err
		}
		law, err = readCharter(ctx, v)
		v.Release()
		if err != nil || law == nil || len(law.Lineage.Epochs) != 1 {
			return false, err
		}
		has[l.info.Fsid] = true
	}
	if law == nil {
		return false, nil
	}
	here := make(map[ondisk.UUID]bool) // members of the clone that would have it
	for node, is := range level {
		here[chain.SnapshotFsid(list[0].info.Clid, node)] = is
	}
	for _, set := range law.Config.Sets() {
		if slices.ContainsFunc(set, func(fsid ondisk.UUID) bool { return !here[fsid] }) {
			return false, nil
		}
	}
	return !law.Config.HasQuorum(func(fsid ondisk.UUID) bool { return has[fsid] }), nil
}

func (l *leftover) drop(ctx context.Context) error {
	_, err := within(ctx, &l.node, func() (struct{}, error) {
		t, err := l.node.Vol.Begin(ctx)
		if err != nil {
			return struct{}{}, err
		}
		t.UseReserve() // it gives space back
		if err := t.DeletePFS(ctx, l.info.Label); err != nil && !errors.Is(err, chain.ErrNoPFS) {
			t.Abort()
			return struct{}{}, err
		}
		t.ClearState(l.info.Fsid)
		return struct{}{}, t.Commit(ctx)
	}, nil)
	return err
}
