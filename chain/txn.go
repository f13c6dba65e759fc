package chain

import (
	"context"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A Txn is the one change in progress on a volume: any number of batches and
// PFS operations that Commit makes durable together. It is used by one
// goroutine at a time. After an error of any method but Commit, only Abort
// and Commit are of use, and Commit aborts.
type Txn struct {
	v          *Volume
	useReserve bool
	keep       uint64              // bytes of the reserve that stay free all the same
	sroot      ondisk.Blockref     // of the committed super-root
	changed    map[uint64]*pfsInfo // by key in the super-root; nil = deleted
	states     []ondisk.StateEntry // of the next header
	tid        ondisk.Tid          // the next header's, at least
	since      ondisk.Tid          // blocks from there on are ours
	ours       bool                // false: none are, the committed header is not
	w          *writeQueue
	taken      map[uint64]taken // blocks allocated, by address
	shared     int              // taken blocks of earlier rounds may be shared
	drops      []region         // unreachable once committed: blocks of whole chunks
	smallDrops []extent         // the same, smaller blocks
	late       []extent         // taken, and dropped while being written
	stats      TxnStats
	limit      limit
	logged     int   // txgs of the intent log that it contains
	broken     error // what made the transaction unfit for Commit
	done       bool
	held       bool // the turn is its caller's, and stays so
}

// taken is a block that the transaction allocated.
type taken struct {
	radix uint8
	round int // Txn.shared at that time
}

// TxnStats counts what a transaction wrote.
type TxnStats struct {
	Blocks  [8]int // by block type, freemap excluded
	Bytes   int64  // of these blocks
	Freed   int64  // bytes dropped with certainty
	Left    int64  // bytes dropped and left to Bulkfree
	Freemap int64  // bytes of freemap blocks
	Header  int64  // bytes of header pages
	Writes  int    // device writes
}

// Begin starts the next transaction; it waits until the running one is done.
// It stands on what is in the intent log, too.
func (v *Volume) Begin(ctx context.Context) (*Txn, error) {
	t, err := v.begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.applyLog(ctx); err != nil {
		t.Abort()
		return nil, err
	}
	return t, nil
}

// begin is Begin on the committed tree: what is in the log stays there.
func (v *Volume) begin(ctx context.Context) (*Txn, error) {
	if v.opts.ReadOnly {
		return nil, fmt.Errorf("%s: %w", v.Name(), ErrReadOnly)
	}
	if err := v.takeTurn(ctx); err != nil {
		return nil, err
	}
	return v.newTxn(), nil
}

// takeTurn waits until no transaction runs; none does before passTurn. After an
// error nothing is to be passed: nothing can be written.
func (v *Volume) takeTurn(ctx context.Context) error {
	select {
	case <-v.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := v.usable(); err != nil {
		v.passTurn()
		return err
	}
	return nil
}

func (v *Volume) passTurn() { v.turn <- struct{}{} }

// newTxn is begin for who has the turn of a usable volume.
func (v *Volume) newTxn() *Txn {
	v.releaseQuarantine()
	v.fm.look()
	since, ours := v.since()
	v.mu.Lock()
	defer v.mu.Unlock()
	return &Txn{
		since: since, ours: ours,
		v: v, sroot: sroot(v.hdr), tid: max(v.hdr.MirrorTid+1, v.floor),
		states:  slices.Clone(v.hdr.States),
		changed: make(map[uint64]*pfsInfo),
		w:       newWriteQueue(v),
		taken:   make(map[uint64]taken),
	}
}

// pass lets the next one run.
func (t *Txn) pass() {
	if !t.held {
		t.v.passTurn()
	}
}

// usable returns why nothing can be written, or nil.
func (v *Volume) usable() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return fmt.Errorf("%s: %w", v.Name(), ErrClosed)
	}
	if err := v.Failed(); err != nil {
		return fmt.Errorf("%s: %w: %w", v.Name(), ErrVolumeFailed, err)
	}
	return nil
}

// UseReserve lets the transaction allocate what is kept for deletions,
// resync and repair.
func (t *Txn) UseReserve() { t.useReserve = true }

// LastRoom is what it takes at most to remove something where nothing else is
// free: files as calls remove them, a snapshot, a copy that does not fit.
const LastRoom = 512 << 10

