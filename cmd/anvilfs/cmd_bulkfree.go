package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain"
)

func bulkfreeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "bulkfree DEVICE|MNT",
		Short: "Find space that nothing refers to any more, and free it",
		Long: `Most space is freed at once. What snapshots or other systems had held is found
by walking the tree, which a mount does by itself when space runs low; this
command does it now, on a mount or on a volume that is not mounted.`,
		Args: exactly(1, "a device or a mount point"),
		RunE: func(c *cobra.Command, args []string) error {
			if st, err := os.Stat(args[0]); err == nil && st.IsDir() {
				reply, err := tell(c.Context(), args[0], "bulkfree")
				fmt.Fprint(c.OutOrStdout(), reply)
				return err
			}
			return withVolume(c.Context(), args[0], chain.Options{}, func(v *chain.Volume) error {
				r, err := v.Bulkfree(c.Context(), chain.BulkfreeOptions{})
				if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "%s freed, %s free now\n", human(r.Freed), human(v.Space().Free))
				return nil
			})
		},
	}
}

// bulkfree does it on all nodes of a mount.
func (c *controller) bulkfree(ctx context.Context, w io.Writer) error {
	before := c.pool.StatFS()
	var held []string
	if s := c.mount.Load(); s != nil {
		held = s.ForgetSnapshots(ctx)
	}
	if err := c.pool.Bulkfree(ctx); err != nil {
		return err
	}
	after := c.pool.StatFS()
	freed := uint64(0)
	if after.Free > before.Free {
		freed = after.Free - before.Free
	}
	fmt.Fprintf(w, "%s freed, %s free now\n", human(freed), human(after.Free))
	return sayHeld(held, held, w)
}
