package crashtest

import (
	"fmt"

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

func shareOf(k leafKey, l leaf) *chain.Share {
	ref := ondisk.Blockref{Key: k.key, DataOff: ondisk.MakeDataOff(0, l.block.Radix), ModifyTid: l.t}
	l.block.SetRef(&ref)
	s, ok := chain.ShareOf(k.inum, &ref)
	if !ok {
		panic(fmt.Sprintf("inode %d: block %#x cannot be shared", k.inum, k.key))
	}
	return s
}
