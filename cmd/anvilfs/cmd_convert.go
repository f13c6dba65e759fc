package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk"
)

func convertCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "convert DEVICE[@LABEL]",
		Short: "Make a filesystem of one copy a cluster, which other copies can join",
		Long: `A filesystem of one device, made by anvilfs newfs or by another HAMMER2, has no place
for other copies: other systems can write it, and need not know of a cluster. Convert
makes it a cluster of one master, in place: files, snapshots, inode numbers and quotas
stay as they are. Mounted again as before, it takes more copies while it is in use:

    anvilfs umount /mnt
    anvilfs convert /dev/sdb
    anvilfs mount /dev/sdb@HOME /mnt
    anvilfs node add /mnt /dev/sdc
    anvilfs wait resync /mnt

This takes moments, whatever the size, and a power cut leaves the filesystem as it was
or as it is to be. Other systems can still read it. What they write afterwards is taken
for a change of that copy alone, and only counts if an operator says so. There is no
way back but a copy of the files to a new filesystem.`,
		Args: exactly(1, "a device that is not mounted"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := parseSource(args[0])
			switch {
			case err != nil:
				return err
			case len(s.members) != 1:
				return usageError("%s: convert makes a cluster of one copy, and %d are named", args[0], len(s.members))
			}
			ctx := c.Context()
			v, err := openVolume(ctx, s.members[0], chain.Options{Writer: ondisk.NewUUID()})
			if err != nil {
				return err
			}
			info, err := cluster.Convert(ctx, v, s.label)
			if cerr := v.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return explain(err)
			}
			s.label = info.Label
			_, err = fmt.Fprintf(advice.Lines(c.OutOrStdout()), "%s is a cluster of one master now; to add a copy:\n  anvilfs mount %s MNT\n  anvilfs node add MNT DEVICE\n",
				s.full(), advice.Quote(s.full()))
			return err
		},
	}
}
