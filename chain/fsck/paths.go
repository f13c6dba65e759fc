package fsck

import (
	"cmp"
	"context"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// maxPath bounds the names of one path.
const maxPath = 128

// paths fills in the paths of the findings about p, which begin at first.
// Each directory involved is read once.
func (c *checker) paths(ctx context.Context, p *pfsState, first int) error {
	c.mu.Lock()
	found := c.rep.Findings[min(first, len(c.rep.Findings)):]
	c.mu.Unlock()
	wanted := map[uint64]map[uint64]string{} // directory -> inode in it -> name
	dirOf := func(inum uint64) (uint64, bool) {
		i, ok := slices.BinarySearchFunc(p.names, inum, func(n nameNote, k uint64) int { return cmp.Compare(n.inum, k) })
		if !ok {
			return 0, false
		}
		return p.names[i].dir, true
	}
	for i := range found {
		if !found[i].resolve {
			continue
		}
		inum := named(found[i].Inum)
		for range maxPath {
			dir, ok := dirOf(inum)
			if !ok {
				break
			}
			if wanted[dir] == nil {
				wanted[dir] = map[uint64]string{}
			}
			wanted[dir][inum] = ""
			inum = dir
		}
	}
	for dir, names := range wanted {
		if err := c.entries(ctx, p, dir, names); err != nil {
			return err
		}
	}
	for i := range found {
		f := &found[i]
		if !f.resolve {
			continue
		}
		path, inum := "", named(f.Inum)
		for range maxPath {
			dir, ok := dirOf(inum)
			if !ok || wanted[dir][inum] == "" {
				break
			}
			path, inum = "/"+wanted[dir][inum]+path, dir
		}
		if path == "" && inum == ondisk.InumRoot {
			path = "/"
		}
		if inum == ondisk.InumRoot {
			f.Path = path
		} else if path != "" {
			f.Path = "..." + path // some directory above cannot be read
		}
	}
	return nil
}

// named is the inode whose name says what inode inum is about.
func named(inum uint64) uint64 { return inum &^ ondisk.AttrBit }

// entries finds the names of some inodes in a directory.
func (c *checker) entries(ctx context.Context, p *pfsState, dir uint64, names map[uint64]string) error {
	refs := p.refs
	if dir != ondisk.InumRoot {
		ref, err := c.set.Find(ctx, p.refs, dir)
		if err != nil {
			return ctx.Err()
		}
		if _, _, refs, err = c.set.Inode(&ref); err != nil && len(refs) == 0 {
			return nil
		}
	}
	left := len(names)
	return c.set.Scan(ctx, refs, ondisk.DirBit, ^uint64(0), func(r *ondisk.Blockref, err error) bool {
		if err != nil || r.Type != ondisk.TypeDirent {
			return true
		}
		inum := noteName(dir, r).inum
		if name, ok := names[inum]; ok && name == "" {
			if d, err := c.set.Dirent(r); err == nil {
				names[inum] = d.Name
				left--
			}
		}
		return left > 0
	})
}
