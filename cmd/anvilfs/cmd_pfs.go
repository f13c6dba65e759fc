package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cmd/advice"
)

func pfsCommand() *cobra.Command {
	return group("pfs", "List, create and delete the PFSs of a volume that is not mounted",
		pfsList(), pfsCreate(), pfsDelete())
}

func pfsList() *cobra.Command {
	var script bool
	c := &cobra.Command{
		Use:   "list DEVICE",
		Short: "List the PFSs of a volume",
		Args:  exactly(1, "a device"),
		RunE: func(c *cobra.Command, args []string) error {
			return withVolume(c.Context(), args[0], chain.Options{ReadOnly: true}, func(v *chain.Volume) error {
				list, damage := v.PFSs(c.Context())
				if damage != nil && len(list) == 0 {
					return damage
				}
				tw := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
				if !script {
					fmt.Fprintln(tw, "LABEL\tTYPE\tINODES\tDATA\tTID\tCLUSTER\tNODE")
				}
				for _, p := range list {
					kind := p.Type.String()
					if p.Subtype != 0 {
						kind = "snapshot"
					}
					fmt.Fprintf(tw, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n",
						advice.Printable(p.Label), kind, p.Inodes, human(p.DataBytes), p.T, p.Clid, p.Fsid)
				}
				if damage != nil {
					keys, _ := v.UnreadableRoots(c.Context()) // damage says why there may be none
					damage = rootsLost(args[0], keys, damage)
				}
				return errors.Join(tw.Flush(), damage)
			})
		},
	}
	c.Flags().BoolVarP(&script, "script", "H", false, "no heading, for scripts")
	return c
}

func pfsCreate() *cobra.Command {
	return &cobra.Command{
		Use:   "create DEVICE LABEL",
		Short: "Create an empty PFS, a filesystem of its own",
		Args:  exactly(2, "a device and a label"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := refuseOwnLabel(args[1]); err != nil {
				return err
			}
			ctx := c.Context()
			return withVolume(ctx, args[0], chain.Options{}, func(v *chain.Volume) error {
				t, err := v.Begin(ctx)
				if err != nil {
					return err
				}
				if err := t.CreatePFS(ctx, chain.PFSSpec{Label: args[1]}); err != nil {
					t.Abort()
					return err
				}
				return t.Commit(ctx)
			})
		},
	}
}
