package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// cloneAhead is how many epochs above ours a clone begins, so that its numbers
// are new even if ours have moved on before its txg is made.
const cloneAhead = 1024

// SnapshotClone makes a filesystem of its own of a snapshot: a PFS label on
// the same members, with which it shares all it does not change. The members
// that lack the snapshot, or are not there, would not be part of it: without
// force that is refused.
func (p *Pool) SnapshotClone(ctx context.Context, name, label string, force bool) error {
	err := p.changeSnapshots(ctx, func(t *SnapshotTable) ([]chain.PFSOp, error) {
		i := t.find(name)
		if i < 0 {
			return nil, noSnapshot(name)
		}
		e := &t.Entries[i]
		if err := checkSnapshotName(label); err != nil {
			return nil, err
		}
		if err := p.dropAbandoned(ctx, label); err != nil {
			return nil, err
		}
		c := &chain.CloneSpec{Label: label, Clid: ondisk.NewUUID()}
		if err := p.cloneNodes(ctx, e, c, force); err != nil {
			return nil, err
		}
		return []chain.PFSOp{{Kind: chain.OpClone, Name: name, Clid: e.Clid, Clone: c}}, nil
	})
	if err != nil {
		return fmt.Errorf("snapshot clone: %w", err)
	}
	return nil
}

// cloneNodes finds out who takes part, and makes them a cluster.
func (p *Pool) cloneNodes(ctx context.Context, e *SnapshotEntry, c *chain.CloneSpec, force bool) error {
	var law *Charter
	in := make(map[ondisk.UUID]bool)
	var out []string
	for _, n := range p.engine.volumes() {
		own, infos, err := n.look(ctx)
		if err != nil {
			out = append(out, n.Name)
			continue
		}
		for i := range infos {
			if infos[i].Label == c.Label {
				return fmt.Errorf("%q is the label of another PFS on %s: choose another", c.Label, n.Name)
			}
		}
		switch {
		case !n.InSync || e.On(infos, n.Fsid) == nil && own.Has(e.Name, e.Clid):
			out = append(out, n.Name)
			continue
		case len(n.Vol.Header().States) == ondisk.MaxStates:
			return fmt.Errorf("%s has no room for one more filesystem of a cluster, of which a volume has at most %d: delete one", n.Name, ondisk.MaxStates)
		}
		in[n.Fsid] = true
		// One that is in sync may be a txg behind: the newest is the law.
		held, err := charterIn(ctx, &n)
		if err != nil {
			return err
		}
		if law == nil || held != nil && held.Config.Version > law.Config.Version {
			law = held
		}
	}
	if law == nil { // not clustered: one volume
		if len(in) == 0 {
			return errors.New("the snapshot is not there")
		}
		return nil
	}
	cfg := Config{Version: 1}
	for _, m := range law.Config.Members {
		if !in[m.Fsid] {
			if !p.given(m.Fsid) {
				out = append(out, p.nameOf(m.Fsid))
			}
			continue
		}
		fsid := chain.SnapshotFsid(c.Clid, m.Fsid)
		c.Nodes = append(c.Nodes, fsid)
		cfg.Members = append(cfg.Members, Member{Fsid: fsid, Role: m.Role, Incarnation: chain.CloneIncarnation(fsid)})
	}
	if len(out) > 0 && !force {
		return fmt.Errorf("the clone would not be on %s, which lack the snapshot or are not in sync: bring them back and wait for their snapshots, or use -f", strings.Join(out, ", "))
	}
	return FoundClone(p.engine.committed().T, c, cfg)
}

// OthersOn lists the filesystems beside this one that have a copy on a node: clones,
// and what another system made there. Their copy does not follow when the node is
// replaced. Of a node that is not open nothing is known.
func (p *Pool) OthersOn(ctx context.Context, node string) (labels []string) {
	for _, n := range p.engine.volumes() {
		if n.Name != node {
			continue
		}
		infos, err := n.pfss(ctx)
		if err != nil {
			return nil
		}
		for i := range infos {
			if o := &infos[i]; Mountable(o) && o.Fsid != n.Fsid {
				labels = append(labels, o.Label)
			}
		}
	}
	return labels
}

func (p *Pool) given(fsid ondisk.UUID) bool {
	for _, n := range p.engine.volumes() {
		if n.Fsid == fsid {
			return true
		}
	}
	return false
}

// nameOf is how the mount calls a member, here or not.
func (p *Pool) nameOf(fsid ondisk.UUID) string {
	for _, n := range p.engine.nodes() {
		if n.Fsid == fsid {
			return n.Name
		}
	}
	return fsid.String()
}

func charterIn(ctx context.Context, n *nodeVolume) (*Charter, error) {
	v, err := n.view(ctx, n.Label)
	if err != nil {
		return nil, err
	}
	defer v.Release()
	return readCharter(ctx, v)
}

// FoundClone gives a clone that is made after that txg its own first one: the
// charter of a new cluster, and no list of snapshots, since those are not the
// clone's.
func FoundClone(after ondisk.Tid, c *chain.CloneSpec, cfg Config) error {
	epoch := after.Epoch() + cloneAhead
	law := &Charter{Config: cfg}
	law.Lineage = *law.Lineage.WithEpoch(epoch, Position{})
	if err := validateCharter(law); err != nil {
		return fmt.Errorf("too few members have the snapshot: %w", err)
	}
	c.First = charterBatch(ondisk.MakeTid(epoch, 0), law)
	c.First.Changes = append(c.First.Changes, chain.Change{Inum: ondisk.InumSnapshots, Kind: chain.KindInode, Delete: true})
	T := c.First.T
	c.State = &ondisk.StateEntry{PromisedEpoch: epoch, ConfigVersion: cfg.Version, T: T, Acked: T,
		H: NextH(History(c.Clid), T, cfg.Version, Manifest(c.First))}
	return nil
}
