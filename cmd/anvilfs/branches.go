package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/fs/merge"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// branches merges those that come back, one after the other, while the mount
// lasts.
type branches struct {
	pool   *cluster.Pool
	log    *slog.Logger
	cancel context.CancelFunc
	work   sync.WaitGroup

	turn sync.Mutex // of the list of conflicts
	fs   *fs.FS     // nil until it is mounted

	wake chan struct{} // capacity 1

	mu   sync.Mutex
	held map[string]bool    // not to be merged
	now  string             // being merged; "" = none is
	cut  context.CancelFunc // ends that merge
	wait bool               // none is merged before node online says so
	told map[string]bool    // those that it said so of
}

const (
	branchLook  = time.Second
	mergeFirst  = 5 * time.Second // after a merge that failed
	mergeLatest = 5 * time.Minute
)

func newBranches(p *cluster.Pool, log *slog.Logger) *branches {
	return &branches{pool: p, log: log, cancel: func() {}, wake: make(chan struct{}, 1), held: make(map[string]bool), told: make(map[string]bool)}
}

// start begins to look for branches. f is what they are merged into, and kernel
// who is told.
func (b *branches) start(f *fs.FS, kernel merge.Kernel) {
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel, b.fs = cancel, f
	b.count(ctx)
	b.work.Go(func() { b.run(ctx, kernel) })
}

// stop ends a merge where it is; the next mount goes on.
func (b *branches) stop() {
	b.cancel()
	b.work.Wait()
}

func (b *branches) run(ctx context.Context, kernel merge.Kernel) {
	wait := mergeFirst
	for ctx.Err() == nil {
		pause := branchLook
		for _, n := range b.pool.Branches() {
			mctx, ok := b.begin(ctx, n.Name)
			if !ok {
				continue
			}
			err := b.merge(mctx, &n, kernel)
			cut := mctx.Err() != nil
			b.end()
			if err != nil && !cut {
				b.log.Warn("merging a branch failed", "node", n.Name, "err", err)
				pause, wait = wait, min(2*wait, mergeLatest)
				continue
			}
			wait = mergeFirst
		}
		changed := b.pool.Changed()
		if pause > branchLook {
			changed = nil
		}
		select {
		case <-changed:
		case <-b.wake:
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (b *branches) merge(ctx context.Context, n *cluster.BranchNode, kernel merge.Kernel) error {
	b.turn.Lock()
	defer b.turn.Unlock()
	r := merge.New(b.fs, b.pool, n, merge.Options{Kernel: kernel, Logger: b.log})
	watched := make(chan struct{})
	watching, stop := context.WithCancel(ctx)
	go func() {
		defer close(watched)
		for watching.Err() == nil {
			b.pool.SetResyncReport(n.Name, r.Report())
			select {
			case <-time.After(branchLook / 4):
			case <-watching.Done():
			}
		}
	}()
	err := r.Merge(ctx)
	stop()
	<-watched
	b.pool.SetResyncReport(n.Name, r.Report())
	b.count(ctx)
	if err != nil {
		return err
	}
	rep := r.Report()
	kept, err := b.pool.EndBranch(ctx, n)
	if err != nil {
		return err
	}
	forgetCluster(n.Clid, b.log)
	if err := r.Finish(ctx); err != nil {
		return err
	}
	b.pool.SetResyncReport(n.Name, r.Report())
	b.log.Info("a branch was merged", "node", n.Name, "base", n.Branch.Base.T.String(), "changes", rep.Applied,
		"conflicts", rep.Conflicts, "kept", kept)
	return nil
}

// count notes in the status how many conflicts there are.
func (b *branches) count(ctx context.Context) {
	c, err := merge.ReadConflicts(ctx, b.fs)
	if err != nil {
		b.log.Warn("the list of conflicts cannot be read", "err", err)
		return
	}
	b.pool.SetConflicts(len(c.List) + c.More)
}

// command is conflicts of the control file; f is where the list is.
func (b *branches) command(ctx context.Context, f *fs.FS, words []string, w io.Writer) error {
	if len(words) == 0 {
		return errors.New("conflicts takes list or forget")
	}
	verb, rest := words[0], words[1:]
	if f == nil || b.fs == nil && verb != "list" {
		return errors.New("conflicts: the mount is read-only")
	}
	switch verb {
	case "list":
		c, err := merge.ReadConflicts(ctx, f)
		if err != nil {
			return err
		}
		b.pool.SetConflicts(len(c.List) + c.More) // some may have been removed by hand
		if len(rest) > 0 && rest[0] == "--json" {
			return writeConflicts(w, c)
		}
		printConflicts(w, c, func(inum uint64) string { return b.pool.PathOf(ctx, inum) })
		return nil
	case "forget":
		if len(rest) != 1 {
			return errors.New("conflicts forget takes the path of one")
		}
		b.turn.Lock()
		defer b.turn.Unlock()
		if err := merge.Forget(ctx, b.fs, rest[0]); err != nil {
			return err
		}
		if err := b.pool.Sync(ctx); err != nil {
			return err
		}
		b.count(ctx)
		return nil
	}
	return fmt.Errorf("conflicts has no %q: list and forget", verb)
}

// conflictsJSON is what conflicts list --json prints.
type conflictsJSON struct {
	OutputVersion int            `json:"output_version"`
	Conflicts     []conflictJSON `json:"conflicts"`
	More          int            `json:"more,omitempty"`
}

type conflictJSON struct {
	Path    string    `json:"path"`
	Copy    string    `json:"copy,omitempty"`
	What    string    `json:"what"`
	Removed bool      `json:"removed,omitempty"` // by the branch
	Node    string    `json:"node"`
	Time    time.Time `json:"time"`
}

func writeConflicts(w io.Writer, c *merge.Conflicts) error {
	list := make([]conflictJSON, 0, len(c.List))
	for _, k := range c.List {
		list = append(list, conflictJSON{k.Path, k.Copy, k.What, k.Removed, k.Node, k.Time})
	}
	return rawjson.Write(w, conflictsJSON{OutputVersion: 1, Conflicts: list, More: c.More}, "  ")
}

// printConflicts lists them for people. pathOf names a file of the cluster, which
// has the number that it had when the branch left.
func printConflicts(w io.Writer, c *merge.Conflicts, pathOf func(inum uint64) string) {
	w = advice.Lines(w)
	for _, k := range c.List {
		fmt.Fprintf(w, "%s: %s\n", advice.Printable(k.Path), k.What)
		has, named := strings.CutPrefix(pathOf(k.Ours), "/")
		switch {
		case k.Copy != "":
			fmt.Fprintf(w, "    %s has %s\n", k.Node, advice.Printable(k.Copy))
		case !k.Removed && named && has != k.Path: // it was renamed
			fmt.Fprintf(w, "    the cluster's is kept: %s\n", advice.Printable(has))
		default:
			fmt.Fprintf(w, "    the cluster's is kept\n")
		}
	}
	if c.More > 0 {
		fmt.Fprintf(w, "and %d more, whose copies are named NAME.conflict-NODE-N\n", c.More)
	}
}
