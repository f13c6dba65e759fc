package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
)

func nodeCommand() *cobra.Command {
	return group("node", "Take nodes away, bring them back, replace them",
		nodeVerb("offline", "Stop using a node and close its device: it can be pulled"),
		nodeVerb("online", "Use a node again; it is brought in sync while you work"),
		nodeVerb("discard", "Give up what a node holds that the others do not, and copy it anew"),
		nodeReplaceCommand(),
	)
}

func nodeVerb(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " MNT NODE",
		Short: short,
		Long:  short + ".\n\nNODE is the member as given to mount; anvilfs status MNT lists them.",
		Args:  exactly(2, "a mount point and a node"),
		RunE: func(c *cobra.Command, args []string) error {
			reply, err := tell(c.Context(), args[0], "node", verb, args[1])
			fmt.Fprint(c.OutOrStdout(), reply)
			return err
		},
	}
}

func nodeReplaceCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "replace MNT NODE DEVICE",
		Short: "Put an empty device in the place of a node that is lost",
		Args:  exactly(3, "a mount point, a node and a device"),
		RunE: func(c *cobra.Command, args []string) error {
			device, err := filepath.Abs(args[2])
			if err != nil {
				return err
			}
			if !force {
				if err := refuseForeign(device); err != nil {
					return err
				}
			}
			words := []string{"node", "replace", args[1], device}
			if force {
				words = append(words, "-f")
			}
			reply, err := tell(c.Context(), args[0], words...)
			fmt.Fprint(c.OutOrStdout(), reply)
			return err
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "use the device even if it carries a filesystem")
	return c
}
