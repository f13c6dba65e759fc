package crashtest

import (
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// stepShare lets files have each other's blocks, in a batch with other changes,
// or in one of two batches of a transaction.
func (s *session) stepShare() error {
	return s.txn("sharing", func(t *chain.Txn, m *volume) error {
		if s.rnd.IntN(3) == 0 {
			if err := s.apply(t, m, first, s.maker(m.trees[first]).rewrite(2)); err != nil {
				return err
			}
		}
		b := s.maker(m.trees[first]).sharing(1 + s.rnd.IntN(6))
		if err := s.apply(t, m, first, b); err != nil {
			return err
		}
		if s.rnd.IntN(3) > 0 {
			return nil
		}
		return s.apply(t, m, first, s.maker(m.trees[first]).rewrite(2))
	})
}

// sharing makes a batch of up to n shared blocks, and now and then one of two
// places for a new one; a source may be replaced or deleted in it.
func (m *maker) sharing(n int) *chain.Batch {
	var data []leafKey
	for _, k := range m.keys {
		if k.kind == chain.KindData && m.tree.leaves[k].block.Check == ondisk.CheckXXHash64 {
			data = append(data, k)
		}
	}
	if len(data) == 0 {
		return m.files(4)
	}
	for range n {
		meta := m.pick(isBlocks)
		if meta == nil {
			break
		}
		from := data[m.rnd.IntN(len(data))]
		to := chain.Change{Inum: meta.Inum, Kind: chain.KindData, Key: uint64(m.rnd.IntN(12)) * ondisk.LogicalBlock}
		if m.rnd.IntN(4) == 0 {
			to.Block, to.Twin = m.pool[m.rnd.IntN(len(m.pool))], true
			twin := to
			twin.Key += ondisk.LogicalBlock
			m.put(twin)
		} else {
			to.Share = shareOf(from, m.tree.leaves[from])
		}
		m.put(to)
		meta.Size = max(meta.Size, fileSize)
		m.inode(meta, "")
	}
	switch m.rnd.IntN(4) {
	case 0:
		m.unlink()
	case 1:
		m.write()
	}
	return m.batch()
}

// stepRestore gives files of the PFS blocks that snapshots of it have, whatever
// became of the files there, and now and then the PFS changes in the same
// transaction.
func (s *session) stepRestore() error {
	var snaps []string
	for _, label := range s.now.labels("SNAP") {
		if s.now.trees[label].of == first {
			snaps = append(snaps, label)
		}
	}
	if len(snaps) == 0 {
		return s.txn("snapshot of "+first, func(t *chain.Txn, m *volume) error { return s.snapshot(t, m, first) })
	}
	label := s.oneOf(snaps)
	return s.txn("restoring from "+label, func(t *chain.Txn, m *volume) error {
		if s.rnd.IntN(3) == 0 {
			if err := s.apply(t, m, first, s.maker(m.trees[first]).rewrite(3)); err != nil {
				return err
			}
		}
		b := s.maker(m.trees[first]).restoring(label, m.trees[label], 1+s.rnd.IntN(6))
		if err := s.apply(t, m, first, b); err != nil {
			return err
		}
		if s.rnd.IntN(3) > 0 {
			return nil
		}
		return s.apply(t, m, first, s.maker(m.trees[first]).rewrite(3))
	})
}

// restoring makes a batch of up to n blocks that snapshot label has.
func (m *maker) restoring(label string, snap *tree, n int) *chain.Batch {
	var data []leafKey
	for k, l := range snap.leaves {
		if k.kind == chain.KindData && l.block.Check == ondisk.CheckXXHash64 {
			data = append(data, k)
		}
	}
	slices.SortFunc(data, compareKeys)
	for range n {
		meta := m.pick(isBlocks)
		if meta == nil || len(data) == 0 {
			break
		}
		from := data[m.rnd.IntN(len(data))]
		share := shareOf(from, snap.leaves[from])
		share.Snap, share.SnapClid = label, snapshotClid(label)
		m.put(chain.Change{Inum: meta.Inum, Kind: chain.KindData, Key: uint64(m.rnd.IntN(12)) * ondisk.LogicalBlock, Share: share})
		meta.Size = max(meta.Size, fileSize)
		m.inode(meta, "")
		m.session.restored++
	}
	if m.rnd.IntN(3) == 0 {
		m.unlink()
	}
	return m.batch()
}

// snapshotClid is the identity of a snapshot that a session makes.
func snapshotClid(label string) ondisk.UUID { return wordUUID("cluster " + label) }

func shareOf(k leafKey, l leaf) *chain.Share {
	ref := ondisk.Blockref{Key: k.key, DataOff: ondisk.MakeDataOff(0, l.block.Radix), ModifyTid: l.t}
	l.block.SetRef(&ref)
	s, ok := chain.ShareOf(k.inum, &ref)
	if !ok {
		panic(fmt.Sprintf("inode %d: block %#x cannot be shared", k.inum, k.key))
	}
	return s
}
