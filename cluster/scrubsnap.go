package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// PinSnapshot pins a snapshot on every node in sync that has it. There is
// nobody to wait for: snapshots do not change.
func (p *Pool) PinSnapshot(ctx context.Context, name string) (nodes []Pinned, release func(), err error) {
	release = func() {
		for i := range nodes {
			nodes[i].View.Release()
		}
	}
	table, _, err := p.snapshotTable(ctx)
	if err != nil {
		return nil, release, err
	}
	i := table.find(name)
	if i < 0 {
		return nil, release, nil // deleted since
	}
	votes := make(map[string]bool)
	for _, r := range p.engine.nodes() {
		votes[r.Name] = r.Role == ondisk.PFSMaster
	}
	for _, n := range p.engine.volumes() {
		if !n.InSync {
			continue
		}
		infos, err := n.pfss(ctx)
		if err != nil || table.Entries[i].On(infos, n.Fsid) == nil {
			continue
		}
		if v, err := n.view(ctx, name); err == nil {
			nodes = append(nodes, Pinned{n.Name, v, votes[n.Name]})
		}
	}
	return nodes, release, ctx.Err()
}

// OverwriteSnapshot is Overwrite in a snapshot: what is written there keeps the
// numbers of what it replaces, and space that others may share is left alone.
func (p *Pool) OverwriteSnapshot(ctx context.Context, node, from, name string, c chain.Change, still func(*chain.View) (bool, error)) error {
	if p.opts.ReadOnly {
		return ErrNotRepaired
	}
	vols := p.engine.volumes()
	i := slices.IndexFunc(vols, func(n nodeVolume) bool { return n.Name == node && n.InSync })
	if i < 0 {
		return fmt.Errorf("%s: %w: the node is not in sync", node, ErrNotRepaired)
	}
	written, err := replaceLeaf(ctx, vols[i].Vol, name, c, still)
	if err != nil {
		return errors.Join(fmt.Errorf("snapshot %s on %s: %w", name, node, ErrNotRepaired), err)
	}
	if written {
		p.snapMends.Add(1)
		if e, ok := p.engine.(*engine); ok {
			e.mu.Lock()
			e.announce() // who has the snapshot open looks again
			e.mu.Unlock()
		}
		p.log.Info("a differing copy was overwritten", "member", node, "from", from, "snapshot", name, "inode", c.Inum, "key", c.Key)
	}
	return nil
}
