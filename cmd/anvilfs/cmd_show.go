package main

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain/show"
	"github.com/anvilfs/anvilfs/ondisk"
)

func showCommand() *cobra.Command {
	return group("show", "Show what is on a volume, damaged ones too",
		showVolume(), showPFSs(), showFreemap(), showChain(), showInode())
}

// showing opens the devices of a volume for reading and runs fn.
func showing(c *cobra.Command, word string, fn func(context.Context, io.Writer, []ondisk.Device) error) error {
	err := withDevices(c.Context(), word, func(devs []ondisk.Device) error {
		return fn(c.Context(), c.OutOrStdout(), devs)
	})
	if errors.Is(err, ondisk.ErrNotHammer2) {
		return explain(err) // damage is what it shows
	}
	return err
}

func showVolume() *cobra.Command {
	return &cobra.Command{
		Use:   "volume DEVICE",
		Short: "The volume headers, field by field",
		Args:  exactly(1, "a device"),
		RunE: func(c *cobra.Command, args []string) error {
			return showing(c, args[0], show.Volume)
		},
	}
}

func showPFSs() *cobra.Command {
	return &cobra.Command{
		Use:   "pfs DEVICE",
		Short: "The PFS roots and their cluster state",
		Args:  exactly(1, "a device"),
		RunE: func(c *cobra.Command, args []string) error {
			return showing(c, args[0], show.PFSs)
		},
	}
}

func showFreemap() *cobra.Command {
	var o show.FreemapOptions
	c := &cobra.Command{
		Use:   "freemap DEVICE",
		Short: "What is free, by zone and segment",
		Args:  exactly(1, "a device"),
		RunE: func(c *cobra.Command, args []string) error {
			return showing(c, args[0], func(ctx context.Context, w io.Writer, devs []ondisk.Device) error {
				return show.Freemap(ctx, w, devs, o)
			})
		},
	}
	c.Flags().IntVar(&o.Zone, "zone", show.AllZones, "only this zone of 1 GiB")
	c.Flags().BoolVar(&o.Segments, "segments", false, "also each segment that is in use")
	return c
}

func showChain() *cobra.Command {
	var depth int
	c := &cobra.Command{
		Use:   "chain DEVICE [LABEL | 0xADDRESS]",
		Short: "The tree of blockrefs, of one PFS, or what refers to an address",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return showing(c, args[0], func(ctx context.Context, w io.Writer, devs []ondisk.Device) error {
				if len(args) < 2 {
					return show.Chain(ctx, w, devs, "", depth)
				}
				if hex, ok := strings.CutPrefix(args[1], "0x"); ok {
					addr, err := strconv.ParseUint(hex, 16, 64)
					if err != nil {
						return usageError("%q is not an address", args[1])
					}
					return show.Find(ctx, w, devs, addr)
				}
				return show.Chain(ctx, w, devs, args[1], depth)
			})
		},
	}
	wholeVar(c.Flags(), &depth, "depth", "", "show so many levels (0 = all)")
	return c
}

func showInode() *cobra.Command {
	return &cobra.Command{
		Use:   "inode DEVICE LABEL NUMBER|PATH",
		Short: "One inode, field by field, and what is below it",
		Args:  exactly(3, "a device, a label, and an inode number or a path"),
		RunE: func(c *cobra.Command, args []string) error {
			return showing(c, args[0], func(ctx context.Context, w io.Writer, devs []ondisk.Device) error {
				return show.Inode(ctx, w, devs, args[1], args[2])
			})
		},
	}
}
