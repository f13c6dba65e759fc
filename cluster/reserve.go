package cluster

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A Cost is an upper bound of what a call adds.
type Cost struct {
	Leaves int   // inode records, entries and data blocks set or deleted
	Bytes  int64 // of file data
	// Small says that no block of the data is longer than SmallBlock: it fits
	// wherever something is free.
	Small bool
}

// SmallBlock is what fits in the smallest piece of free space.
const SmallBlock = ondisk.ChunkSize

// What a leaf costs beside its data, in bytes.
const (
	costTable  = 16 << 10 // its table is written anew
	costInode  = 1 << 10  // so is the inode it belongs to
	costGrowth = 256      // its element, in tables that may be half full
	costFixed  = 512 << 10
	tableFill  = 32 // elements that tables have on average at least
)

// A budget admits calls: against the space of the smallest master, so that
// what was admitted is never refused later, and against memory.
type budget struct {
	free     atomic.Int64 // bytes, the reserve included
	reserved atomic.Int64 // of free, for calls that give space back
	remove   atomic.Int64 // bytes that calls which give space back may take
	enough   atomic.Int64 // the same, if masters that a commit can do without may run full
	pending  atomic.Int64 // bytes that come back with later commits
	tables   atomic.Int64 // tables the tree has, at most
	inflight atomic.Int64 // worst case of the calls inside groups
	whole    atomic.Int64 // of free, where the largest block fits
	writers  atomic.Int64 // calls inside groups that may bring large blocks

	closeAt int64 // bytes in memory at which the open group is closed
	soft    int64 // above this many writers are slowed
	hard    int64 // above this many they wait

	turn    chan struct{} // held by the one who makes room
	oldest  chan struct{} // held by the one who gives up snapshots for it
	freedAt atomic.Uint64 // tid after the last bulkfree
}

const (
	groupBytes = 32 << 20
	maxDelay   = 5 * time.Millisecond // of one call, while writers are slowed
)

func (b *budget) init(o *Options) {
	b.hard = max(o.Memory/4, 4<<20)
	b.soft = b.hard * 3 / 4
	b.closeAt = min(groupBytes, b.hard/2)
	b.turn, b.oldest = make(chan struct{}, 1), make(chan struct{}, 1)
}

// measure asks the engine how much room there is. The caller holds stateMu.
func (p *Pool) measure() {
	s := p.engine.space()
	b := &p.budget
	if s.Total > 0 { // while no member is there, what was known of them holds
		b.free.Store(int64(s.Free))
		b.reserved.Store(int64(min(s.Reserved, s.Free)))
		b.whole.Store(int64(s.Whole))
		b.pending.Store(int64(s.Pending))
	}
	all, enough, ok := p.engine.removable()
	if !ok && b.remove.Load() == 0 {
		all, enough, ok = s.Free, s.Free, true
	}
	if ok {
		b.remove.Store(int64(all))
		b.enough.Store(int64(enough))
	}
	if st := p.state.Load(); st != nil && len(st.views) > 0 {
		b.tables.Store(Tables(st.views[0].View.Root()))
	}
}

// need is what the overlay takes on media at most, in a tree of that many tables.
func (l *load) need(tables int64) int64 {
	return WorstCase(l.leaves.Load(), l.inodes.Load(), l.data.Load(), tables)
}

// needWhole is need, if each block of data takes a place that the largest fits
// in. Tables lie in a row, and break no more of those than they fill.
func (l *load) needWhole(tables int64) int64 {
	return WorstCase(l.leaves.Load(), l.inodes.Load(), l.data.Load()+l.slack.Load(), tables)
}

// WorstCase is what a group of so many leaves, of so many inodes, with so many
// bytes of data takes on media at most, in a tree of that many tables.
func WorstCase(leaves, inodes, data, tables int64) int64 {
	if leaves+inodes == 0 {
		return 0
	}
	touched := min(leaves+inodes, tables+(leaves+inodes)/tableFill+1)
	return data + leaves*costGrowth + inodes*(costInode+costGrowth) + touched*costTable
}

