package merge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// errAgain: what was looked up without locks is not so any more.
var errAgain = errors.New("changed meanwhile")

// errLater: in a later pass it may be otherwise.
var errLater = errors.New("left for a later pass")

// tries bounds how often an item is decided anew because somebody changes what
// it is about at the same time.
const tries = 1000

// item carries out one item, the last step of which stores that the next one
// follows, if it changes anything. It reports whether it did.
func (r *Run) item(ctx context.Context, i int) (applied bool, err error) {
	var at pass
	for _, at = range r.plan.passes() {
		if i < at.n {
			break
		}
		i -= at.n
	}
	r.soft = at.soft
	for range tries {
		switch at.kind {
		case ofInodes:
			applied, err = r.inode(ctx, r.plan.inodes[i])
		case ofCome:
			applied, err = r.come(ctx, &r.plan.come[i])
		case ofLeave:
			applied, err = r.leave(ctx, &r.plan.leave[i])
		}
		if errors.Is(err, errLater) {
			return false, nil
		}
		if !errors.Is(err, errAgain) {
			break
		}
	}
	return applied, err
}

// under runs fn with inodes locked, and tells the kernel afterwards.
func (r *Run) under(ctx context.Context, inums []uint64, fn func(g *fs.Graft) error) error {
	all := append([]uint64{ondisk.InumMerge, ondisk.InumConflicts}, inums...)
	err := r.f.Graft(ctx, all, func(g *fs.Graft) error {
		for _, inum := range all {
			if inum == 0 {
				continue
			}
			if _, _, err := g.Inode(ctx, inum); err != nil {
				return err
			}
		}
		return fn(g)
	})
	r.tellAll()
	return err
}

// mark stores, in the step under way, what it did: that the item is done, or
// begun with stamp, and a conflict, which may be nil.
func (r *Run) mark(ctx context.Context, g *fs.Graft, done bool, stamp int64, c *Conflict) error {
	if c != nil {
		r.conflicts.add(*c)
		if err := g.Keep(ctx, ondisk.InumConflicts, EncodeConflicts(r.conflicts)); err != nil {
			return err
		}
	}
	if !done && stamp == 0 {
		return nil
	}
	p := *r.progress
	p.Stamp = stamp
	if done {
		p.Next, p.Stamp = p.Next+1, 0
	}
	return g.Keep(ctx, ondisk.InumMerge, EncodeProgress(&p))
}

// note lists a conflict of which no copy was made, and ends the item.
func (r *Run) note(ctx context.Context, c *Conflict) (bool, error) {
	for i := range r.conflicts.List {
		if k := &r.conflicts.List[i]; k.Branch == c.Branch && k.Ours == c.Ours && k.Dir == c.Dir && k.Name == c.Name && k.What == c.What {
			if c.CopyName == "" || c.CopyName == k.CopyName {
				return false, nil // listed by an earlier attempt
			}
			r.conflicts.List = slices.Delete(r.conflicts.List, i, i+1)
			break
		}
	}
	err := r.under(ctx, nil, func(g *fs.Graft) error {
		return g.Step(ctx, fs.Cost{Leaves: 4, Bytes: listCost}, func() error { return r.mark(ctx, g, true, 0, c) })
	})
	return true, err
}

// listCost bounds what the list of conflicts adds to a transaction.
const listCost = 2 << 20

// ctime is when a record was changed last, in ns.
func ctime(m *ondisk.InodeMeta) int64 {
	sec, nsec := m.CtimeNs()
	return time.Unix(sec, int64(nsec)).UnixNano()
}

// theirsIs says what became of an inode of base in the cluster. It is locked.
func (r *Run) theirsIs(ctx context.Context, g *fs.Graft, inum uint64) (State, error) {
	now, ok, err := g.Inode(ctx, inum)
	switch {
	case err != nil:
		return Absent, err
	case !ok || now.Meta.Nlinks == 0:
		return Absent, nil
	case r.progress.Stamp != 0 && ctime(&now.Meta) == r.progress.Stamp:
		return Same, nil // as far as this item came before a crash
	}
	then, ok, err := r.theirs.Inode(ctx, inum)
	if err != nil {
		return Absent, err
	}
	if at := ctime(&now.Meta); !ok || at != ctime(&then.Meta) && at != r.touched[inum] {
		return Changed, nil // since the merge began
	}
	changed, minor, err := differs(ctx, r.theirs, r.base, r.theirSince, inum)
	if err != nil {
		return Absent, err
	}
	if changed && !minor {
		return Changed, nil
	}
	return Same, nil
}

