// Foreign changes one member behind the others' backs, as another system does
// that mounts it alone: the PFS moves on, its cluster state does not.
//
//	foreign DEVICE LABEL           gives the root directory other permissions
//	foreign DEVICE LABEL names     leaves names and inodes that do not fit
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
)

func main() {
	edit := mode
	switch {
	case len(os.Args) == 4 && os.Args[3] == "names":
		edit = names
	case len(os.Args) != 3:
		fmt.Fprintln(os.Stderr, "usage: foreign DEVICE LABEL [names]")
		os.Exit(2)
	}
	if err := change(context.Background(), os.Args[1], os.Args[2], edit); err != nil {
		fmt.Fprintln(os.Stderr, "foreign:", err)
		os.Exit(1)
	}
}

// mode gives the root directory other permissions.
func mode(root *ondisk.InodeMeta) []chain.Change {
	root.Mode = 0o700
	return []chain.Change{{Inum: ondisk.InumRoot, Kind: chain.KindInode, Inode: root}}
}

// names enters a name without an inode, and an inode without a name.
func names(*ondisk.InodeMeta) []chain.Change {
	const gone, lost = 1 << 40, 1<<40 + 1
	key := ondisk.NameHash("nothing")
	file := ondisk.NewInodeMeta(lost, ondisk.ObjFile)
	file.Mode, file.Nlinks, file.Iparent, file.Size = 0o644, 3, ondisk.InumRoot, 5
	file.OpFlags = ondisk.OpDirectData
	return []chain.Change{
		{Inum: ondisk.InumRoot, Kind: chain.KindDirent, Key: key, Dirent: ondisk.Dirent{Key: key, Inum: gone, Type: ondisk.ObjFile, Name: "nothing"}},
		{Inum: lost, Kind: chain.KindInode, Inode: &file, Inline: []byte("lost\n")},
	}
}

// change commits what edit makes of the root directory.
func change(ctx context.Context, device, label string, edit func(root *ondisk.InodeMeta) []chain.Change) (err error) {
	dev, err := filedev.Open(device, filedev.Options{})
	if err != nil {
		return err
	}
	v, err := chain.Open(ctx, []ondisk.Device{dev}, chain.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	view, err := v.View(ctx, label)
	if err != nil {
		return err
	}
	defer view.Release()
	root, ok, err := view.Inode(ctx, ondisk.InumRoot)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s: %s has no root directory", device, label)
	}
	t, err := v.Begin(ctx)
	if err != nil {
		return err
	}
	defer t.Abort()
	b := &chain.Batch{T: view.T() + 1, Changes: edit(&root.Meta)}
	b.Sort()
	if err := t.Apply(ctx, label, b); err != nil {
		return err
	}
	return t.Commit(ctx)
}