// Tables is how many tables the tree of a PFS has at most.
func Tables(root ondisk.Blockref) int64 {
	elements := 3*root.InodeCount() + root.DataCount()/ondisk.LogicalBlock
	return int64(elements/tableFill) + 8
}

// bytes is the most that a call of this cost adds.
func (c Cost) bytes() int64 {
	n := int64(c.Leaves)*(costTable+costInode+costGrowth) + c.Bytes
	if c.Bytes > 0 {
		// Both edges may lie in whole blocks that are rewritten, and each
		// block has a leaf.
		n += 2*ondisk.LogicalBlock + c.Bytes/ondisk.LogicalBlock*costGrowth
	}
	return n
}

// Admitted is how many bytes writers have been admitted with and are not on media
// yet: who takes space behind their back leaves that much.
func (p *Pool) Admitted() uint64 { return uint64(max(0, p.outstanding())) }

// SpaceTaken is called when something else than a txg took space of a node: nobody is
// admitted with it any more.
func (p *Pool) SpaceTaken() {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	p.measure()
}

// outstanding is what was admitted and is not on media yet.
func (p *Pool) outstanding() int64 {
	tables := p.budget.tables.Load()
	s := p.state.Load()
	n := p.budget.inflight.Load()
	for _, o := range s.layers() {
		if o != nil {
			n += o.load.need(tables)
		}
	}
	return n
}

// fits reports whether extra bytes, with large blocks of data among them, fit
// beside all that was admitted, with the fixed cost of a group on top.
func (p *Pool) fits(extra int64, data, useReserve bool) bool {
	b := &p.budget
	if useReserve { // brings no large blocks, and the others left it the reserve
		return Fits(p.outstanding()+extra, b.remove.Load(), 0, true)
	}
	if !Fits(p.outstanding()+extra, b.free.Load(), b.reserved.Load(), false) {
		return false
	}
	tables, s := b.tables.Load(), p.state.Load()
	need := b.inflight.Load() + s.open.load.needWhole(tables) + extra
	data = data || b.writers.Load() > 0 || s.open.load.large.Load() > 0
	if s.syncing != nil {
		need += s.syncing.load.needWhole(tables)
		data = data || s.syncing.load.large.Load() > 0
	}
	// The rest fits in any place, but may take one that large blocks need.
	return !data || Fits(need, b.whole.Load(), b.reserved.Load(), false)
}

// Fits reports whether what takes at most need bytes is admitted where so many
// are free, some of them reserved for calls that give space back.
func Fits(need, free, reserved int64, useReserve bool) bool {
	if useReserve {
		return need <= free
	}
	return need+costFixed <= free-reserved
}

// Begin starts a call that changes something: a transaction, all of which
// falls into one group. It waits while too much is dirty. Errors: ErrNoSpace,
// ErrNoQuorum, ErrReadOnly, ErrPoolClosed, the context's. A caller must not
// begin a second one before the End of the first.
func (p *Pool) Begin(ctx context.Context, cost Cost) (*Txn, error) {
	return p.begin(ctx, cost, false)
}

// costFree covers the calls that give space back: unlink, truncate, rename.
var costFree = Cost{Leaves: 6, Bytes: ondisk.LogicalBlock}

// BeginFree is Begin for calls that give space back. They may use the reserve.
func (p *Pool) BeginFree(ctx context.Context) (*Txn, error) {
	return p.begin(ctx, costFree, true)
}

func (p *Pool) begin(ctx context.Context, cost Cost, useReserve bool) (*Txn, error) {
	bytes, data := cost.bytes(), cost.Bytes > 0 && !cost.Small
	if p.opts.ReadOnly {
		return nil, ErrReadOnly
	}
	if err := p.throttle(ctx); err != nil {
		return nil, err
	}
	for round := 0; ; round++ {
		g := p.enterGroup()
		if g == nil {
			return nil, ErrPoolClosed
		}
		p.budget.enter(bytes, data)
		if p.fits(0, data, useReserve) || useReserve && round > lastWay && Fits(p.outstanding(), p.budget.enough.Load(), 0, true) {
			return &Txn{p: p, g: g, cost: bytes, data: data}, nil
		}
		// Those who wait for room do not take it from each other.
		p.budget.leave(bytes, data)
		g.leave()
		err := p.makeRoom(ctx, round, bytes, data, useReserve)
		if errors.Is(err, ErrNoSpace) && !useReserve {
			round, err = 0, p.freeSnapshot(ctx, bytes, data)
		}
		if err != nil {
			return nil, err
		}
	}
}

