package merge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Pool is what a merge needs below the filesystem: *cluster.Pool.
type Pool interface {
	Sync(ctx context.Context) error
	PinSource(ctx context.Context, not string) (cluster.Source, func(), error)
	ReserveInums(n uint64) (first uint64)
}

var _ Pool = (*cluster.Pool)(nil)

// A Kernel is told what changed without it: *fs.Server.
type Kernel interface {
	InvalidateInode(inum uint64)
	InvalidateEntry(dir uint64, name string)
}

var _ Kernel = (*fs.Server)(nil)

// Options of a run. Zero values are the defaults.
type Options struct {
	Kernel Kernel // nil: nobody has to be told
	Logger *slog.Logger
	Now    func() time.Time
	// Small is how much data an item may have to be one transaction; 0 = 4 MiB.
	Small uint64

	pause func(locked bool) // tests act after each step, and each item
}

// A Run merges one branch.
type Run struct {
	f  *fs.FS
	p  Pool
	b  *cluster.BranchNode
	o  Options
	id string // of the node, in names

	ours, base, theirs *chain.View
	since              ondisk.Tid // common of ours and base
	theirSince         ondisk.Tid // common of theirs and base
	plan               *plan
	soft               bool // what depends on other items is left for a later pass
	progress           *Progress
	conflicts          *Conflicts
	touched            map[uint64]int64 // inodes that this run changed: their ctime
	told               []func(Kernel)

	mu  sync.Mutex // guards rep
	rep Report
}

// A Report is a run at one instant.
type Report struct {
	Kind      string    `json:"kind"` // "merge"
	Node      string    `json:"node"`
	State     string    `json:"state"` // planning, merging, ending, done, failed
	Items     int       `json:"items"`
	Done      int       `json:"items_done"`
	Applied   int       `json:"applied"`
	Conflicts int       `json:"conflicts"`
	Path      string    `json:"path,omitempty"` // at work on it
	Err       string    `json:"error,omitempty"`
	Since     time.Time `json:"since"`
}

// New returns a run that merges b into f, which lies in p.
func New(f *fs.FS, p Pool, b *cluster.BranchNode, o Options) *Run {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Small == 0 {
		o.Small = 4 << 20
	}
	if o.pause == nil {
		o.pause = func(bool) {}
	}
	return &Run{f: f, p: p, b: b, o: o, id: cluster.ShortName(b.Name), touched: make(map[uint64]int64),
		rep: Report{Kind: "merge", Node: b.Name, State: "planning", Since: o.Now()}}
}

// Report says how far the run is.
func (r *Run) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rep
}

func (r *Run) update(fn func(*Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn(&r.rep)
}

// Merge brings all changes of the branch into the filesystem. When it returns
// nil they are durable, and the branch may end (cluster.Pool.EndBranch); then
// Finish is called. After an error, or a crash, another run goes on.
func (r *Run) Merge(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			r.update(func(rep *Report) { rep.State, rep.Err = "failed", err.Error() })
		}
	}()
	if err := r.open(ctx); err != nil {
		return err
	}
	defer r.ours.Release()
	defer r.base.Release()
	if r.progress.Done {
		return nil
	}
	src, unpin, err := r.pin(ctx)
	if err != nil {
		return err
	}
	defer unpin()
	r.theirs = src.View
	if r.plan, err = makePlan(ctx, r.ours, r.base, r.since); err != nil {
		return err
	}
	r.update(func(rep *Report) { rep.State, rep.Items = "merging", r.plan.len() })
	for r.progress.Next < r.plan.len() {
		if err := ctx.Err(); err != nil {
			return err
		}
		applied, err := r.item(ctx, r.progress.Next)
		if err != nil {
			return err
		}
		r.advance()
		r.o.pause(false)
		r.update(func(rep *Report) {
			rep.Done, rep.Conflicts = r.progress.Next, r.ofBranch()
			if applied {
				rep.Applied++
			}
		})
	}
	r.progress.Done = true
	if err := r.store(ctx); err != nil {
		return err
	}
	r.update(func(rep *Report) { rep.State, rep.Path = "ending", "" })
	return r.p.Sync(ctx)
}

func (r *Run) advance() {
	r.progress.Next++
	r.progress.Stamp = 0
}

// Finish forgets the progress: the branch has ended.
func (r *Run) Finish(ctx context.Context) error {
	err := r.f.Graft(ctx, []uint64{ondisk.InumMerge}, func(g *fs.Graft) error {
		return g.Step(ctx, fs.Cost{Leaves: 2}, func() error { return g.Keep(ctx, ondisk.InumMerge, nil) })
	})
	if err == nil {
		err = r.p.Sync(ctx)
	}
	r.update(func(rep *Report) { rep.State = "done" })
	return err
}

// Begun tells how many steps of a merge of this branch are done; ok is false if
// none was begun.
func (r *Run) Begun(ctx context.Context) (steps int, ok bool, err error) {
	content, err := r.f.Load(ctx, ondisk.InumMerge)
	if err != nil || len(content) == 0 {
		return 0, false, err
	}
	p, err := DecodeProgress(content)
	if err != nil || p.Branch != r.b.Clid {
		return 0, false, err
	}
	return p.Next, true, nil
}

