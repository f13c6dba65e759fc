// Foreign changes one member behind the others' backs, as another system does
// that mounts it alone: the PFS moves on, its cluster state does not.
//
//	foreign DEVICE LABEL           gives the root directory other permissions
//	foreign DEVICE LABEL names     leaves names and inodes that do not fit
//	foreign DEVICE LABEL file DIR  makes a file of 5 bytes in a directory of the
//	                               root, on a volume that is no part of a cluster
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
	edit, dir := mode, ""
	switch {
	case len(os.Args) == 4 && os.Args[3] == "names":
		edit = names
	case len(os.Args) == 5 && os.Args[3] == "file":
		edit, dir = nil, os.Args[4]
	case len(os.Args) != 3:
		fmt.Fprintln(os.Stderr, "usage: foreign DEVICE LABEL [names | file DIR]")
		os.Exit(2)
	}
	ctx := context.Background()
	err := change(ctx, os.Args[1], os.Args[2], func(v *chain.View, root *ondisk.InodeMeta) ([]chain.Change, error) {
		if edit == nil {
			return file(ctx, v, dir)
		}
		return edit(root), nil
	})
	if err == nil && edit == nil {
		err = disown(os.Args[1])
	}
	if err != nil {
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

// file makes a file in a directory of the root, charged to nobody.
func file(ctx context.Context, v *chain.View, dir string) ([]chain.Change, error) {
	const inum = 1 << 40
	in, ok, err := v.Lookup(ctx, ondisk.InumRoot, dir)
	if err != nil || !ok {
		return nil, errors.Join(err, fmt.Errorf("no directory %s", dir))
	}
	meta := ondisk.NewInodeMeta(inum, ondisk.ObjFile)
	meta.Mode, meta.Nlinks, meta.Iparent, meta.Size = 0o644, 1, in.Inum, 5
	meta.OpFlags = ondisk.OpDirectData
	key := ondisk.NameHash("theirs")
	return []chain.Change{
		{Inum: in.Inum, Kind: chain.KindDirent, Key: key, Dirent: ondisk.Dirent{Key: key, Inum: inum, Type: ondisk.ObjFile, Name: "theirs"}},
		{Inum: inum, Kind: chain.KindInode, Inode: &meta, Inline: []byte("12345")},
	}, nil
}

// disown makes headers that others have written: they keep our mark, and know
// nothing of it.
func disown(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	block := make([]byte, ondisk.HeaderSize)
	for _, off := range ondisk.SlotOffsets(uint64(st.Size())) {
		if _, err := f.ReadAt(block, off); err != nil {
			return err
		}
		hdr, err := ondisk.DecodeVolumeHeader(block)
		if err != nil {
			continue // a slot that was not written yet
		}
		hdr.Mark.MirrorTid--
		hdr.Encode(block)
		if _, err := f.WriteAt(block, off); err != nil {
			return err
		}
	}
	return f.Sync()
}

// change commits what edit makes of the root directory.
func change(ctx context.Context, device, label string, edit func(v *chain.View, root *ondisk.InodeMeta) ([]chain.Change, error)) (err error) {
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
	changes, err := edit(view, &root.Meta)
	if err != nil {
		return err
	}
	t, err := v.Begin(ctx)
	if err != nil {
		return err
	}
	defer t.Abort()
	b := &chain.Batch{T: view.T() + 1, Changes: changes}
	b.Sort()
	if err := t.Apply(ctx, label, b); err != nil {
		return err
	}
	return t.Commit(ctx)
}
