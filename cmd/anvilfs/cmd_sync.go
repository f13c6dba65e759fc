package main

import "github.com/spf13/cobra"

func syncCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sync MNT",
		Short: "Make everything written so far durable on a majority of the masters",
		Long: `Sync returns when everything written before is durable on a majority of the
masters. sync(1) alone does not reach a FUSE filesystem; what it leaves in
memory is written by the commit timer (mount option commit=, 5 s).`,
		Args: exactly(1, "a mount point"),
		RunE: func(c *cobra.Command, args []string) error {
			_, err := tell(c.Context(), args[0], "sync")
			return err
		},
	}
}
