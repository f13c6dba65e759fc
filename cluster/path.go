package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
)

// PathOfDamage names what was found bad: as PathOf does, and what is in a
// snapshot by the path at which it is shown. It is "inode N" for what is in other
// PFSs.
func (p *Pool) PathOfDamage(ctx context.Context, d *Damage) string {
	inum := d.Inum
	switch {
	case d.Header():
		return fmt.Sprintf("copy of the volume header at %#x", d.Key)
	case inum == 0 && d.Key != 0:
		return "the root of a PFS without a known name"
	case inum == 0:
		return "the super-root"
	}
	if d.Kind == ondisk.TypeInode && inum == ondisk.InumRoot && d.Key > inum {
		inum = d.Key // it is named by what refers to it
	}
	if d.Label == "" || d.Label == p.opts.Label {
		return p.PathOf(ctx, inum)
	}
	unnamed := fmt.Sprintf("inode %d", inum)
	names, err := p.SnapshotNames(ctx)
	i := slices.IndexFunc(names, func(n SnapshotName) bool { return n.Name == d.Label })
	if err != nil || i < 0 {
		return unnamed
	}
	s, err := p.openSnapshot(ctx, names[i], true)
	if err != nil {
		return unnamed
	}
	path := s.PathOf(ctx, inum)
	if err := s.Close(ctx); err != nil || !strings.HasPrefix(path, "/") {
		return unnamed
	}
	return strings.TrimSuffix("/.anvilfs/snapshots/"+d.Label+path, "/")
}

// PathOf names a file by one of its paths, for people; "inode N" if it has
// none, or what leads to it cannot be read. It looks through the directories
// on the way.
func (p *Pool) PathOf(ctx context.Context, inum uint64) string {
	unnamed := fmt.Sprintf("inode %d", inum)
	var names []string
	for at, depth := inum, 0; at != ondisk.InumRoot; depth++ {
		rec, ok, err := p.Inode(ctx, at)
		if err != nil || !ok || depth == 256 {
			return unnamed
		}
		name := ""
		err = p.ReadDir(ctx, rec.Meta.Iparent, 0, func(d ondisk.Dirent) bool {
			if d.Inum == at {
				name = d.Name
			}
			return name == ""
		})
		if err != nil || name == "" {
			return unnamed
		}
		names = append(names, name)
		at = rec.Meta.Iparent
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteString("/" + names[i])
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}
