package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs/merge"
	"github.com/anvilfs/anvilfs/ondisk"
)

// lossesTold is how many paths are listed without --all.
const lossesTold = 20

// mayBranch reports whether a node is one of those that can be branches, and
// nothing else is wrong with it.
func (c *controller) mayBranch(name string) bool {
	st := c.pool.Status()
	return c.branches.fs != nil && slices.ContainsFunc(st.Nodes, func(n cluster.NodeStatus) bool {
		return (n.Name == name || n.Fsid == name) && n.Role == ondisk.PFSSoftMaster.String() &&
			n.State != cluster.NodeForeign && n.State != cluster.NodeTainted
	})
}

// discard ends a branch without merging it. If it was changed, only force does;
// without, what would be given up is listed, and the branch is as it was.
//
// A branch that is here may be half merged: what came stays. One whose device is
// offline is opened, and kept from being merged.
func (b *branches) discard(ctx context.Context, name string, force, all bool, w io.Writer) error {
	release, err := b.hold(name)
	if err != nil {
		return err
	}
	defer release()
	opened := false
	n, err := b.find(name)
	if err != nil {
		return err
	}
	if n == nil {
		opened = true
		err = b.pool.NodeOnline(ctx, name)
		if err == nil {
			n, err = b.await(ctx, name)
		}
	}
	switch {
	case err == nil && n == nil:
		return nil // it has nothing of its own
	case err == nil:
		err = b.giveUp(ctx, n, force, all, w)
	}
	if err != nil && opened {
		// It was not to be merged before, and is not now.
		err = errors.Join(err, b.pool.NodeOffline(ctx, name))
	}
	return err
}

// hold keeps a branch from being merged, until release; a merge that is under
// way is cut off.
func (b *branches) hold(name string) (release func(), err error) {
	b.mu.Lock()
	if b.held[name] {
		b.mu.Unlock()
		return nil, fmt.Errorf("%s is being discarded already", name)
	}
	b.held[name] = true
	if b.now == name {
		b.cut()
	}
	b.mu.Unlock()
	b.turn.Lock()
	return func() {
		b.turn.Unlock()
		b.mu.Lock()
		delete(b.held, name)
		b.mu.Unlock()
		b.poke()
	}, nil
}

// begin notes that a branch is being merged; ok is false if it must not be.
func (b *branches) begin(ctx context.Context, name string) (_ context.Context, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held[name] || b.wait && !b.told[name] {
		return nil, false
	}
	b.now = name
	ctx, b.cut = context.WithCancel(ctx)
	return ctx, true
}

// allow has a branch merged that waits for it.
func (b *branches) allow(name string) {
	b.mu.Lock()
	b.told[name] = true
	b.mu.Unlock()
	if b.wait {
		b.poke()
	}
}

// waits reports whether a branch that is here waits for allow.
func (b *branches) waits(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wait && !b.told[name]
}

// end is of begin.
func (b *branches) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = ""
	b.cut()
}

func (b *branches) poke() {
	select {
	case b.wake <- struct{}{}:
	default: // it is awake already
	}
}

// find returns a branch that is here, nil if the node is none that is.
func (b *branches) find(name string) (*cluster.BranchNode, error) {
	for _, n := range b.pool.Branches() {
		if n.Name == name {
			return &n, nil
		}
	}
	st := b.pool.Status()
	i := slices.IndexFunc(st.Nodes, func(n cluster.NodeStatus) bool { return n.Name == name || n.Fsid == name })
	switch {
	case i < 0:
		return nil, fmt.Errorf("%s is no member", name)
	case st.Nodes[i].State == cluster.NodeMissing:
		return nil, errors.New("it is away: what it has is known when it is here; mount with it and -o nomerge, or give it up for good (anvilfs node remove MNT NODE)")
	}
	return nil, nil
}

// await returns the branch that a node turns out to be once it is opened, nil
// if it is none.
func (b *branches) await(ctx context.Context, name string) (*cluster.BranchNode, error) {
	for {
		changed := b.pool.Changed()
		n, err := b.find(name)
		if n != nil || err != nil {
			return n, err
		}
		st := b.pool.Status()
		i := slices.IndexFunc(st.Nodes, func(n cluster.NodeStatus) bool { return n.Name == name })
		if s := st.Nodes[i].State; s != cluster.NodeFailed && s != cluster.NodeOffline {
			return nil, nil // it has nothing of its own
		}
		if e := st.Nodes[i].Error; e != "" && !strings.HasPrefix(e, "being opened") {
			return nil, errors.New(e)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// giveUp says what a branch has, and ends it if that is nothing, or with force.
func (b *branches) giveUp(ctx context.Context, n *cluster.BranchNode, force, all bool, w io.Writer) error {
	list, err := merge.Losses(ctx, n)
	if err != nil {
		return err
	}
	var said strings.Builder
	printLosses(&said, n, list, all)
	r := merge.New(b.fs, b.pool, n, merge.Options{Logger: b.log})
	steps, begun, err := r.Begun(ctx)
	if err != nil {
		return err
	}
	if steps > 0 {
		fmt.Fprintf(&said, "%d steps of its merge are done: what came with them stays\n", steps)
	}
	if len(list) > 0 && !force {
		return fmt.Errorf("%snothing was given up: --force does that", said.String())
	}
	fmt.Fprint(w, said.String())
	kept, err := b.pool.EndBranch(ctx, n)
	if err != nil {
		return err
	}
	forgetCluster(n.Clid, b.log)
	if begun {
		if err := r.Finish(ctx); err != nil {
			return err
		}
	}
	b.pool.SetResyncReport(n.Name, nil)
	b.log.Info("a branch was given up", "node", n.Name, "base", n.Branch.Base.T.String(), "changes", len(list), "kept", kept)
	fmt.Fprintf(w, "it is kept on %s as snapshot %s, until anvilfs pfs delete frees its space\n", n.Name, kept)
	return nil
}

func printLosses(w io.Writer, n *cluster.BranchNode, list []merge.Loss, all bool) {
	count := make(map[string]int)
	for _, l := range list {
		count[l.What]++
	}
	if len(list) == 0 {
		fmt.Fprintf(w, "%s changed nothing since tid %v\n", n.Name, n.Branch.Base.T)
		return
	}
	fmt.Fprintf(w, "%s has, since %s, tid %v: %d new, %d changed, %d moved, %d removed\n", n.Name,
		n.Branch.Since.Local().Format(time.DateTime), n.Branch.Base.T, count["new"], count["changed"], count["moved"], count["removed"])
	told := list
	if !all {
		told = list[:min(len(list), lossesTold)]
	}
	for _, l := range told {
		if l.From != "" {
			fmt.Fprintf(w, "    %-8s %s, was %s\n", l.What, l.Path, l.From)
			continue
		}
		fmt.Fprintf(w, "    %-8s %s\n", l.What, l.Path)
	}
	if more := len(list) - len(told); more > 0 {
		fmt.Fprintf(w, "    and %d more: --all lists them\n", more)
	}
}
