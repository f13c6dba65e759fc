package chain

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A Share says that a data block is to be the one that another place holds
// before the batch: the tree refers to it twice, and no bytes are written.
//
// What the block is like is said too, so that every node shares the same
// content or fails, and so that a batch that takes effect twice changes
// nothing: when the source is gone by then, the target has the block already.
//
// The place may be in a snapshot of the PFS. A node without it fails: only who
// knows that all nodes have it may ask for this.
type Share struct {
	Snap      string      // label of the snapshot; "" = the PFS itself
	SnapClid  ondisk.UUID // its identity
	Inum, Key uint64      // where the block is
	ModifyTid ondisk.Tid  // of the leaf there; 0 = not known
	Radix     uint8
	Comp      ondisk.CompMethod
	Check     ondisk.CheckMethod
	Code      [64]byte // as in EncodedBlock
}

// ShareOf describes the block that the leaf at ref of inode inum has; ok is
// false if it cannot be told from another by its check code.
func ShareOf(inum uint64, ref *ondisk.Blockref) (s *Share, ok bool) {
	s = &Share{
		Inum: inum, Key: ref.Key, ModifyTid: ref.ModifyTid,
		Radix: ref.Radix(), Comp: ref.CompMethod(), Check: ref.CheckMethod(), Code: ref.Check,
	}
	return s, s.validate() == nil && ref.Type == ondisk.TypeData
}

// Is reports whether ref has the block, by what its check code tells.
func (s *Share) Is(ref *ondisk.Blockref) bool {
	return ref.Type == ondisk.TypeData && ref.Radix() == s.Radix && ref.CompMethod() == s.Comp &&
		ref.CheckMethod() == s.Check && ref.Check == s.Code
}

// Source reports whether ref, the leaf at the source, is the one meant.
func (s *Share) Source(ref *ondisk.Blockref) bool {
	return s.Is(ref) && (s.ModifyTid == 0 || s.ModifyTid == ref.ModifyTid)
}

func (s *Share) validate() error {
	switch {
	case (s.Snap == "") != s.SnapClid.IsZero():
		return errors.New("a snapshot without an identity, or one of none")
	case s.Snap != "" && validLabel(s.Snap) != nil:
		return fmt.Errorf("impossible label %q of a snapshot", s.Snap)
	case s.Inum == 0 || s.Inum >= ondisk.DirBit:
		return errors.New("impossible inode number of a source")
	case s.Key%ondisk.LogicalBlock != 0 || s.Key >= ondisk.DirBit:
		return errors.New("impossible offset of a source")
	case s.Radix < ondisk.MinRadix || s.Radix > ondisk.MaxRadix:
		return fmt.Errorf("shared block with radix %d", s.Radix)
	case s.Check == ondisk.CheckNone || s.Check == ondisk.CheckDisabled || s.Check >= ondisk.CheckFreemap:
		return fmt.Errorf("shared block with check method %v", s.Check)
	}
	return nil
}

// sharing is what a batch makes refer to one block several times.
type sharing struct {
	sources map[*Change]ondisk.Blockref // the leaves to share, as they were before the batch
	marks   map[uint64]ondisk.Tid       // by inode: its blocks up to there have other owners now
	blocks  map[uint64]bool             // addresses of the sources
	twins   map[*ondisk.EncodedBlock]*twin
}

// A twin is a block that a batch has in several places.
type twin struct {
	inum uint64
	ref  ondisk.Blockref // once it is written
	many bool
}

// sharedRun is how far apart sources may be for one walk to look for both.
const sharedRun = 256 * ondisk.LogicalBlock

