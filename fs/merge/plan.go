package merge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A name is a name in a directory, as the branch numbers it, that leads
// elsewhere than in base.
type name struct {
	dir        uint64
	name       string
	base, ours ondisk.Dirent // Inum 0: it leads nowhere
}

// A plan is what the branch changed, in the order in which it is merged. It is
// a function of two trees that do not change.
type plan struct {
	inodes []uint64 // of base, with other content or attributes
	come   []name   // names that lead to something
	leave  []name   // names that are gone; those below a directory come before its own

	origin map[uint64]*name   // of what is new: a name that leads to it
	left   map[uint64][]*name // of inodes of base: names that they had
	got    map[uint64][]*name // of any: names that they got
}

// A pass goes over one kind of items. In a soft one, what depends on others is
// left for a later pass: a directory can only go when it is empty, which it may
// be once all else has left it, and only then can another take its name.
type pass struct {
	n    int
	kind kind
	soft bool
}

type kind uint8

const (
	ofInodes kind = iota
	ofCome
	ofLeave
)

func (p *plan) passes() []pass {
	return []pass{{len(p.inodes), ofInodes, false}, {len(p.leave), ofLeave, true}, {len(p.come), ofCome, true},
		{len(p.leave), ofLeave, true}, {len(p.come), ofCome, false}, {len(p.leave), ofLeave, false}}
}

func (p *plan) len() (n int) {
	for _, q := range p.passes() {
		n += q.n
	}
	return n
}

// makePlan compares the trees. common is what both surely share.
func makePlan(ctx context.Context, ours, base *chain.View, common ondisk.Tid) (*plan, error) {
	changed := make(map[uint64]bool)
	keys := make(map[uint64]map[uint64]bool) // of directories
	note := func(dir, key uint64) {
		if keys[dir] == nil {
			keys[dir] = make(map[uint64]bool)
		}
		keys[dir][key] = true
	}
	var gone []uint64
	_, _, _, err := chain.Diff(ctx, ours, base, common, chain.Cursor{}, chain.DiffLimits{Bare: true}, func(c chain.Change) error {
		switch inum := c.Inum &^ ondisk.AttrBit; {
		case inum != ondisk.InumRoot && inum < ondisk.InumFirst:
		case c.Kind == chain.KindDirent:
			note(c.Inum, c.Key)
		case c.Kind == chain.KindInode && c.Delete && inum == c.Inum:
			gone = append(gone, inum)
		default:
			changed[inum] = true
		}
		return nil
	}, func(chain.Touch) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("comparing the branch with what it was: %w", err)
	}
	for _, dir := range gone {
		err := base.Dirents(ctx, dir, ondisk.DirBit, ^uint64(0), func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
			note(dir, d.Key)
			return true
		})
		if err != nil && !errors.Is(err, chain.ErrNoInode) {
			return nil, err
		}
	}
	p := &plan{origin: make(map[uint64]*name), left: make(map[uint64][]*name), got: make(map[uint64][]*name)}
	if err := p.names(ctx, ours, base, keys); err != nil {
		return nil, err
	}
	for _, inum := range slices.Sorted(maps.Keys(changed)) {
		_, inBase, err := base.Inode(ctx, inum)
		if err != nil {
			return nil, err
		}
		if inBase {
			p.inodes = append(p.inodes, inum)
		}
	}
	return p, p.sortLeave(ctx, base)
}

// names finds what the names behind changed keys lead to.
func (p *plan) names(ctx context.Context, ours, base *chain.View, keys map[uint64]map[uint64]bool) error {
	for _, dir := range slices.Sorted(maps.Keys(keys)) {
		seen := make(map[string]bool)
		for _, key := range slices.Sorted(maps.Keys(keys[dir])) {
			for _, v := range []*chain.View{base, ours} {
				err := v.Dirents(ctx, dir, key, key, func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
					seen[d.Name] = true
					return true
				})
				if err != nil && !errors.Is(err, chain.ErrNoInode) {
					return err
				}
			}
		}
		for _, s := range slices.Sorted(maps.Keys(seen)) {
			n := name{dir: dir, name: s}
			var err error
			if n.base, err = lookup(ctx, base, dir, s); err != nil {
				return err
			}
			if n.ours, err = lookup(ctx, ours, dir, s); err != nil {
				return err
			}
			switch {
			case n.base.Inum == n.ours.Inum:
			case n.ours.Inum == 0:
				p.leave = append(p.leave, n)
			default:
				p.come = append(p.come, n)
			}
		}
	}
	return nil
}

// lookup finds a name in a tree in which the directory need not be.
func lookup(ctx context.Context, v *chain.View, dir uint64, s string) (ondisk.Dirent, error) {
	d, ok, err := v.Lookup(ctx, dir, s)
	if errors.Is(err, chain.ErrNoInode) || err == nil && !ok {
		return ondisk.Dirent{}, nil
	}
	return d, err
}

func (p *plan) index() {
	for i := range p.come {
		n := &p.come[i]
		if p.origin[n.ours.Inum] == nil {
			p.origin[n.ours.Inum] = n
		}
		p.got[n.ours.Inum] = append(p.got[n.ours.Inum], n)
		if n.base.Inum != 0 {
			p.left[n.base.Inum] = append(p.left[n.base.Inum], n)
		}
	}
	for i := range p.leave {
		n := &p.leave[i]
		p.left[n.base.Inum] = append(p.left[n.base.Inum], n)
	}
}

// deepest ends walks up damaged trees.
const deepest = 1 << 12

// sortLeave puts what lies deeper first, so that directories are empty when
// their turn comes.
func (p *plan) sortLeave(ctx context.Context, base *chain.View) error {
	known := map[uint64]int{ondisk.InumRoot: 0}
	depth := func(dir uint64) (int, error) {
		var way []uint64
		for range deepest {
			if d, ok := known[dir]; ok {
				for i := range slices.Backward(way) {
					d++
					known[way[i]] = d
				}
				return d, nil
			}
			way = append(way, dir)
			in, ok, err := base.Inode(ctx, dir)
			if err != nil {
				return 0, err
			}
			if !ok {
				break
			}
			dir = in.Meta.Iparent
		}
		return 0, fmt.Errorf("directory %d does not lie below the root: %w", dir, ondisk.ErrCorrupt)
	}
	deep := make([]int, len(p.leave))
	order := make([]int, len(p.leave))
	for i := range p.leave {
		d, err := depth(p.leave[i].dir)
		if err != nil {
			return err
		}
		deep[i], order[i] = d, i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(deep[b], deep[a]) })
	sorted := make([]name, len(p.leave))
	for to, from := range order {
		sorted[to] = p.leave[from]
	}
	p.leave = sorted
	p.index()
	return nil
}
