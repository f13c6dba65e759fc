package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

var (
	// ErrNoSpace: the call does not fit, also after everything that can be
	// freed was freed.
	ErrNoSpace = errors.New("no space left in the pool")

	// ErrNoQuorum: too few masters answer, and the mount was told not to wait.
	ErrNoQuorum = errors.New("no quorum of masters")

	// ErrSoftAlone: no master was given, only what follows one. It can be read.
	ErrSoftAlone = errors.New("a soft slave alone can only be read")

	// ErrStale: others mounted the members meanwhile and changed them. Nothing
	// that is in memory may be shown or stored any more: mount anew.
	ErrStale = errors.New("the members were mounted and changed elsewhere: unmount, and mount anew")

	// ErrReadOnly: the pool was opened for reading.
	ErrReadOnly = errors.New("pool is read-only")

	// ErrPoolClosed: the pool is being closed.
	ErrPoolClosed = errors.New("pool is closed")

	// ErrHashFull: no key is left for one more name with this hash.
	ErrHashFull = errors.New("too many names with one hash in the directory")

	// ErrNoEntry: the directory has no such name.
	ErrNoEntry = errors.New("no such directory entry")
)

// OnNoQuorum says what calls do while there is no quorum.
type OnNoQuorum uint8

// The choices of OnNoQuorum.
const (
	Hang OnNoQuorum = iota // wait until nodes return
	EIO                    // fail with ErrNoQuorum
)

// Options say how a pool is opened. Zero values are the defaults.
type Options struct {
	Label      string        // of the PFS
	Commit     time.Duration // longest time that changes stay in memory; 0 = 5 s
	Memory     int64         // bytes for caches and dirty data; 0 = 256 MiB
	OnNoQuorum OnNoQuorum
	ReadOnly   bool
	Dedup      bool          // look for equals of blocks among those written lately
	NoLog      bool          // what a sync waits for goes through the trees, not into intent logs
	Deadline   time.Duration // a request out longer makes a node hung; 0 = 30 s
	Logger     *slog.Logger  // nil = silent
	// Damaged is told of each try to repair what a read found; err is nil if
	// it was repaired. It must not block. nil = nobody wants to know.
	Damaged func(d Damage, err error)

	Now func() time.Time // of snapshots; nil = the system's

	single   bool          // one member was given: there is nobody else to ask
	patience time.Duration // that a cache is waited for; 0 = the default
	front    *front        // of the pool that a snapshot is of; nil: its own
}

