package chain

import (
	"context"
	"errors"
	"sort"

	"github.com/anvilfs/anvilfs/ondisk"
)

// treeStore is where a merge writes. One PFS's part of a Txn is one.
type treeStore interface {
	// writeBlock allocates for a metadata block, keeps it, and sets DataOff
	// and check code of ref, whose Type and Methods are set.
	writeBlock(ref *ondisk.Blockref, block []byte, key uint64) error
	// writeEncoded does it for a data block.
	writeEncoded(ref *ondisk.Blockref, b *ondisk.EncodedBlock) error
	// dropBlock says that the tree no longer refers to ref's block.
	dropBlock(ref *ondisk.Blockref)
	// leaveBlock says that it no longer does here, but may elsewhere.
	leaveBlock(ref *ondisk.Blockref)
	// shareBlock says that it refers to ref's block in one more place.
	shareBlock(ref *ondisk.Blockref)
	// snapshotRoot returns the root of a snapshot, if there is that one.
	snapshotRoot(ctx context.Context, label string, clid ondisk.UUID) (ref ondisk.Blockref, ok bool, err error)
}

// A leafOp is a change of the leaf at key; i is the caller's name for it.
type leafOp struct {
	key uint64
	i   int
}

// A span is the keys [lo, hi].
type span struct{ lo, hi uint64 }

// A job is what a merge has to do: sorted, spans apart.
type job struct {
	ops   []leafOp
	dels  []span // leaves without an op to drop
	touch []span // tables to stamp
}

func (j *job) empty() bool { return len(j.ops) == 0 && len(j.dels) == 0 && len(j.touch) == 0 }

// A leafFunc makes the new leaf for op i; old is the present one or nil, and
// methods what an entry inherits at this place. ok is false if there is to be
// no leaf. Old blocks are the leafFunc's to drop.
type leafFunc func(i int, old *ondisk.Blockref, methods uint8) (ref ondisk.Blockref, ok bool, err error)

// A merger rewrites the tree of one owner in one pass: each table that the
// job touches is read once and written once.
type merger struct {
	reader  *treeReader
	store   treeStore
	tid     ondisk.Tid
	own     owner
	discard bool               // as in Batch
	check   ondisk.CheckMethod // of tables
	shared  ondisk.Tid         // data blocks up to there may have other owners
	sharing *sharing           // what the batch shares; nil = nothing
	leaf    leafFunc
	begin   func(refs []ondisk.Blockref, ops []leafOp) // before the leaves of an array; may be nil
}

// metaCheck is the check method of a metadata block for a setting.
func metaCheck(m ondisk.CheckMethod) ondisk.CheckMethod {
	if m == ondisk.CheckNone || m >= ondisk.CheckFreemap {
		return ondisk.CheckXXHash64
	}
	return m
}

// run merges j into refs, the blockset of an inode whose blockref has the
// given methods, and returns the new blockset. changed is false if it is refs.
func (m *merger) run(ctx context.Context, refs []ondisk.Blockref, j job, methods uint8) (set []ondisk.Blockref, changed bool, err error) {
	if j.empty() {
		return refs, false, nil
	}
	m.check = metaCheck(ondisk.CheckMethod(methods >> 4))
	elems, changed, err := m.merge(ctx, refs, j, methods, 0)
	if err != nil {
		return nil, false, err
	}
	if !changed {
		return refs, false, nil
	}
	elems, _ = settle(elems, ondisk.InodeRefs, 64)
	set, err = m.write(elems)
	return set, true, err
}

// merge returns the elements of an array with j done, however many there are.
func (m *merger) merge(ctx context.Context, refs []ondisk.Blockref, j job, methods uint8, depth int) (out []elem, changed bool, err error) {
	out = make([]elem, 0, len(refs)+len(j.ops))
	ops := j.ops
	if m.begin != nil {
		m.begin(refs, ops)
	}
	one := func(old *ondisk.Blockref) error {
		ref, ok, err := m.leaf(ops[0].i, old, methods)
		ops = ops[1:]
		if ok {
			out = append(out, elem{ref: ref})
		}
		changed = changed || ok != (old != nil) || ok && ref != *old
		return err
	}
	for i := range refs {
		ref := &refs[i]
		for len(ops) > 0 && ops[0].key < ref.Key {
			if err := one(nil); err != nil {
				return nil, false, err
			}
		}
		switch {
		case ref.Type == ondisk.TypeIndirect:
			n := opsUpTo(ops, ref.LastKey())
			sub := job{ops[:n], within(j.dels, ref), within(j.touch, ref)}
			ops = ops[n:]
			e, did, err := m.mergeTable(ctx, ref, sub, depth)
			if err != nil {
				return nil, false, err
			}
			changed = changed || did
			if e.ref.Type != ondisk.TypeEmpty {
				out = append(out, e)
			}
		case len(ops) > 0 && ops[0].key == ref.Key:
			if err := one(ref); err != nil {
				return nil, false, err
			}
		case len(within(j.dels, ref)) > 0:
			m.dropLeaf(ref)
			changed = true
		default:
			out = append(out, elem{ref: *ref})
		}
	}
	for len(ops) > 0 {
		if err := one(nil); err != nil {
			return nil, false, err
		}
	}
	return out, changed, nil
}

