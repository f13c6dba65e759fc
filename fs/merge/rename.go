package merge

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// tempName is where something waits for the name that it is to get, when its
// own is needed first.
func tempName(inum uint64) string { return fmt.Sprintf(".anvilfs-merge-%d", inum) }

// displace moves away what a name leads to, if the branch has it elsewhere.
func (r *Run) displace(ctx context.Context, dir uint64, there *ondisk.Dirent) error {
	if there.Inum == 0 || there.Inum > r.b.Branch.BaseInum {
		return nil
	}
	if _, alive, err := r.ours.Inode(ctx, there.Inum); err != nil || !alive {
		return err
	}
	temp := tempName(there.Inum)
	err := r.under(ctx, []uint64{dir, there.Inum}, func(g *fs.Graft) error {
		if ok, err := stands(ctx, g, dir, there.Name, there.Inum); err != nil || !ok {
			return firstOf(err, errAgain)
		}
		waits, err := stands(ctx, g, dir, temp, there.Inum) // another of its names was needed before
		if err != nil {
			return err
		}
		defer r.own(ctx, g, dir, there.Inum)()
		name := there.Name
		r.tell(func(k Kernel) { k.InvalidateEntry(dir, name); k.InvalidateEntry(dir, temp); k.InvalidateInode(dir) })
		return g.Step(ctx, fs.Cost{Leaves: 8}, func() error {
			if waits {
				return g.Unlink(dir, *there)
			}
			return g.Move(dir, name, dir, temp, there.Inum, ondisk.Dirent{})
		})
	})
	if err == nil {
		*there = ondisk.Dirent{}
	}
	return err
}

// linked reports whether a locked inode has more than one name.
func linked(ctx context.Context, g *fs.Graft, inum uint64) (bool, error) {
	rec, ok, err := g.Inode(ctx, inum)
	return ok && rec.Meta.Type != ondisk.ObjDir && rec.Meta.Nlinks > 1, err
}

// unwait drops the name that something waits under for the one that it has: it
// got that from the cluster. If that comes first in the order of names, the
// second pass finds the other.
func (r *Run) unwait(ctx context.Context, x, inum uint64) (bool, error) {
	at, _, err := r.oldSpot(ctx, x, inum)
	if err != nil || at == nil || at.name != tempName(inum) {
		return false, err
	}
	done := false
	err = r.under(ctx, []uint64{at.dir, inum}, func(g *fs.Graft) error {
		ok, err := stands(ctx, g, at.dir, at.name, inum)
		if err == nil && ok {
			ok, err = linked(ctx, g, inum)
		}
		if err != nil || !ok {
			return err
		}
		d, _, err := g.Lookup(ctx, at.dir, at.name)
		if err != nil {
			return err
		}
		done = true
		defer r.own(ctx, g, at.dir, inum)()
		r.tell(func(k Kernel) { k.InvalidateEntry(at.dir, at.name); k.InvalidateInode(at.dir) })
		return g.Step(ctx, fs.Cost{Leaves: 12}, func() error {
			if err := g.Unlink(at.dir, d); err != nil {
				return err
			}
			return r.mark(ctx, g, true, 0, nil)
		})
	})
	return done, err
}

// own is called before a change of locked inodes, and what it returns after it:
// their times are no sign then that the cluster changed them, if there was none
// before.
func (r *Run) own(ctx context.Context, g *fs.Graft, inums ...uint64) (after func()) {
	var clean []uint64
	for _, inum := range inums {
		if inum == 0 {
			continue
		}
		now, ok, err := g.Inode(ctx, inum)
		if err != nil || !ok {
			continue
		}
		then, ok, err := r.theirs.Inode(ctx, inum)
		if at := ctime(&now.Meta); err == nil && (at == r.touched[inum] || ok && at == ctime(&then.Meta)) {
			clean = append(clean, inum)
		}
	}
	return func() {
		for _, inum := range clean {
			if rec, ok, err := g.Inode(ctx, inum); err == nil && ok {
				r.touched[inum] = ctime(&rec.Meta)
			}
		}
	}
}

// A spot is a name in a directory of the cluster.
type spot struct {
	dir  uint64
	name string
}

