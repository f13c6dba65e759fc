package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain"
)

func pfsCommand() *cobra.Command {
	return group("pfs", "List, create and delete the PFSs of a volume that is not mounted",
		pfsList(), pfsChange("create", "Create an empty PFS, a filesystem of its own", createPFS),
		pfsChange("delete", "Delete a PFS or snapshot and everything only it holds", deletePFS))
}

func pfsList() *cobra.Command {
	var script bool
	c := &cobra.Command{
		Use:   "list DEVICE",
		Short: "List the PFSs of a volume",
		Args:  exactly(1, "a device"),
		RunE: func(c *cobra.Command, args []string) error {
			return withVolume(c.Context(), args[0], chain.Options{ReadOnly: true}, func(v *chain.Volume) error {
				list, err := v.PFSs(c.Context())
				if err != nil {
					return err
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
						p.Label, kind, p.Inodes, human(p.DataBytes), p.T, p.Clid, p.Fsid)
				}
				return tw.Flush()
			})
		},
	}
	c.Flags().BoolVarP(&script, "script", "H", false, "no heading, for scripts")
	return c
}

func pfsChange(verb, short string, do func(ctx context.Context, t *chain.Txn, label string) error) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " DEVICE LABEL",
		Short: short,
		Args:  exactly(2, "a device and a label"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx := c.Context()
			return withVolume(ctx, args[0], chain.Options{}, func(v *chain.Volume) error {
				if err := refuseClustered(ctx, v, args[0], args[1], verb); err != nil {
					return err
				}
				t, err := v.Begin(ctx)
				if err != nil {
					return err
				}
				if err := do(ctx, t, args[1]); err != nil {
					t.Abort()
					return err
				}
				return t.Commit(ctx)
			})
		},
	}
}

func createPFS(ctx context.Context, t *chain.Txn, label string) error {
	return t.CreatePFS(ctx, chain.PFSSpec{Label: label})
}

func deletePFS(ctx context.Context, t *chain.Txn, label string) error {
	return t.DeletePFS(ctx, label)
}

// refuseClustered protects one member of a cluster from being changed behind
// the others' backs.
func refuseClustered(ctx context.Context, v *chain.Volume, device, label, verb string) error {
	list, err := v.PFSs(ctx)
	if err != nil {
		return err
	}
	for _, p := range list {
		if _, member := v.State(p.Fsid); p.Label == label && member {
			return fmt.Errorf("%s of %s is one node of a cluster: to %s it here would part it from the others; "+
				"use newfs -f on the device to give the whole volume up", label, device, verb)
		}
	}
	return nil
}