// UseReserveBut is UseReserve that leaves keep bytes of it, until Commit: what
// only grows must not take what its own removal needs.
func (t *Txn) UseReserveBut(keep uint64) { t.useReserve, t.keep = true, keep }

// Stats counts what the transaction wrote so far.
func (t *Txn) Stats() TxnStats {
	s := t.stats
	s.Writes = t.w.count()
	return s
}

// Apply makes the changes of b to the PFS of that label, then its operations.
func (t *Txn) Apply(ctx context.Context, label string, b *Batch) error {
	if err := t.ready(); err != nil {
		return err
	}
	p, err := t.pfs(ctx, label)
	if err == nil {
		err = t.applyBatch(ctx, p, b)
	}
	for i := range b.Ops {
		if err == nil {
			err = t.operate(ctx, label, b, &b.Ops[i])
		}
	}
	return t.spoil(err)
}

func (t *Txn) applyBatch(ctx context.Context, p *pfsInfo, b *Batch) error {
	ref, err := applyTree(ctx, t, t.v.cache, pfsStore{t, p}, &p.ref, b)
	if err != nil {
		return fmt.Errorf("PFS %s: %w", p.meta.Name(), err)
	}
	return t.replaceRoot(ctx, p, ref)
}

// ready returns why the transaction takes no more changes, or nil.
func (t *Txn) ready() error {
	if t.done {
		panic("chain: transaction used after its end")
	}
	return t.broken
}

// spoil makes err, if any, the reason why the transaction cannot commit.
func (t *Txn) spoil(err error) error {
	if err != nil && t.broken == nil {
		t.broken = err
	}
	return err
}

// SetState puts a state entry into the next header, in place of the one of
// the same PFS.
func (t *Txn) SetState(e ondisk.StateEntry) error {
	i := slices.IndexFunc(t.states, func(s ondisk.StateEntry) bool { return s.Fsid == e.Fsid })
	if i >= 0 {
		t.states[i] = e
		return nil
	}
	if len(t.states) == ondisk.MaxStates {
		return t.spoil(fmt.Errorf("%s: a volume has room for %d clustered PFSs", t.v.Name(), ondisk.MaxStates))
	}
	t.states = append(t.states, e)
	return nil
}

// ClearState removes the state entry of a PFS, if there is one.
func (t *Txn) ClearState(fsid ondisk.UUID) {
	t.states = slices.DeleteFunc(t.states, func(s ondisk.StateEntry) bool { return s.Fsid == fsid })
}

// View shows a PFS as it stands inside the transaction. It is of use until
// the transaction's next change or its end.
func (t *Txn) View(ctx context.Context, label string) (*View, error) {
	p, err := t.pfs(ctx, label)
	if err != nil {
		return nil, err
	}
	return newView(ctx, t, t.v.cache, p.ref, nil)
}

// readRaw returns a stored block, also one that is not on the device yet.
func (t *Txn) readRaw(ctx context.Context, ref *ondisk.Blockref) ([]byte, error) {
	if block := t.w.find(ref.Off()); block != nil {
		return block, nil
	}
	return t.v.readRaw(ctx, ref)
}

