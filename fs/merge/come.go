package merge

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// come merges a name that leads to something in the branch.
func (r *Run) come(ctx context.Context, n *name) (applied bool, err error) {
	dir, err := r.place(ctx, n.dir)
	if err != nil {
		return false, err
	}
	return r.enter(ctx, n, dir, true)
}

// A meeting is what a name of the branch meets in the cluster.
type meeting struct {
	there   ondisk.Dirent // what the name leads to
	verdict Verdict
}

// enter gives dir of the cluster a name of the branch.
func (r *Run) enter(ctx context.Context, n *name, dir uint64, final bool) (applied bool, err error) {
	inum := r.number(n.ours.Inum)
	if inum == 0 {
		return false, fmt.Errorf("file %d of the branch has no number here: %w", n.ours.Inum, ondisk.ErrCorrupt)
	}
	rec, alive, err := r.alive(ctx, inum)
	if err != nil {
		return false, err
	}
	isNew := n.ours.Inum > r.b.Branch.BaseInum
	if alive && isNew && r.progress.Stamp != 0 && ctime(&rec.Meta) == r.progress.Stamp {
		return true, r.again(ctx, n.ours.Inum, inum)
	}
	if alive && isNew && r.progress.Stamp != 0 {
		return true, r.plantBeside(ctx, n.ours.Inum, dir, n.name, "changed while it was merged")
	}
	met, err := r.meet(ctx, n, dir, inum)
	if err == nil && met.verdict == Nothing && met.there.Inum == inum && !isNew {
		return r.unwait(ctx, n.ours.Inum, inum)
	}
	if err != nil || met.verdict == Nothing {
		return false, err
	}
	switch {
	case alive && met.verdict == Beside && isNew && r.hasBeside(n.ours.Inum, inum):
		return false, nil // an earlier attempt made it
	case alive:
		return r.rename(ctx, n, dir, inum, met)
	case !isNew:
		return r.revive(ctx, n, dir)
	}
	p := planting{x: n.ours.Inum, inum: inum, dir: dir, name: n.name, final: final}
	if met.verdict == Beside {
		p.beside = "made on both sides"
		if n.base.Inum != 0 {
			p.beside = "replaced on " + r.id + ", changed in the cluster"
		}
	} else if err := r.displace(ctx, dir, &met.there); err != nil {
		return false, err
	} else {
		p.replaced = met.there
	}
	return true, r.plant(ctx, p)
}

// hasBeside reports whether inum is in the list of conflicts as the copy of x.
func (r *Run) hasBeside(x, inum uint64) bool {
	for i := range r.conflicts.List {
		if c := &r.conflicts.List[i]; c.Branch == r.b.Clid && c.Ours == x && c.Inum == inum {
			return true
		}
	}
	return false
}

// meet decides about a name.
func (r *Run) meet(ctx context.Context, n *name, dir, inum uint64) (m meeting, err error) {
	if m.there, _, err = r.f.Find(ctx, dir, n.name); err != nil {
		return m, err
	}
	base := n.base.Inum
	if dir != n.dir {
		base = 0 // a directory that is another here: nothing of base is in it
	}
	if m.there.Inum == 0 && base != 0 {
		if went, err := r.went(ctx, base); err != nil {
			return m, err
		} else if went {
			base = 0
		}
	}
	stays := false
	if m.there.Inum == base && base != 0 && base != inum {
		if stays, err = r.stays(ctx, base); err != nil {
			return m, err
		}
	}
	err = r.under(ctx, []uint64{dir, m.there.Inum}, func(g *fs.Graft) error {
		if ok, err := stands(ctx, g, dir, n.name, m.there.Inum); err != nil || !ok {
			return firstOf(err, errAgain)
		}
		loses, alike := false, false
		switch {
		case m.there.Inum == 0 || m.there.Inum == inum:
		case m.there.Inum == base:
			if loses, err = r.loses(ctx, g, base); err != nil {
				return err
			}
			if stays {
				loses = true
				break
			}
			if loses && r.soft && m.there.Type == ondisk.ObjDir {
				return errLater
			}
		default:
			if alike, err = r.alike(ctx, g, n, m.there); err != nil {
				return err
			}
		}
		m.verdict = Name(base, inum, m.there.Inum, loses, alike)
		return nil
	})
	return m, err
}

// went reports whether an inode of base is where the branch has moved it: then
// it left its old name by way of this merge.
func (r *Run) went(ctx context.Context, inum uint64) (bool, error) {
	if there, err := r.arrived(ctx, inum, inum); err != nil || there {
		return there, err
	}
	at, _, err := r.oldSpot(ctx, inum, inum)
	return at != nil && at.name == tempName(inum), err
}

// arrived reports whether an inode has one of the names that the branch gave it.
func (r *Run) arrived(ctx context.Context, x, inum uint64) (bool, error) {
	for _, n := range r.plan.got[x] {
		dir := r.number(n.dir)
		if _, ok, err := r.alive(ctx, dir); err != nil || !ok {
			continue
		}
		there, _, err := r.f.Find(ctx, dir, n.name)
		if err != nil || there.Inum == inum {
			return err == nil, err
		}
	}
	return false, nil
}

// stays reports whether an inode of base, which the branch has elsewhere, will
// not get there: then its name is not free for another.
func (r *Run) stays(ctx context.Context, inum uint64) (bool, error) {
	if _, alive, err := r.ours.Inode(ctx, inum); err != nil || !alive {
		return false, err
	}
	for _, n := range r.plan.got[inum] {
		dir := r.number(n.dir)
		if _, ok, err := r.alive(ctx, dir); err != nil || !ok {
			return false, err // it is to be made first
		}
		there, _, err := r.f.Find(ctx, dir, n.name)
		if err != nil || there.Inum == 0 || there.Inum == inum {
			return false, err
		}
		if there.Inum != n.base.Inum {
			continue
		}
		loses := false
		err = r.under(ctx, []uint64{there.Inum}, func(g *fs.Graft) (err error) {
			loses, err = r.loses(ctx, g, there.Inum)
			return err
		})
		if err != nil || !loses {
			return false, err
		}
	}
	return true, nil
}

// alike reports whether both sides made the same under one name. Directories
// are: what is in them is merged by itself.
func (r *Run) alike(ctx context.Context, g *fs.Graft, n *name, there ondisk.Dirent) (bool, error) {
	if there.Type != n.ours.Type || n.ours.Inum <= r.b.Branch.BaseInum {
		return false, nil
	}
	if there.Type == ondisk.ObjDir {
		return true, nil
	}
	return equalNow(ctx, r.ours, n.ours.Inum, g, there.Inum)
}

// revive is for a name of something that the cluster removed.
func (r *Run) revive(ctx context.Context, n *name, dir uint64) (bool, error) {
	what := "renamed on " + r.id + ", removed in the cluster"
	if n.ours.Type == ondisk.ObjDir {
		return r.note(ctx, r.conflict(n.ours.Inum, dir, n.name, what))
	}
	return true, r.plantBeside(ctx, n.ours.Inum, dir, n.name, what)
}
