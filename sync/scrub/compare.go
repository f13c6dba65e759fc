package scrub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	compareLeaves  = 20_000 // per step
	compareChanges = 64
)

// A comparison holds the copies of all members at one tid against that of the
// first, one after the other.
type comparison struct {
	j    *job
	snap string // a snapshot; "" = what is mounted
	from chain.Cursor
	// By the two nodes: what is equal, among all snapshots.
	equals map[[2]string]*chain.Equals
}

// compareSnapshots holds the copies of each snapshot against each other. What
// several have in common is looked at once; blocks were verified by the lanes.
func (j *job) compareSnapshots(ctx context.Context) error {
	names, err := j.peers.SnapshotNames(ctx)
	if err != nil {
		return fmt.Errorf("comparing snapshots: %w", err)
	}
	equals := make(map[[2]string]*chain.Equals)
	for _, n := range names {
		if err := (&comparison{j: j, snap: n.Name, equals: equals}).run(ctx); err != nil {
			return err
		}
		j.mu.Lock()
		j.rep.Snapshots++
		j.mu.Unlock()
	}
	return nil
}

// pin takes up the copies that are compared.
func (c *comparison) pin(ctx context.Context) ([]cluster.Pinned, func(), error) {
	if c.snap != "" {
		return c.j.peers.PinSnapshot(ctx, c.snap)
	}
	return c.j.peers.PinAll(ctx)
}

// limits are those of a step that compares two nodes.
func (c *comparison) limits(a, b string) chain.DiffLimits {
	l := chain.DiffLimits{Leaves: compareLeaves, Changes: compareChanges, Strict: true}
	if c.snap == "" {
		return l
	}
	key := [2]string{a, b}
	if c.equals[key] == nil {
		c.equals[key] = chain.NewEquals()
	}
	l.Equals, l.Sound, l.Bare = c.equals[key], true, true
	return l
}

// overwrite makes a leaf of one node what another has.
func (c *comparison) overwrite(ctx context.Context, node, from string, ch chain.Change, still func(*chain.View) (bool, error)) error {
	if c.snap != "" {
		return c.j.peers.OverwriteSnapshot(ctx, node, from, c.snap, ch, still)
	}
	return c.j.peers.Overwrite(ctx, node, from, ch, still)
}

// errNoMajority: the copies differ, and no version is on a majority of masters.
var errNoMajority = errors.New("the copies differ, and no majority of the masters agrees")

func (c *comparison) run(ctx context.Context) error {
	for pair := 1; ; pair++ {
		c.from = chain.Cursor{}
		for {
			if err := c.j.await(ctx); err != nil {
				return err
			}
			start := time.Now()
			more, done, err := c.step(ctx, pair)
			if err != nil {
				return fmt.Errorf("comparing the members: %w", err)
			}
			if done {
				return nil
			}
			if !more {
				break
			}
			wait(ctx, rest(time.Since(start), c.j.tranquility(), c.j.busy()))
		}
	}
}

