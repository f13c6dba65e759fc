// Foreign changes one member behind the others' backs, as another system does
// that mounts it alone: the PFS moves on, its cluster state does not.
//
//	foreign DEVICE LABEL
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
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: foreign DEVICE LABEL")
		os.Exit(2)
	}
	if err := change(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "foreign:", err)
		os.Exit(1)
	}
}

// change gives the root directory other permissions.
func change(ctx context.Context, device, label string) (err error) {
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
	root.Meta.Mode = 0o700
	t, err := v.Begin(ctx)
	if err != nil {
		return err
	}
	defer t.Abort()
	b := &chain.Batch{T: view.T() + 1, Changes: []chain.Change{{Inum: ondisk.InumRoot, Kind: chain.KindInode, Inode: &root.Meta}}}
	if err := t.Apply(ctx, label, b); err != nil {
		return err
	}
	return t.Commit(ctx)
}
