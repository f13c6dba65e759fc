package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain"
)

func growCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "grow DEVICE...",
		Short: "Use all of a device that became larger",
		Long: `The device was enlarged - a logical volume extended, an image file made longer -
or what was on it was copied to a larger one. The filesystem on it gets all of it, to
whole 8 MiB. This takes a moment, whatever the size; a power cut leaves the old size
or the new one. Devices are not mounted; anvilfs node grow does it to a member of a
mount. A filesystem over several devices (DEVICE:DEVICE) stays as large as it is.

Nothing is made smaller. Of members of different sizes the smallest master bounds
the filesystem.`,
		Args: atLeast(1, "one device or more"),
		RunE: func(c *cobra.Command, args []string) error {
			for _, word := range args {
				if st, err := os.Stat(word); err == nil && st.IsDir() {
					return usageError("%s is a directory: anvilfs node grow MNT NODE grows a member of a mount", word)
				}
				if err := growDevice(c.Context(), word, asJSON, c.OutOrStdout()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object for each device")
	return c
}

// growDevice grows the volume on a member that is not mounted.
func growDevice(ctx context.Context, word string, asJSON bool, w io.Writer) error {
	return withVolume(ctx, word, chain.Options{Grow: true}, func(v *chain.Volume) error {
		size := v.Header().Size()
		if asJSON {
			return json.NewEncoder(w).Encode(struct {
				Version int    `json:"output_version"`
				Device  string `json:"device"`
				From    uint64 `json:"from_bytes"`
				To      uint64 `json:"to_bytes"`
			}{1, word, size - v.Grown(), size})
		}
		printGrown(w, word, v.Grown(), size)
		return nil
	})
}

func printGrown(w io.Writer, name string, grown, size uint64) {
	if grown == 0 {
		fmt.Fprintf(w, "%s has the size of its device: %s\n", name, human(size))
		return
	}
	fmt.Fprintf(w, "%s has %s now, %s before\n", name, human(size), human(size-grown))
}

// growNode grows a member of the mount.
func (c *controller) growNode(ctx context.Context, name string, w io.Writer) error {
	grown, size, err := c.pool.NodeGrow(ctx, name)
	c.care.retryNow()
	if err != nil {
		return err
	}
	if grown > 0 {
		c.log.Info("a member was grown", "node", name, "from", size-grown, "to", size)
	}
	printGrown(w, name, grown, size)
	return nil
}