// rename gives an inode that the cluster has a name of the branch: in place of
// one that it had, or beside those it has.
func (r *Run) rename(ctx context.Context, n *name, dir, inum uint64, met meeting) (bool, error) {
	from, moved, err := r.oldSpot(ctx, n.ours.Inum, inum)
	if err != nil {
		return false, err
	}
	rec, ok, err := r.alive(ctx, inum)
	if err != nil || !ok {
		return false, firstOf(err, errAgain)
	}
	isDir := rec.Meta.Type == ondisk.ObjDir
	why := ""
	switch {
	case met.verdict == Beside:
		why = "named so on " + r.id + ", where the cluster has something else"
	case from == nil && (moved || isDir):
		why = "renamed on both sides"
	case isDir:
		if inside, err := r.inside(ctx, dir, inum); err != nil {
			return false, err
		} else if inside {
			why = "moved on both sides, each into the other"
		}
	}
	if why != "" {
		c := r.conflict(n.ours.Inum, dir, n.name, why)
		if from != nil && from.name == tempName(inum) {
			if err := r.settle(ctx, n, inum, from, c); err != nil {
				return false, err
			}
		}
		return r.note(ctx, c)
	}
	if err := r.displace(ctx, dir, &met.there); err != nil {
		return false, err
	}
	if from != nil && from.dir == dir && from.name == n.name {
		return false, errAgain
	}
	return true, r.renameTo(ctx, n, dir, inum, met.there, from)
}

// settle names what waits for a name that it will not get.
func (r *Run) settle(ctx context.Context, n *name, inum uint64, from *spot, c *Conflict) error {
	s, err := r.freeName(ctx, from.dir, n.name)
	if err != nil {
		return err
	}
	c.Inum, c.CopyDir, c.CopyName = inum, from.dir, s
	return r.renameTo(ctx, &name{name: s}, from.dir, inum, ondisk.Dirent{}, from)
}

func (r *Run) renameTo(ctx context.Context, n *name, dir, inum uint64, there ondisk.Dirent, from *spot) error {
	inums := []uint64{dir, inum, there.Inum}
	if from != nil {
		inums = append(inums, from.dir)
		if err := r.f.BeforeMove(ctx, inum, from.dir, dir); err != nil {
			return err
		}
	}
	return r.under(ctx, inums, func(g *fs.Graft) error {
		if ok, err := stands(ctx, g, dir, n.name, there.Inum); err != nil || !ok {
			return firstOf(err, errAgain)
		}
		if from != nil {
			if ok, err := stands(ctx, g, from.dir, from.name, inum); err != nil || !ok {
				return firstOf(err, errAgain)
			}
		}
		defer r.own(ctx, g, inums...)()
		r.tell(func(k Kernel) {
			k.InvalidateEntry(dir, n.name)
			k.InvalidateInode(dir)
			k.InvalidateInode(inum)
			if from != nil {
				k.InvalidateEntry(from.dir, from.name)
				k.InvalidateInode(from.dir)
			}
		})
		return g.Step(ctx, fs.Cost{Leaves: 12}, func() error {
			var err error
			if from != nil {
				err = g.Move(from.dir, from.name, dir, n.name, inum, there)
			} else {
				err = g.Link(dir, n.name, inum, there)
			}
			if err != nil {
				return err
			}
			return r.mark(ctx, g, true, 0, nil)
		})
	})
}

// oldSpot finds a name that the branch took from an inode of base, and that the
// cluster has still. moved: there is none, but the cluster took it away itself.
func (r *Run) oldSpot(ctx context.Context, x, inum uint64) (at *spot, moved bool, err error) {
	for _, n := range r.plan.left[x] {
		dir := r.number(n.dir)
		if _, ok, err := r.alive(ctx, dir); err != nil || !ok {
			moved = moved || err == nil
			if err != nil {
				return nil, false, err
			}
			continue
		}
		for _, s := range []string{n.name, tempName(inum)} {
			there, _, err := r.f.Find(ctx, dir, s)
			if err != nil {
				return nil, false, err
			}
			if there.Inum == inum {
				return &spot{dir, s}, false, nil
			}
		}
		moved = true
	}
	rec, ok, err := r.alive(ctx, inum)
	if err != nil || !ok || !moved || rec.Meta.Nlinks > 1 {
		return nil, moved && rec != nil && rec.Meta.Nlinks < 2, err
	}
	went, err := r.arrived(ctx, x, inum)
	return nil, !went, err
}

// inside reports whether a directory lies in another, or is it.
func (r *Run) inside(ctx context.Context, dir, in uint64) (bool, error) {
	for range deepest {
		if dir == in {
			return true, nil
		}
		if dir == ondisk.InumRoot {
			return false, nil
		}
		up, ok, err := r.f.Current(ctx, dir)
		if err != nil || !ok {
			return false, err
		}
		dir = up.Meta.Iparent
	}
	return false, fmt.Errorf("directory %d does not lie below the root: %w", dir, ondisk.ErrCorrupt)
}
