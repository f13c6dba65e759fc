package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func waitCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "wait resync|quorum|healthy|snapshots|scrub [MNT...]",
		Short: "Wait until the nodes are where you want them, or a scrub has ended",
		Long: `resync     every node that can be written is in sync, and has the role it came for
quorum     a majority of the masters answers
healthy    every node of the configuration is there and in sync
snapshots  every node that is in sync has all snapshots
scrub      no scrub runs; it fails if the last one was ended, failed, left something bad
           or a node out

Without MNT it waits for every anvilfs mount of this system.`,
		Args: atLeast(1, "resync, quorum, healthy, snapshots or scrub, and mount points"),
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(waits, args[0]) {
				return usageError("wait for what: %s", strings.Join(waits, ", "))
			}
			dirs, err := mountsOr(args[1:])
			if err != nil {
				return err
			}
			if timeout < 0 {
				return usageError("--timeout takes %s, not %q", flagTakes["duration"], timeout)
			}
			began, left := time.Now(), timeout
			for _, dir := range dirs {
				if _, err := tell(c.Context(), dir, "wait", args[0], left.String()); err != nil {
					return err
				}
				left = max(timeout-time.Since(began), 0)
			}
			return nil
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "give up after this long")
	return c
}