// open takes up the trees of the branch and what is known of its merge.
func (r *Run) open(ctx context.Context) (err error) {
	if r.ours, err = r.b.Volume.View(ctx, r.b.Label); err != nil {
		return err
	}
	if r.base, err = r.b.Volume.View(ctx, cluster.BaseLabel(r.b.Branch.Node)); err != nil {
		r.ours.Release()
		return fmt.Errorf("what the branch was when it left: %w", err)
	}
	if err := r.begin(ctx); err != nil {
		r.ours.Release()
		r.base.Release()
		return err
	}
	return nil
}

func (r *Run) begin(ctx context.Context) error {
	law, err := cluster.ReadLineage(ctx, r.base)
	if err != nil {
		return err
	}
	r.since = cluster.CommonTid(&r.b.Lineage, r.b.At, law, r.b.Branch.Base)
	if err := r.resume(ctx); err != nil {
		return err
	}
	list, err := r.f.Load(ctx, ondisk.InumConflicts)
	if err != nil {
		return err
	}
	if r.conflicts, err = DecodeConflicts(list); err != nil {
		r.o.Logger.Warn("the list of conflicts is begun anew", "err", err)
		r.conflicts = &Conflicts{}
	}
	return nil
}

// pin takes up what the cluster has, and how much of it is base.
func (r *Run) pin(ctx context.Context) (src cluster.Source, unpin func(), err error) {
	if err := r.p.Sync(ctx); err != nil {
		return src, nil, err
	}
	if src, unpin, err = r.p.PinSource(ctx, r.b.Name); err != nil {
		return src, nil, err
	}
	law, err := cluster.ReadLineage(ctx, r.base)
	if err != nil {
		unpin()
		return src, nil, err
	}
	r.theirSince = cluster.CommonTid(&src.Lineage, src.Position, law, r.b.Branch.Base)
	return src, unpin, nil
}

// resume reads the progress, or begins it. A branch that was changed since is
// merged from the start, with the numbers that its files have got.
func (r *Run) resume(ctx context.Context) error {
	content, err := r.f.Load(ctx, ondisk.InumMerge)
	if err != nil {
		return err
	}
	if len(content) > 0 {
		p, err := DecodeProgress(content)
		if err != nil {
			return err
		}
		switch {
		case p.Branch != r.b.Clid:
			r.o.Logger.Info("an earlier merge is given up for another branch", "node", p.Node)
		case p.At == r.b.At:
			r.progress = p
			return nil
		default:
			r.progress = &Progress{Branch: p.Branch, Ranges: p.Ranges}
		}
	}
	if r.progress == nil {
		r.progress = &Progress{Branch: r.b.Clid}
	}
	r.progress.At, r.progress.Node = r.b.At, r.b.Name
	return r.reserve(ctx)
}

// reserve sets numbers aside for the files that the branch made.
func (r *Run) reserve(ctx context.Context) error {
	root, _, err := r.ours.Inode(ctx, ondisk.InumRoot)
	if err != nil {
		return err
	}
	low := r.b.Branch.BaseInum + 1
	for _, have := range r.progress.Ranges {
		low = max(low, have.Low+have.Count)
	}
	if top := root.Meta.PFSInum; top >= low {
		if len(r.progress.Ranges) == rangesMax {
			return errors.New("the branch was changed too often between attempts to merge it")
		}
		n := top - low + 1
		r.progress.Ranges = append(r.progress.Ranges, Range{Low: low, Count: n, First: r.p.ReserveInums(n)})
	}
	return r.store(ctx)
}

// store makes the progress part of the next commit, and with it the highest
// number that was set aside.
func (r *Run) store(ctx context.Context) error {
	return r.f.Graft(ctx, []uint64{ondisk.InumRoot, ondisk.InumMerge}, func(g *fs.Graft) error {
		if _, _, err := g.Inode(ctx, ondisk.InumRoot); err != nil {
			return err
		}
		if _, _, err := g.Inode(ctx, ondisk.InumMerge); err != nil {
			return err
		}
		return g.Step(ctx, fs.Cost{Leaves: 3, Bytes: ondisk.LogicalBlock}, func() error {
			g.Touch(ondisk.InumRoot)
			return g.Keep(ctx, ondisk.InumMerge, EncodeProgress(r.progress))
		})
	})
}

// ofBranch counts its conflicts.
func (r *Run) ofBranch() (n int) {
	for i := range r.conflicts.List {
		if r.conflicts.List[i].Branch == r.b.Clid {
			n++
		}
	}
	return n
}

// tell notes what the kernel is to be told, and told says so when no lock is
// held.
func (r *Run) tell(fn func(Kernel)) { r.told = append(r.told, fn) }

func (r *Run) tellAll() {
	if r.o.Kernel != nil {
		for _, fn := range r.told {
			fn(r.o.Kernel)
		}
	}
	r.told = r.told[:0]
}