func (o *Options) setDefaults() {
	if o.Commit <= 0 {
		o.Commit = 5 * time.Second
	}
	if o.Memory <= 0 {
		o.Memory = 256 << 20
	}
	if o.Deadline <= 0 {
		o.Deadline = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// A MemberSpec is a member as the user named it. Open is called again when
// the member is reconnected after a failure.
type MemberSpec struct {
	Name  string
	Open  func(ctx context.Context) ([]ondisk.Device, error)
	Cache bool // it is no member, but a cache before them
}

// An Inode is a record as the filesystem sees it. It is immutable once it was
// handed over in either direction.
type Inode struct {
	Meta   ondisk.InodeMeta
	Inline []byte // with DIRECTDATA: the content, padded or not

	space      uint64 // of its data on media, if spaceKnown
	spaceKnown bool
}

// engineAPI is what the pool needs of the protocol: *engine, or a double.
type engineAPI interface {
	nextT() ondisk.Tid
	commit(ctx context.Context, b *chain.Batch) (logged bool, err error)
	views() []nodeView
	committed() Position
	hasQuorum() bool
	changing() bool
	stale() bool
	reportRead(node int, d time.Duration, err error, ref *chain.NodeError)
	gone(node int) bool
	coming(mask uint64) bool
	space() chain.Space
	removable() (all, enough uint64, ok bool)
	volumes() []nodeVolume
	nodes() []NodeReport
	turnsSince(n int) ([]Event, int)
	changed() <-chan struct{}
	drainFrees(ctx context.Context) error
	trim(ctx context.Context, o chain.TrimOptions) (uint64, error)
	bulkfree(ctx context.Context, lost uint64, o chain.BulkfreeOptions) error
	clusterID() ondisk.UUID
	noCopy(ctx context.Context, devs []ondisk.Device, replaced ondisk.UUID) error
	scrubNodes() []ScrubNode
	pinAll() (nodes []Pinned, release func())
	repairNow(ctx context.Context, d Damage) error
	notThere(node string) error
	overwrite(ctx context.Context, node, from string, c chain.Change, still func(*chain.View) (bool, error)) error
	offline(ctx context.Context, name string) error
	online(ctx context.Context, name string) error
	replace(ctx context.Context, name string, with MemberSpec, force bool) error
	add(ctx context.Context, with MemberSpec, role ondisk.PFSType, force bool) error
	remove(ctx context.Context, name string) error
	setRole(ctx context.Context, name string, role ondisk.PFSType) error
	discard(ctx context.Context, name string) error
	resyncWanted() []string
	acquireTarget(name string) (*ResyncTarget, func(), error)
	pinSource(ctx context.Context, not string) (Source, func(), error)
	hold(ctx context.Context, max time.Duration, fn func(Position) error) error
	join(t *ResyncTarget, pos Position) error
	retained(after Position) ([]*chain.Batch, bool)
	close(ctx context.Context) error
}

// A Pool is one PFS over its nodes, as one filesystem uses it. Its methods
// are safe for concurrent use.
type Pool struct {
	opts   Options
	log    *slog.Logger
	engine engineAPI
	ctx    context.Context // ends when the pool is torn down
	cancel context.CancelFunc

	stateMu sync.Mutex // orders changes of state
	state   atomic.Pointer[state]
	viewsCh atomic.Pointer[chan struct{}] // closed when the views changed
	treed   atomic.Uint64                 // the last group that is in the views

	firstChange chan struct{} // the open group was changed for the first time
	wish        chan struct{} // someone wants the open group durable
	room        atomic.Pointer[chan struct{}]
	lastErr     atomic.Pointer[error] // of the last commit; nil = it worked

	snapTurn    chan struct{} // held by the one who changes the list of snapshots
	snapNames   snapNames
	snapChanges atomic.Uint64 // counts those changes

	accounting atomic.Bool // there are accounts

	snapMends atomic.Uint64 // copies of snapshots that were overwritten
	snapUse   snapUse
	lastInum  atomic.Uint64 // highest inode number handed out
	closing   atomic.Bool
	conflicts atomic.Int64           // as SetConflicts was told
	abandoned atomic.Bool            // closing, and what is in memory is not to be written
	held      atomic.Pointer[string] // the cache that did not answer when it was closed

	budget  budget
	hedge   hedge
	front   *front
	encode  encoder
	upkeep  upkeep
	forget  atomic.Pointer[func(ctx context.Context)] // nil: nobody has to
	onTrees atomic.Pointer[func()]                    // nil: nobody is told
	events  events
	txgs    txgMeter
	crowd   crowd   // the commit loop's
	recent  *recent // nil: Options.Dedup was not given

	workers sync.WaitGroup
}

// lastInum is more than files get in centuries, and leaves room below the
// numbers that attributes have.
const lastInum = ondisk.AttrBit - 1<<40

// OpenPool opens the members of a PFS, settles which state is the truth, and
// serves it. Errors name the member and what can be done.
func OpenPool(ctx context.Context, members []MemberSpec, o Options) (*Pool, error) {
	o.setDefaults()
	caches := slices.DeleteFunc(slices.Clone(members), func(m MemberSpec) bool { return !m.Cache })
	members = slices.DeleteFunc(slices.Clone(members), func(m MemberSpec) bool { return m.Cache })
	o.single = len(members) == 1
	e, err := startEngine(ctx, members, o)
	if err != nil {
		return nil, err
	}
	p, err := newPool(ctx, e, o)
	if err != nil {
		return nil, errors.Join(err, e.close(ctx))
	}
	p.startCaches(ctx, caches)
	return p, nil
}

// newPool starts a pool over a running engine.
func newPool(ctx context.Context, e engineAPI, o Options) (*Pool, error) {
	o.setDefaults()
	if o.front == nil {
		o.front = newFront(&o)
	}
	p := &Pool{
		opts: o, log: o.Logger, engine: e, front: o.front,
		firstChange: make(chan struct{}, 1),
		wish:        make(chan struct{}, 1),
		snapTurn:    make(chan struct{}, 1),
		upkeep:      upkeep{wake: make(chan struct{}, 1)},
	}
	p.viewsCh.Store(newSignal())
	p.room.Store(newSignal())
	p.budget.init(&o)
	if o.Dedup {
		p.recent = newRecent(int(o.Memory / recentShare / recentEntry))
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.stateMu.Lock()
	p.install(newGroup(1), nil, nil, p.views())
	p.measure()
	p.stateMu.Unlock()
	p.workers.Add(1)
	go p.watch() // from the start: a member may fail while the root is read
	root, ok, err := p.Inode(ctx, ondisk.InumRoot)
	if err == nil && !ok {
		err = fmt.Errorf("root directory of %q: %w", o.Label, chain.ErrNoInode)
	}
	if err == nil && !o.ReadOnly && root.Meta.PFSInum >= lastInum {
		err = fmt.Errorf("root directory of %q: the highest inode number in use is %#x, which leaves none: %w", o.Label, root.Meta.PFSInum, ondisk.ErrCorrupt)
	}
	if err != nil {
		p.cancel()
		p.workers.Wait()
		p.state.Load().release()
		return nil, err
	}
	p.lastInum.Store(max(root.Meta.PFSInum, ondisk.InumFirst-1))
	p.state.Load().open.firstNew.Store(p.lastInum.Load() + 1)
	p.encode.start(p)
	p.workers.Add(1)
	go p.commitLoop()
	return p, nil
}

// Close makes everything durable and closes the members. If ctx ends first,
// what was not committed is lost as in a crash, and the error says so.
func (p *Pool) Close(ctx context.Context) error {
	var err error
	if closing := p.closing.Swap(true); !p.abandoned.Load() {
		if closing {
			return ErrPoolClosed
		}
		// No call enters a group from here on, and a sync waits for those inside.
		p.state.Load().open.touched.Store(true)
		if err = p.Settle(ctx); err != nil {
			err = fmt.Errorf("final commit: %w", err)
		}
	}
	p.cancel()
	p.workers.Wait()
	p.encode.stop()
	p.stateMu.Lock()
	p.install(p.state.Load().open, nil, nil, nil) // who looks from now on finds no views
	p.stateMu.Unlock()
	if p.front.owner == p {
		if held := p.front.stop(ctx, ""); held != "" {
			p.held.Store(&held)
		}
	}
	p.snapUse.close()
	p.events.close()
	return errors.Join(err, p.engine.close(ctx))
}

// Committed is the last committed position.
func (p *Pool) Committed() Position { return p.engine.committed() }

func (p *Pool) now() time.Time { return p.opts.Now() }

// FailsWithoutQuorum reports whether calls fail, and do not wait, without one.
func (p *Pool) FailsWithoutQuorum() bool { return p.opts.OnNoQuorum == EIO }

// ReadOnly reports whether the pool refuses changes.
func (p *Pool) ReadOnly() bool { return p.opts.ReadOnly }