// enter takes account of a call that is let into a group, until leave.
func (b *budget) enter(bytes int64, data bool) {
	if b.inflight.Add(bytes); data {
		b.writers.Add(1)
	}
}

func (b *budget) leave(bytes int64, data bool) {
	if b.inflight.Add(-bytes); data {
		b.writers.Add(-1)
	}
}

// enterGroup enters the open group; nil: the pool is being closed.
func (p *Pool) enterGroup() *group {
	for !p.closing.Load() {
		g := p.state.Load().open
		if !g.enter() {
			continue
		}
		if p.closing.Load() {
			g.leave()
			break
		}
		return g
	}
	return nil
}

// dirty is how much memory uncommitted changes take.
func (p *Pool) dirty() int64 {
	var n int64
	for _, o := range p.state.Load().layers() {
		if o != nil {
			n += o.load.memory.Load()
		}
	}
	return n
}

// throttle slows writers as memory fills, so that they do not run into the
// limit, and holds them at it.
func (p *Pool) throttle(ctx context.Context) error {
	b := &p.budget
	for {
		room := *p.room.Load()
		n := p.dirty()
		if n <= b.soft {
			return p.refuseWithoutQuorum()
		}
		poke(p.wish)
		if n <= b.hard {
			time.Sleep(maxDelay * time.Duration(n-b.soft) / time.Duration(b.hard-b.soft))
			return p.refuseWithoutQuorum()
		}
		if err := p.refuseWithoutQuorum(); err != nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ctx.Done():
			return ErrPoolClosed
		}
	}
}

func (p *Pool) refuseWithoutQuorum() error {
	if p.engine.stale() {
		return ErrStale
	}
	if p.opts.OnNoQuorum == EIO && !p.engine.hasQuorum() {
		return ErrNoQuorum
	}
	return nil
}

// lastWay of makeRoom has been tried: nobody has more room than there is.
const lastWay = 2

// makeRoom tries the next, dearer way to find room; ErrNoSpace: there is none
// left. Only one caller works; those behind it look again first.
func (p *Pool) makeRoom(ctx context.Context, round int, bytes int64, data, useReserve bool) error {
	select {
	case p.budget.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.budget.turn }()
	if p.fits(bytes, data, useReserve) {
		return nil
	}
	var err error
	switch round {
	case 0: // what was admitted at worst becomes what it really took
		err = p.Settle(ctx)
	case 1: // dropped blocks become free
		if p.budget.pending.Load() > 0 {
			err = p.engine.drainFrees(ctx)
		}
	case lastWay: // and so does what only a walk of the volume can find
		if err = p.bulkfreeOnce(ctx); errors.Is(err, ondisk.ErrCorrupt) {
			// What a damaged member lost cannot be found: it is as full as it
			// says, and that is what the caller is told.
			p.log.Warn("unused space was not found everywhere", "err", err)
			err = nil
		}
	default:
		return ErrNoSpace
	}
	if err != nil {
		return err
	}
	p.refresh()
	return nil
}

// StatFS tells how full the smallest master is. What a bulkfree might find is
// not counted as free.
func (p *Pool) StatFS() StatFS {
	s := p.acquire()
	defer s.release()
	space := p.engine.space()
	free := space.Free + space.Pending
	out := uint64(max(p.outstanding(), 0))
	st := StatFS{Total: space.Total, Free: free - min(free, out)}
	st.Avail = st.Free - min(st.Free, space.Reserved)
	if len(s.views) > 0 {
		root := s.views[0].View.Root()
		st.Inodes = root.InodeCount()
	}
	return st
}

// StatFS counts bytes, except for Inodes.
type StatFS struct{ Total, Free, Avail, Inodes uint64 }