// inode merges the content and attributes of an inode of base.
func (r *Run) inode(ctx context.Context, inum uint64) (applied bool, err error) {
	if _, alive, err := r.ours.Inode(ctx, inum); err != nil || !alive {
		return false, err // its names say what becomes of it
	}
	changed, minor, err := differs(ctx, r.ours, r.base, r.since, inum)
	if err != nil || !changed {
		return false, err
	}
	verdict, theirs := Nothing, Absent
	err = r.under(ctx, []uint64{inum}, func(g *fs.Graft) (err error) {
		if theirs, err = r.theirsIs(ctx, g, inum); err != nil {
			return err
		}
		equal := false
		if theirs == Changed && !minor {
			if equal, err = equalNow(ctx, r.ours, inum, g, inum); err != nil {
				return err
			}
		}
		if verdict = Content(Changed, theirs, equal, minor); verdict != Apply {
			return nil
		}
		return r.overwrite(ctx, g, inum)
	})
	if err != nil || verdict != Beside {
		return verdict == Apply, err
	}
	what := "changed on both sides"
	if theirs == Absent {
		what = "changed on " + r.id + ", removed in the cluster"
	}
	dir, s, err := r.besideOf(ctx, inum)
	if err != nil {
		return false, err
	}
	return true, r.plantBeside(ctx, inum, dir, s, what)
}

// besideOf is where the cluster has an inode, or would have it.
func (r *Run) besideOf(ctx context.Context, inum uint64) (dir uint64, s string, err error) {
	now, ok, err := r.f.Current(ctx, inum)
	if err != nil {
		return 0, "", err
	}
	if ok && now.Meta.Nlinks > 0 {
		found := false
		err = r.f.List(ctx, now.Meta.Iparent, func(d ondisk.Dirent) bool {
			if d.Inum == inum {
				s, found = d.Name, true
			}
			return !found
		})
		if err != nil || found {
			return now.Meta.Iparent, s, err
		}
	}
	dir, s, ok, err = nameIn(ctx, r.ours, inum)
	if err != nil {
		return 0, "", err
	}
	if !ok {
		return ondisk.InumRoot, fmt.Sprintf("#%d", inum), nil
	}
	dir, err = r.place(ctx, dir)
	return dir, s, err
}

// loses reports whether the cluster has, under an inode of base that the branch
// has no more, what would be lost if its name went.
func (r *Run) loses(ctx context.Context, g *fs.Graft, inum uint64) (bool, error) {
	if _, alive, err := r.ours.Inode(ctx, inum); err != nil || alive {
		return false, err
	}
	now, ok, err := g.Inode(ctx, inum)
	if err != nil || !ok {
		return false, err
	}
	if now.Meta.Type == ondisk.ObjDir {
		if empty, err := g.Empty(ctx, inum); err != nil || !empty {
			return true, err
		}
	} else if now.Meta.Nlinks > 1 {
		return false, nil // it has another name
	}
	theirs, err := r.theirsIs(ctx, g, inum)
	return theirs == Changed, err
}

// leave merges a name that the branch has no more.
func (r *Run) leave(ctx context.Context, n *name) (applied bool, err error) {
	inum := n.base.Inum
	kept := ""
	err = r.under(ctx, []uint64{n.dir, inum}, func(g *fs.Graft) error {
		dir, ok, err := g.Inode(ctx, n.dir)
		if err != nil || !ok || dir.Meta.Nlinks == 0 {
			return err
		}
		there, ok, err := g.Lookup(ctx, n.dir, n.name)
		if err != nil || !ok || there.Inum != inum {
			return err // they removed it, or put something else there
		}
		loses, err := r.loses(ctx, g, inum)
		if err != nil {
			return err
		}
		if _, alive, err := r.ours.Inode(ctx, inum); err != nil {
			return err
		} else if now, ok, err := g.Inode(ctx, inum); err != nil {
			return err
		} else if alive && ok && (now.Meta.Type == ondisk.ObjDir || now.Meta.Nlinks < 2) {
			return nil // it was to get another name, and did not
		}
		switch Name(inum, 0, inum, loses, false) {
		case Keep:
			if r.soft {
				return errLater
			}
			kept = "removed on " + r.id + ", changed in the cluster"
			return nil
		case Apply:
			applied = true
			defer r.own(ctx, g, n.dir, inum)()
			return g.Step(ctx, fs.Cost{Leaves: 8}, func() error {
				if err := g.Unlink(n.dir, there); err != nil {
					return err
				}
				r.tell(func(k Kernel) { k.InvalidateEntry(n.dir, n.name); k.InvalidateInode(n.dir) })
				return r.mark(ctx, g, true, 0, nil)
			})
		}
		return nil
	})
	if err == nil && kept != "" {
		c := r.conflict(inum, n.dir, n.name, kept)
		c.Removed = true
		return r.note(ctx, c)
	}
	return applied, err
}

// path is where a name in a directory is; "" = that directory is gone.
func path(ctx context.Context, f *fs.FS, dir uint64, s string) (string, error) {
	for range deepest {
		if dir == ondisk.InumRoot {
			return s, nil
		}
		up, ok, err := f.Current(ctx, dir)
		if err != nil || !ok || up.Meta.Nlinks == 0 {
			return "", err
		}
		found := ""
		err = f.List(ctx, up.Meta.Iparent, func(d ondisk.Dirent) bool {
			if d.Inum == dir {
				found = d.Name
			}
			return found == ""
		})
		if err != nil || found == "" {
			return "", err
		}
		s, dir = found+"/"+s, up.Meta.Iparent
	}
	return "", nil
}