// mergeTable does j in the table at ref. An EMPTY element says that nothing is left.
func (m *merger) mergeTable(ctx context.Context, ref *ondisk.Blockref, j job, depth int) (e elem, changed bool, err error) {
	if j.empty() {
		return elem{ref: *ref}, false, nil
	}
	if len(j.ops) == 0 && len(j.dels) == 1 && j.dels[0].lo <= ref.Key && j.dels[0].hi >= ref.LastKey() {
		return elem{}, true, m.dropTable(ctx, ref, depth)
	}
	if depth == maxDepth {
		return elem{}, false, m.own.fail(ref, errTooDeep)
	}
	refs, err := m.reader.table(ctx, m.own, ref)
	broken := m.discard && errors.Is(err, ondisk.ErrCorrupt)
	if err != nil && !broken {
		return elem{}, false, err
	}
	kids, changed, err := m.merge(ctx, refs, j, uint8(m.check)<<4, depth+1)
	if err != nil {
		return elem{}, false, err
	}
	if !changed && !broken && len(j.touch) == 0 {
		return elem{ref: *ref}, false, nil
	}
	m.store.dropBlock(ref)
	if len(kids) == 0 {
		return elem{}, true, nil
	}
	e.ref = ondisk.Blockref{Type: ondisk.TypeIndirect, Key: ref.Key, KeyBits: ref.KeyBits}
	// The tables below the array are settled now, whatever becomes of it: to
	// write them bounds what a change of a large directory holds in memory.
	e.kids, e.divided = settle(kids, tableMax, ref.KeyBits)
	for i := range e.kids {
		if k := &e.kids[i]; k.kids != nil {
			if err := m.writeTable(k); err != nil {
				return elem{}, false, err
			}
			k.kids = nil
		}
	}
	return e, true, nil
}

// opsUpTo counts the first ops with keys of at most last.
func opsUpTo(ops []leafOp, last uint64) int {
	lo, hi := 0, len(ops)
	for lo < hi {
		if mid := (lo + hi) / 2; ops[mid].key <= last {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// within returns the spans that hold keys of ref's range.
func within(spans []span, ref *ondisk.Blockref) []span {
	lo := sort.Search(len(spans), func(i int) bool { return spans[i].hi >= ref.Key })
	spans, last := spans[lo:], ref.LastKey()
	return spans[:sort.Search(len(spans), func(i int) bool { return spans[i].lo > last })]
}

// write writes the tables among elems that are not written yet, depth first,
// and returns the array.
func (m *merger) write(elems []elem) ([]ondisk.Blockref, error) {
	refs := make([]ondisk.Blockref, len(elems))
	for i := range elems {
		e := &elems[i]
		if e.kids != nil {
			if err := m.writeTable(e); err != nil {
				return nil, err
			}
		}
		refs[i] = e.ref
	}
	return refs, nil
}

func (m *merger) writeTable(e *elem) error {
	refs, err := m.write(e.kids)
	if err != nil {
		return err
	}
	slots := tableMax
	if len(refs) <= tableSmall {
		slots = tableSmall
	}
	block := make([]byte, slots*ondisk.BlockrefSize)
	ondisk.EncodeBlockrefs(block, refs)
	e.ref.SetMethods(m.check, ondisk.CompNone)
	e.ref.MirrorTid = m.tid
	e.ref.ModifyTid = newest(0, refs)
	setCounts(&e.ref, refs)
	if err := m.store.writeBlock(&e.ref, block, e.ref.Key); err != nil {
		return err
	}
	t := &table{refs, m.own.kind}
	m.reader.cache.put(&e.ref, t, t.size())
	return nil
}

// newest is the highest modify_tid among refs, at least tid.
func newest(tid ondisk.Tid, refs []ondisk.Blockref) ondisk.Tid {
	for i := range refs {
		tid = max(tid, refs[i].ModifyTid)
	}
	return tid
}

// dropLeaf drops the block of a data block or entry.
func (m *merger) dropLeaf(ref *ondisk.Blockref) {
	switch {
	case ref.DataOff == 0:
	case ref.Type == ondisk.TypeData && (ref.MirrorTid <= m.shared || m.sharing.blocks[ref.Off()]):
		m.store.leaveBlock(ref)
	default:
		m.store.dropBlock(ref)
	}
}

// dropTable drops a table and all below it. What a damaged table refers to
// stays allocated until bulkfree: damage must not make a file undeletable.
func (m *merger) dropTable(ctx context.Context, ref *ondisk.Blockref, depth int) error {
	refs, err := m.reader.table(ctx, m.own, ref)
	if errors.Is(err, ondisk.ErrCorrupt) || depth == maxDepth {
		refs, err = nil, nil
	}
	if err != nil {
		return err
	}
	if err := m.dropSet(ctx, refs, depth+1); err != nil {
		return err
	}
	m.store.dropBlock(ref)
	return nil
}

// dropSet drops all that an array of data blocks or entries refers to.
func (m *merger) dropSet(ctx context.Context, refs []ondisk.Blockref, depth int) error {
	for i := range refs {
		ref := &refs[i]
		if ref.Type != ondisk.TypeIndirect {
			m.dropLeaf(ref)
			continue
		}
		if err := m.dropTable(ctx, ref, depth); err != nil {
			return err
		}
	}
	return nil
}