// step compares the next leaves of the pair-th member with the first. done:
// there is no such member.
func (c *comparison) step(ctx context.Context, pair int) (more, done bool, err error) {
	nodes, release, err := c.pin(ctx)
	if err != nil {
		return false, false, err
	}
	defer release()
	if pair >= len(nodes) {
		return false, true, nil
	}
	var differing []place
	next, end, stats, err := chain.Diff(ctx, nodes[pair].View, nodes[0].View, 0, c.from,
		c.limits(nodes[0].Name, nodes[pair].Name),
		func(ch chain.Change) error {
			differing = append(differing, place{ch.Inum, ch.Kind, ch.Key})
			return nil
		},
		func(chain.Touch) error { return nil })
	c.from = next
	c.j.mu.Lock()
	c.j.rep.Compared += int64(stats.Leaves)
	c.j.mu.Unlock()
	if damage := (*chain.DiffError)(nil); errors.As(err, &damage) && ctx.Err() == nil {
		// Verified a moment ago and bad now: a read repairs it or gives the
		// member up; what is left is the next scrub's.
		c.j.o.Logger.Warn("comparing was cut short", "node", nodes[pair].Name, "err", err)
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	for _, at := range differing {
		if err := c.vote(ctx, at, nodes); err != nil {
			return false, false, err
		}
	}
	return !end, false, nil
}

// A place is a leaf by name.
type place struct {
	inum uint64
	kind chain.Kind
	key  uint64
}

func (p place) damage(node string) cluster.Damage {
	kinds := map[chain.Kind]ondisk.BlockType{
		chain.KindInode: ondisk.TypeInode, chain.KindDirent: ondisk.TypeDirent, chain.KindData: ondisk.TypeData,
	}
	return cluster.Damage{Node: node, Differs: true, Leaf: cluster.Leaf{Inum: p.inum, Key: p.key, Kind: kinds[p.kind]}}
}

// damage is what is said of a leaf that differs.
func (c *comparison) damage(at place, node string) cluster.Damage {
	d := at.damage(node)
	d.Label = c.snap
	return d
}

// vote makes the others what a majority of the masters has.
func (c *comparison) vote(ctx context.Context, at place, nodes []cluster.Pinned) error {
	need := c.j.peers.Status().Quorum.Need
	votes, versions := make(map[string]int), make([]string, len(nodes))
	winner := -1
	for i := range nodes {
		v, err := at.version(ctx, nodes[i].View)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			continue // bad is not different
		}
		if versions[i] = v; nodes[i].Votes {
			if votes[v]++; votes[v] >= need {
				winner = i
			}
		}
	}
	if same(versions) {
		return nil // only tables differ, which are each node's own
	}
	c.j.mu.Lock()
	c.j.rep.Differing++
	c.j.mu.Unlock()
	if winner < 0 {
		d := c.damage(at, nodes[0].Name)
		c.j.found(ctx, d, "is not the same everywhere", errNoMajority, 0, 1)
		return nil
	}
	change, err := at.change(ctx, nodes[winner].View)
	if err != nil {
		return err
	}
	for i := range nodes {
		if versions[i] == "" || versions[i] == versions[winner] {
			continue
		}
		still := func(v *chain.View) (bool, error) {
			now, err := at.version(ctx, v)
			return now == versions[i], err
		}
		was, _ := at.change(ctx, nodes[i].View) // of an entry, its name
		err := c.overwrite(ctx, nodes[i].Name, nodes[winner].Name, change, still)
		if err == nil {
			c.j.o.Overwrote(Overwritten{c.snap, at.inum, names(was, change)})
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		repaired, lost := damaged(nil).settle(0, err == nil)
		c.j.found(ctx, c.damage(at, nodes[i].Name), "differs from the others", err, repaired, lost)
	}
	return nil
}

// names are those of two versions of a leaf, if it is an entry.
func names(versions ...chain.Change) (list []string) {
	for i := range versions {
		if n := versions[i].Dirent.Name; n != "" && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

// same reports whether all that could be read are alike.
func same(versions []string) bool {
	first := ""
	for _, v := range versions {
		if v == "" {
			continue
		}
		if first == "" {
			first = v
		}
		if v != first {
			return false
		}
	}
	return true
}

// version is a leaf's content in short; "absent" if there is none.
func (p place) version(ctx context.Context, v *chain.View) (string, error) {
	c, err := p.change(ctx, v)
	if err != nil || c.Delete {
		return "absent", err
	}
	h := sha256.New()
	if p.inum != ondisk.InumRoot || p.kind != chain.KindInode { // that of a root is the whole PFS's
		fmt.Fprintf(h, "%d ", c.ModifyTid)
	}
	switch p.kind {
	case chain.KindInode:
		rec, _, err := v.Inode(ctx, p.inum)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%+v %x", rec.ComparedMeta(), bytes.TrimRight(c.Inline, "\x00"))
	case chain.KindDirent:
		fmt.Fprintf(h, "%+v", c.Dirent)
	default:
		fmt.Fprintf(h, "%d %d %x %d", c.Block.Comp, c.Block.Check, c.Block.Code, c.Block.Radix)
		h.Write(c.Block.Bytes)
	}
	return string(h.Sum(nil)), nil
}

// change is what makes a leaf what it is in v.
func (p place) change(ctx context.Context, v *chain.View) (chain.Change, error) {
	c := chain.Change{Inum: p.inum, Kind: p.kind, Key: p.key, Delete: true}
	rec, ok, err := v.Inode(ctx, p.inum)
	if err != nil || !ok {
		return c, err
	}
	if p.kind == chain.KindInode {
		meta := rec.SharedMeta()
		c.Delete, c.ModifyTid, c.Inode, c.Inline = false, rec.Ref.ModifyTid, &meta, rec.Inline
		return c, nil
	}
	found, ok, err := cluster.Leaf{Inum: p.inum, Key: p.key, Kind: p.damage("").Kind}.Fetch(ctx, v)
	if err != nil || !ok {
		return c, err
	}
	return found, nil
}
