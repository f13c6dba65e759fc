package merge

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// number is what the cluster calls an inode of the branch.
func (r *Run) number(x uint64) uint64 {
	if x <= r.b.Branch.BaseInum {
		return x
	}
	return r.progress.mapped(x)
}

// alive reports whether the cluster has an inode, with a name.
func (r *Run) alive(ctx context.Context, inum uint64) (rec *fs.Record, ok bool, err error) {
	if inum == 0 {
		return nil, false, nil
	}
	rec, ok, err = r.f.Current(ctx, inum)
	return rec, ok && rec.Meta.Nlinks > 0, err
}

// place is the directory of the cluster for what the branch has in dir. One
// that it made is made; one that the cluster removed comes back under a name of
// a conflict.
func (r *Run) place(ctx context.Context, dir uint64) (uint64, error) {
	to := r.number(dir)
	if rec, ok, err := r.alive(ctx, to); err != nil || ok && rec.Meta.Type == ondisk.ObjDir {
		return to, err
	}
	if dir <= r.b.Branch.BaseInum {
		return r.home(ctx, dir)
	}
	n := r.plan.origin[dir]
	if n == nil {
		return 0, fmt.Errorf("directory %d of the branch has no name: %w", dir, ondisk.ErrCorrupt)
	}
	up, err := r.place(ctx, n.dir)
	if err != nil {
		return 0, err
	}
	there, ok, err := r.f.Find(ctx, up, n.name)
	if err != nil || ok && there.Type == ondisk.ObjDir && there.Inum != n.base.Inum {
		return there.Inum, err // both made it
	}
	if _, err := r.enter(ctx, n, up, false); err != nil {
		return 0, err
	}
	if _, ok, err := r.alive(ctx, to); err != nil || !ok {
		return 0, firstOf(err, errAgain)
	}
	return to, nil
}

// home is a directory for what lies in one that the cluster removed.
func (r *Run) home(ctx context.Context, dir uint64) (uint64, error) {
	if to, ok, err := r.copyOf(ctx, dir); err != nil || ok {
		return to, err
	}
	up, s, ok, err := nameIn(ctx, r.ours, dir)
	if err != nil {
		return 0, err
	}
	to := uint64(ondisk.InumRoot)
	if ok {
		if to, err = r.place(ctx, up); err != nil {
			return 0, err
		}
	} else {
		s = fmt.Sprintf("#%d", dir)
	}
	what := "changed on " + r.id + ", removed in the cluster"
	inum := r.p.ReserveInums(1)
	return inum, r.plant(ctx, planting{x: dir, inum: inum, dir: to, name: s, beside: what})
}

// copyOf finds the copy that was made of an inode of the branch.
func (r *Run) copyOf(ctx context.Context, x uint64) (inum uint64, ok bool, err error) {
	for i := range r.conflicts.List {
		c := &r.conflicts.List[i]
		if c.Branch != r.b.Clid || c.Ours != x || c.Inum == 0 {
			continue
		}
		if _, ok, err := r.alive(ctx, c.Inum); err != nil || ok {
			return c.Inum, ok, err
		}
	}
	return 0, false, nil
}

// plantBeside stores what the branch has of x beside a name of the cluster.
func (r *Run) plantBeside(ctx context.Context, x, dir uint64, s, what string) error {
	inum, ok, err := r.copyOf(ctx, x)
	if err != nil {
		return err
	}
	if ok {
		rec, _, err := r.f.Current(ctx, inum)
		if err != nil {
			return err
		}
		if r.progress.Stamp != 0 && rec != nil && ctime(&rec.Meta) == r.progress.Stamp {
			return r.again(ctx, x, inum)
		}
		equal := false
		err = r.under(ctx, []uint64{inum}, func(g *fs.Graft) (err error) {
			equal, err = equalNow(ctx, r.ours, x, g, inum)
			return err
		})
		if err != nil || equal {
			return err
		}
	}
	return r.plant(ctx, planting{x: x, inum: r.p.ReserveInums(1), dir: dir, name: s, beside: what, final: true})
}

// A planting makes an inode of the branch one of the cluster.
type planting struct {
	x, inum  uint64
	dir      uint64
	name     string
	replaced ondisk.Dirent // what the name leads to now; none if beside
	beside   string        // not "": under a name of a conflict, for that reason
	final    bool
}

func (r *Run) plant(ctx context.Context, p planting) error {
	s := p.name
	var c *Conflict
	if p.beside != "" {
		var err error
		if s, err = r.freeName(ctx, p.dir, p.name); err != nil {
			return err
		}
		c = r.conflict(p.x, p.dir, p.name, p.beside)
		c.Inum, c.CopyDir, c.CopyName = p.inum, p.dir, s
	}
	return r.under(ctx, []uint64{p.dir, p.inum, p.replaced.Inum}, func(g *fs.Graft) error {
		if ok, err := stands(ctx, g, p.dir, s, p.replaced.Inum); err != nil || !ok {
			return firstOf(err, errAgain)
		}
		f := &filling{r: r, g: g, x: p.x, fresh: true, conflict: c, final: p.final}
		if err := f.read(ctx); err != nil {
			return err
		}
		f.rec = &fs.Record{Meta: newborn(&f.in.Meta, p.inum, p.dir)}
		if f.blocks() {
			if err := f.allKeys(ctx); err != nil {
				return err
			}
		}
		defer r.own(ctx, g, p.dir)()
		f.named = func() error { return g.Link(p.dir, s, p.inum, p.replaced) }
		r.tell(func(k Kernel) { k.InvalidateEntry(p.dir, s); k.InvalidateInode(p.dir) })
		return f.run(ctx)
	})
}

// conflict is one about a name in a directory of the cluster.
func (r *Run) conflict(ours, dir uint64, s, what string) *Conflict {
	return &Conflict{Dir: dir, Name: s, What: what, Node: r.b.Name, Time: r.o.Now(), Branch: r.b.Clid, Ours: ours}
}

// stands reports whether a name in a locked directory still leads to inum.
func stands(ctx context.Context, g *fs.Graft, dir uint64, s string, inum uint64) (bool, error) {
	d, ok, err := g.Inode(ctx, dir)
	if err != nil || !ok || d.Meta.Nlinks == 0 || d.Meta.Type != ondisk.ObjDir {
		return false, err
	}
	there, _, err := g.Lookup(ctx, dir, s)
	return there.Inum == inum, err
}

// newborn is the record of a copy of in, without content or names.
func newborn(in *ondisk.InodeMeta, inum, dir uint64) ondisk.InodeMeta {
	m := ondisk.NewInodeMeta(inum, in.Type)
	m.Iparent = dir
	setSubstance(&m, in)
	m.SetMtime(in.MtimeNs())
	m.SetBtime(in.BtimeNs())
	if in.Atime != 0 {
		m.SetAtime(in.AtimeNs())
	}
	return m
}

// freeName is NAME.conflict-NODE-N, with the lowest N that is free.
func (r *Run) freeName(ctx context.Context, dir uint64, s string) (string, error) {
	for n := 1; ; n++ {
		tail := fmt.Sprintf(".conflict-%s-%d", r.id, n)
		head := s[:min(len(s), ondisk.NameMax-len(tail))]
		if _, taken, err := r.f.Find(ctx, dir, head+tail); err != nil || !taken {
			return head + tail, err
		}
	}
}