// findShared looks up what the batch shares, before anything of it is done.
func (a *applier) findShared(ctx context.Context) error {
	sh := &a.sharing
	var list []*Change
	for i := range a.batch.Changes {
		c := &a.batch.Changes[i]
		switch {
		case c.Share != nil:
			list = append(list, c)
		case c.Twin && c.Block != nil:
			sh.twin(c, a.batch.T)
		}
	}
	if len(list) == 0 {
		return nil
	}
	slices.SortFunc(list, func(x, y *Change) int {
		return cmp.Or(cmp.Compare(x.Share.Snap, y.Share.Snap), bytes.Compare(x.Share.SnapClid[:], y.Share.SnapClid[:]),
			cmp.Compare(x.Share.Inum, y.Share.Inum), cmp.Compare(x.Share.Key, y.Share.Key))
	})
	sh.sources, sh.blocks = make(map[*Change]ondisk.Blockref, len(list)), make(map[uint64]bool, len(list))
	var v *View
	var in *Share // v is where this one looks
	for len(list) > 0 {
		first, n := list[0].Share, 1
		for n < len(list) && list[n].Share.beside(first) && list[n].Share.Key-list[n-1].Share.Key <= sharedRun {
			n++
		}
		if in == nil || in.Snap != first.Snap || in.SnapClid != first.SnapClid {
			var err error
			if v, err = a.sharedView(ctx, first); err != nil {
				return err
			}
			in = first
		}
		if v != nil {
			if err := a.findRun(ctx, v, list[:n]); err != nil {
				return err
			}
		}
		list = list[n:]
	}
	return nil
}

// beside reports whether two sources are blocks of one inode of one tree.
func (s *Share) beside(o *Share) bool {
	return s.Snap == o.Snap && s.SnapClid == o.SnapClid && s.Inum == o.Inum
}

// sharedView is the tree in which a source is, as it was before the batch; nil
// if there is none.
func (a *applier) sharedView(ctx context.Context, s *Share) (*View, error) {
	if s.Snap == "" {
		return &View{reader: a.reader, root: *a.root}, nil
	}
	ref, ok, err := a.store.snapshotRoot(ctx, s.Snap, s.SnapClid)
	if err != nil || !ok {
		return nil, err
	}
	rec, err := a.reader.inode(ctx, superOwner, &ref)
	if err != nil {
		return nil, err
	}
	return &View{reader: a.reader, root: *rec}, nil
}

// findRun looks up sources of one inode, sorted by key.
func (a *applier) findRun(ctx context.Context, v *View, run []*Change) error {
	inum, last := run[0].Share.Inum, run[len(run)-1].Share.Key
	err := v.DataRefs(ctx, inum, run[0].Share.Key, last+1, func(ref *ondisk.Blockref) bool {
		for len(run) > 0 && run[0].Share.Key < ref.Key {
			run = run[1:]
		}
		for len(run) > 0 && run[0].Share.Key == ref.Key {
			if c := run[0]; c.Share.Source(ref) {
				a.sharing.sources[c] = *ref
				a.sharing.blocks[ref.Off()] = true
				if c.Share.Snap == "" { // what a snapshot has is never taken for nobody's
					a.sharing.mark(inum, ref.MirrorTid)
				}
				a.sharing.mark(c.Inum, a.batch.T)
			}
			run = run[1:]
		}
		return len(run) > 0
	})
	if errors.Is(err, ErrNoInode) {
		return nil // the targets may have the blocks; else it is found out there
	}
	return err
}

// mark says that the inode's blocks up to tid may have other owners.
func (s *sharing) mark(inum uint64, tid ondisk.Tid) {
	if s.marks == nil {
		s.marks = make(map[uint64]ondisk.Tid)
	}
	s.marks[inum] = max(s.marks[inum], tid)
	s.marks[ondisk.InumRoot] = max(s.marks[ondisk.InumRoot], tid)
}

// twin notes a block of the batch, which others of its places may have too.
func (s *sharing) twin(c *Change, T ondisk.Tid) {
	if s.twins == nil {
		s.twins = make(map[*ondisk.EncodedBlock]*twin)
	}
	first := s.twins[c.Block]
	if first == nil {
		s.twins[c.Block] = &twin{inum: c.Inum}
		return
	}
	first.many = true
	s.mark(first.inum, T)
	s.mark(c.Inum, T)
}