// readMany is readRaw for many blocks; see Volume.readMany.
func (t *Txn) readMany(ctx context.Context, refs []ondisk.Blockref, fn func(i int, stored []byte) error) error {
	for i := range refs {
		if t.w.find(refs[i].Off()) == nil {
			continue
		}
		// Some are not on the device: one by one, which is rare and right.
		for k := range refs {
			stored, err := t.readRaw(ctx, &refs[k])
			if err == nil {
				err = fn(k, stored)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return t.v.readMany(ctx, refs, fn)
}

// writeBlock gives block a place and queues it. ref has type and methods;
// DataOff and check code are set here. The transaction owns block from now on.
func (t *Txn) writeBlock(ref *ondisk.Blockref, block []byte, key uint64) error {
	off, err := t.allocate(ref.Type, ondisk.DataRadix(len(block)))
	if err != nil {
		return err
	}
	ref.DataOff = ondisk.MakeDataOff(off, ondisk.DataRadix(len(block)))
	ref.SetCheck(block)
	t.queue(ref, block)
	return nil
}

// writeEncoded is writeBlock for file data, which brings methods and check
// code along. The bytes are queued by reference.
func (t *Txn) writeEncoded(ref *ondisk.Blockref, b *ondisk.EncodedBlock) error {
	off, err := t.allocate(ondisk.TypeData, b.Radix)
	if err != nil {
		return err
	}
	b.SetRef(ref)
	ref.DataOff = ondisk.MakeDataOff(off, b.Radix)
	t.queue(ref, b.Bytes)
	return nil
}

func (t *Txn) queue(ref *ondisk.Blockref, block []byte) {
	t.stats.Blocks[ref.Type&7]++
	t.stats.Bytes += int64(len(block))
	t.w.add(ref.Off(), block)
	if t.w.backlog() > earlyBytes {
		// Positions move to the next page first: no later block of this
		// transaction may share a page with one that is being written.
		t.v.fm.seal()
		t.w.submit()
	}
}

// allocate finds room for a block of the given type and size.
func (t *Txn) allocate(typ ondisk.BlockType, radix uint8) (uint64, error) {
	if err := t.v.Failed(); err != nil {
		return 0, fmt.Errorf("%s: %w: %w", t.v.Name(), ErrVolumeFailed, err)
	}
	fm := t.v.fm
	if !t.useReserve && fm.usable < fm.reserve()+1<<max(radix, ondisk.ChunkRadix) {
		return 0, fmt.Errorf("%s: %w", t.v.Name(), ErrNoSpace)
	}
	if t.keep > 0 && fm.usable < t.keep+1<<max(radix, ondisk.ChunkRadix) {
		return 0, fmt.Errorf("%s: %w", t.v.Name(), ErrNoSpace)
	}
	off, err := fm.allocate(typ, radix)
	if err != nil {
		return 0, fmt.Errorf("%s: %v of %d bytes: %w", t.v.Name(), typ, 1<<radix, err)
	}
	t.taken[off] = taken{radix, t.shared}
	t.limit.net += 1 << radix
	return off, nil
}

// A pfsStore is where the tree of one PFS is written; pfs is nil for the
// super-root's own.
type pfsStore struct {
	*Txn
	pfs *pfsInfo
}

func (s pfsStore) dropBlock(ref *ondisk.Blockref) { s.Txn.dropBlock(ref, s.pfs) }

// dropBlock says that p (nil: the super-root) no longer refers to ref's
// block. It becomes free if nothing else can; in doubt it is left to Bulkfree.
func (t *Txn) dropBlock(ref *ondisk.Blockref, p *pfsInfo) {
	if ref.DataOff == 0 {
		return
	}
	off, size := ref.Off(), int64(ref.Size())
	t.limit.net -= size
	if b, ok := t.taken[off]; ok && b.round == t.shared {
		delete(t.taken, off)
		if t.w.cancel(off) {
			t.v.fm.give(off, b.radix)
			return
		}
		// Already on its way to the device: another block written there now
		// could be overtaken.
		t.late = append(t.late, extent{off, b.radix})
		return
	}
	if !t.certain(ref, p) {
		t.stats.Left += size
		if p != nil && p.meta.PFSLsnapTid >= ref.MirrorTid {
			t.limit.held += size
		}
		return
	}
	t.stats.Freed += size
	if ref.Radix() >= ondisk.ChunkRadix {
		t.drops = addRegion(t.drops, off, ref.Radix())
	} else {
		t.smallDrops = append(t.smallDrops, extent{off, ref.Radix()})
	}
}

// certain reports whether only p can refer to ref's block: we wrote it, for
// p, after the last snapshot of p or since p was made as one.
func (t *Txn) certain(ref *ondisk.Blockref, p *pfsInfo) bool {
	v := t.v
	if !t.ours || ref.MirrorTid < t.since {
		return false
	}
	if p != nil && ref.MirrorTid <= p.meta.PFSLsnapTid {
		return false
	}
	return v.fm.owns(ref.Off(), ref.Radix())
}

// Abort ends the transaction without a trace. It may be called after Commit,
// and does nothing then.
func (t *Txn) Abort() {
	if t.done {
		return
	}
	t.done = true
	t.w.wait()
	for off, b := range t.taken {
		t.v.fm.give(off, b.radix)
	}
	t.giveLate()
	t.v.fm.undoOpen()
	t.v.mu.Lock()
	t.v.space = t.v.fm.space()
	t.v.mu.Unlock()
	t.pass()
}

// giveLate frees the blocks of this transaction that were dropped after their
// write had begun. All writes have returned.
func (t *Txn) giveLate() {
	for _, x := range t.late {
		t.v.fm.give(x.off, x.radix)
	}
	t.late = nil
}
