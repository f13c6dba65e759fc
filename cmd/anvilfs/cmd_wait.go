package main

import (
	"time"

	"github.com/spf13/cobra"
)

func waitCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "wait resync|quorum|healthy|snapshots MNT",
		Short: "Wait until the nodes are where you want them",
		Long: `resync     every node that can be written is in sync
quorum     a majority of the masters answers
healthy    every node of the configuration is there and in sync
snapshots  every node that is in sync has all snapshots`,
		Args: exactly(2, "resync, quorum, healthy or snapshots, and a mount point"),
		RunE: func(c *cobra.Command, args []string) error {
			_, err := tell(c.Context(), args[1], "wait", args[0], timeout.String())
			return err
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "give up after this long")
	return c
}
