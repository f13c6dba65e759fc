package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A SnapshotTarget is a node in sync. It takes part in the protocol, so its
// PFS is not to be changed; only the snapshots beside it may lag.
type SnapshotTarget struct {
	Name   string
	Volume *chain.Volume
	Label  string
	Fsid   ondisk.UUID
	Stamp  string // changes with the list, and when the node comes in sync
}

// SnapshotTargets are the nodes whose snapshots can be made those of the list.
func (p *Pool) SnapshotTargets(context.Context) []SnapshotTarget {
	if p.opts.ReadOnly || p.BranchOf() != nil { // a branch has nobody to get them from
		return nil
	}
	var out []SnapshotTarget
	for _, n := range p.engine.volumes() {
		if !n.InSync {
			continue
		}
		t := SnapshotTarget{Name: n.Name, Volume: n.Vol, Label: n.Label, Fsid: n.Fsid}
		// Only this pool changes the list. No device is asked.
		t.Stamp = fmt.Sprintf("%d %p %d", p.snapChanges.Load(), n.Vol, n.Since.UnixNano())
		out = append(out, t)
	}
	return out
}

// SnapshotState is what a node's tree says: the list, and from which txg on
// trees can be compared with the snapshots in it.
type SnapshotState struct {
	*SnapshotTable
	lineage Lineage
}

// ReadSnapshotState reads it from the tree of a node in sync.
func ReadSnapshotState(ctx context.Context, v *chain.View) (s SnapshotState, err error) {
	if s.SnapshotTable, err = ReadSnapshotTable(ctx, v); err != nil {
		return s, err
	}
	law, err := readCharter(ctx, v)
	if law != nil {
		s.lineage = law.Lineage
	}
	return s, err
}

// Has reports whether the list has a snapshot of that name and identity.
func (t *SnapshotTable) Has(name string, clid ondisk.UUID) bool {
	i := t.find(name)
	return i >= 0 && t.Entries[i].Clid == clid
}

// On finds the copy that a node with that fsid has among the PFSs of its
// volume; nil: it has none.
func (e *SnapshotEntry) On(infos []chain.PFSInfo, node ondisk.UUID) *chain.PFSInfo {
	for i := range infos {
		if p := &infos[i]; p.Label == e.Name && p.Clid == e.Clid && p.SnapshotOf(node) {
			return p
		}
	}
	return nil
}

// Common is a txg in the history of both the snapshot and what nodes in sync
// hold now: tables not changed since are the same in both.
func (s *SnapshotState) Common(e *SnapshotEntry) ondisk.Tid {
	if len(s.lineage.Rollbacks) >= core.MaxMarks && e.After < s.lineage.Rollbacks[0].At {
		return 0 // older ones are forgotten
	}
	at := Position{T: e.After, H: History{1}}
	return CommonTid(&s.lineage, at, &s.lineage, at)
}

// ErrNoSource: a snapshot is on no other member at hand.
var ErrNoSource = errors.New("no other member at hand has it")

// SnapshotSource returns a view of the snapshot on a node that is none of those in not, and
// that node's name. The caller releases it.
func (p *Pool) SnapshotSource(ctx context.Context, e *SnapshotEntry, not ...string) (v *chain.View, from string, err error) {
	vols := p.engine.volumes()
	slices.SortStableFunc(vols, func(a, b nodeVolume) int { return boolOrder(b.InSync) - boolOrder(a.InSync) })
	for _, n := range vols {
		if slices.Contains(not, n.Name) {
			continue
		}
		infos, err := n.pfss(ctx)
		if err != nil || e.On(infos, n.Fsid) == nil {
			continue
		}
		if v, err := n.view(ctx, e.Name); err == nil {
			return v, n.Name, nil
		}
	}
	return nil, "", ErrNoSource
}

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}
