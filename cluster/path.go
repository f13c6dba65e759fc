package cluster

import (
	"context"
	"fmt"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
)

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