// markInode brings the mark of an inode up to date: none if it has no blocks.
func (a *applier) markInode(inum uint64, ino *ondisk.Inode) {
	ino.Meta.SharedTid = max(ino.Meta.SharedTid, a.sharing.marks[inum])
	if len(ino.Blockset) == 0 {
		ino.Meta.SharedTid = 0
	}
}

// applyShare makes the leaf of a data block that is there already.
func (m *merger) applyShare(c *Change, old *ondisk.Blockref) (ref ondisk.Blockref, ok bool, err error) {
	src, found := m.sharing.sources[c]
	switch {
	case found && (old == nil || old.DataOff != src.DataOff):
		if old != nil {
			m.dropLeaf(old)
		}
		m.store.shareBlock(&src)
	case found:
	case old != nil && c.Share.Is(old): // done before
		src = *old
		m.sharing.mark(c.Inum, m.tid)
	default:
		return ref, false, c.bad("%sinode %d has no such block at %#x to share", c.Share.inSnapshot(), c.Share.Inum, c.Share.Key)
	}
	ref = ondisk.Blockref{Type: ondisk.TypeData, KeyBits: ondisk.LogicalBits, Key: c.Key, Methods: src.Methods,
		DataOff: src.DataOff, Check: src.Check, MirrorTid: m.tid, ModifyTid: c.modifyTid(m.tid)}
	return ref, true, nil
}

func (s *Share) inSnapshot() string {
	if s.Snap == "" {
		return ""
	}
	return fmt.Sprintf("snapshot %q: ", s.Snap)
}

// snapshotRoot is the root of a snapshot of the PFS; false: it is not here.
func (s pfsStore) snapshotRoot(ctx context.Context, label string, clid ondisk.UUID) (ref ondisk.Blockref, ok bool, err error) {
	have, err := s.Txn.pfs(ctx, label)
	switch {
	case errors.Is(err, ErrNoPFS):
		return ref, false, nil
	case err != nil:
		return ref, false, err
	}
	m := &have.meta
	return have.ref, m.PFSClid == clid && m.PFSFsid == SnapshotFsid(clid, s.pfs.meta.PFSFsid), nil
}

// writeData writes a block of the batch, once if it is in several places.
func (m *merger) writeData(ref *ondisk.Blockref, c *Change) error {
	t := m.sharing.twins[c.Block]
	if !c.Twin || !t.many {
		return m.store.writeEncoded(ref, c.Block)
	}
	if t.ref.DataOff == 0 {
		if err := m.store.writeEncoded(ref, c.Block); err != nil {
			return err
		}
		t.ref = *ref
		return nil
	}
	ref.DataOff = t.ref.DataOff
	return nil
}

// leaveBlock says that the tree refers to ref's block in one place less, and
// maybe in others still: Bulkfree will know.
func (s pfsStore) leaveBlock(ref *ondisk.Blockref) { s.stats.Left += int64(ref.Size()) }

// shareBlock says that the tree refers to ref's block once more. Others mark
// what nothing reaches as staged, and may have been wrong.
func (s pfsStore) shareBlock(ref *ondisk.Blockref) {
	fm := s.v.fm
	for off := ref.Off() &^ (ondisk.ChunkSize - 1); off < ref.Off()+uint64(ref.Size()); off += ondisk.ChunkSize {
		n, seg := off/ondisk.ZoneSize, int(off%ondisk.ZoneSize/ondisk.SegmentSize)
		if lo, hi := fm.bounds(n); n >= fm.zoneCount() || seg < lo || seg >= hi {
			continue
		}
		if z, seg, chunk := fm.place(off); z.entries != nil && z.entries[seg].State(chunk) != ondisk.ChunkAllocated {
			fm.setChunks(z, seg, chunk, ondisk.ChunkRadix, ondisk.ChunkAllocated)
		}
	}
}
