package merge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Loss is one thing that a branch has, and nobody else: what is given up if
// the branch ends without a merge.
type Loss struct {
	What string `json:"what"` // new, changed, moved, removed
	Path string `json:"path"`
	From string `json:"from,omitempty"` // moved: where it was
}

// Losses lists what a branch changed since it left, by path.
func Losses(ctx context.Context, b *cluster.BranchNode) ([]Loss, error) {
	ours, err := b.Volume.View(ctx, b.Label)
	if err != nil {
		return nil, err
	}
	defer ours.Release()
	base, err := b.Volume.View(ctx, cluster.BaseLabel(b.Branch.Node))
	if err != nil {
		return nil, fmt.Errorf("what the branch was when it left: %w", err)
	}
	defer base.Release()
	law, err := cluster.ReadLineage(ctx, base)
	if err != nil {
		return nil, err
	}
	l := &loss{ctx: ctx, ours: ours, base: base, names: make(map[spotOf]map[uint64]string)}
	l.since = cluster.CommonTid(&b.Lineage, b.At, law, b.Branch.Base)
	if l.plan, err = makePlan(ctx, ours, base, l.since); err != nil {
		return nil, err
	}
	if err := errors.Join(l.changed(), l.come(), l.leave()); err != nil {
		return nil, err
	}
	slices.SortFunc(l.list, func(a, b Loss) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.What, b.What)) })
	return l.list, nil
}

type loss struct {
	ctx        context.Context
	ours, base *chain.View
	since      ondisk.Tid
	plan       *plan
	names      map[spotOf]map[uint64]string
	list       []Loss
}

// A spotOf is a directory in one of the trees.
type spotOf struct {
	v   *chain.View
	dir uint64
}

func (l *loss) changed() error {
	for _, inum := range l.plan.inodes {
		yes, _, err := differs(l.ctx, l.ours, l.base, l.since, inum)
		if err != nil {
			return err
		}
		if _, ok, err := l.ours.Inode(l.ctx, inum); err != nil || !ok || !yes {
			if err != nil {
				return err
			}
			continue
		}
		path, err := l.path(l.ours, inum)
		if err != nil {
			return err
		}
		l.list = append(l.list, Loss{What: "changed", Path: path})
	}
	return nil
}

func (l *loss) come() error {
	for i := range l.plan.come {
		n := &l.plan.come[i]
		at, err := l.child(l.ours, n.dir, n.name)
		if err != nil {
			return err
		}
		one := Loss{What: "new", Path: at}
		if left := l.plan.left[n.ours.Inum]; len(left) > 0 {
			one.What = "moved"
			if one.From, err = l.child(l.base, left[0].dir, left[0].name); err != nil {
				return err
			}
		}
		l.list = append(l.list, one)
	}
	return nil
}

func (l *loss) leave() error {
	for i := range l.plan.leave {
		n := &l.plan.leave[i]
		if len(l.plan.got[n.base.Inum]) > 0 {
			continue // moved
		}
		at, err := l.child(l.base, n.dir, n.name)
		if err != nil {
			return err
		}
		l.list = append(l.list, Loss{What: "removed", Path: at})
	}
	return nil
}

func (l *loss) child(v *chain.View, dir uint64, name string) (string, error) {
	at, err := l.path(v, dir)
	if at == "/" {
		at = ""
	}
	return at + "/" + name, err
}

// path is a path of an inode in a tree, "inode N" if there is none.
func (l *loss) path(v *chain.View, inum uint64) (string, error) {
	at := ""
	for x, depth := inum, 0; x != ondisk.InumRoot; depth++ {
		in, ok, err := v.Inode(l.ctx, x)
		if err != nil {
			return "", err
		}
		names := map[uint64]string(nil)
		if ok {
			if names, err = l.namesIn(v, in.Meta.Iparent); err != nil {
				return "", err
			}
		}
		name, ok := names[x]
		if !ok || depth == deepest {
			return fmt.Sprintf("inode %d", inum), nil
		}
		at, x = "/"+name+at, in.Meta.Iparent
	}
	if at == "" {
		at = "/"
	}
	return at, nil
}

// namesIn are the names in a directory, by what they lead to.
func (l *loss) namesIn(v *chain.View, dir uint64) (map[uint64]string, error) {
	key := spotOf{v, dir}
	if names, ok := l.names[key]; ok {
		return names, nil
	}
	names := make(map[uint64]string)
	err := v.Dirents(l.ctx, dir, ondisk.DirBit, ^uint64(0), func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
		names[d.Inum] = d.Name
		return true
	})
	if err != nil && !errors.Is(err, chain.ErrNoInode) {
		return nil, err
	}
	l.names[key] = names
	return names, nil
}
