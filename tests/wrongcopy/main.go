// Wrongcopy makes one member's copy of a file wrong and intact, as a disk does
// that lost a write: a block has the content of another one, under the right
// check code. No mount may have the volume.
//
//	wrongcopy DEVICE PFS NAME BLOCK OTHER
//
// NAME is a file in the root directory; blocks are 64 KiB and count from 0.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
)

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: wrongcopy DEVICE PFS NAME BLOCK OTHER")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, "wrongcopy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, device, pfs, name, block, other string) error {
	to, err := strconv.ParseUint(block, 0, 32)
	if err != nil {
		return err
	}
	from, err := strconv.ParseUint(other, 0, 32)
	if err != nil {
		return err
	}
	dev, err := filedev.Open(device, filedev.Options{})
	if err != nil {
		return err
	}
	vol, err := chain.Open(ctx, []ondisk.Device{dev}, chain.Options{})
	if err != nil {
		return err
	}
	if err := exchange(ctx, vol, pfs, name, to*ondisk.MaxBlock, from*ondisk.MaxBlock); err != nil {
		return err
	}
	return vol.Close()
}

// exchange gives the block at to the content of that at from.
func exchange(ctx context.Context, vol *chain.Volume, pfs, name string, to, from uint64) error {
	txn, err := vol.Begin(ctx)
	if err != nil {
		return err
	}
	view, err := txn.View(ctx, pfs)
	if err != nil {
		return err
	}
	defer view.Release()
	entry, ok, err := view.Lookup(ctx, ondisk.InumRoot, name)
	if err != nil || !ok {
		return fmt.Errorf("%s: not there (%v)", name, err)
	}
	var c [2]chain.Change
	for i, key := range []uint64{to, from} {
		if c[i], ok, err = (cluster.Leaf{Inum: entry.Inum, Key: key, Kind: ondisk.TypeData}).Fetch(ctx, view); err != nil || !ok {
			return fmt.Errorf("%s: no block at %#x (%v)", name, key, err)
		}
	}
	c[0].Block = c[1].Block
	if err := txn.Apply(ctx, pfs, &chain.Batch{T: view.T(), Changes: c[:1]}); err != nil {
		return err
	}
	return txn.Commit(ctx)
}
