package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
)

func nodeCommand() *cobra.Command {
	return group("node", "Take nodes away, bring them back, add, remove and replace them",
		nodeVerb("offline", "Stop using a node and close its device: it can be pulled"),
		nodeVerb("online", "Use a node again; it is brought in sync while you work"),
		nodeDiscardCommand(),
		nodeReplaceCommand(),
		nodeGrowCommand(),
		nodeAddCommand(),
		nodeVerb("remove", "Take a node out of the cluster for good; its device is closed"),
		nodeVerb("promote", "Make a slave that is in sync a master, which votes"),
		nodeVerb("demote", "Make a master a slave, which follows and does not vote"),
	)
}

func nodeVerb(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " MNT NODE",
		Short: short,
		Long:  short + ".\n\nNODE is the member as anvilfs status MNT names it, or any path to a device of it.",
		Args:  exactly(2, "a mount point and a node"),
		RunE: func(c *cobra.Command, args []string) error {
			reply, err := tell(c.Context(), args[0], "node", verb, nodeNamed(c.Context(), args[0], args[1]))
			fmt.Fprint(c.OutOrStdout(), reply)
			return err
		},
	}
}

func nodeDiscardCommand() *cobra.Command {
	var force, all bool
	c := &cobra.Command{
		Use:   "discard MNT NODE",
		Short: "Give up what a node holds that the others do not, and copy it anew",
		Long: `The node is one that another system changed, or a soft master that was changed
while it was away: such a branch is given up instead of being merged. What it has
is listed first, by path; if that is anything, --force is needed. It may be here,
half merged (what came stays), or offline with its device at hand.

The node keeps what it had as a snapshot beside the filesystem: anvilfs pfs list
shows it, anvilfs pfs delete frees its space.

NODE is the member as anvilfs status MNT names it, or any path to a device of it.`,
		Args: exactly(2, "a mount point and a node"),
		RunE: func(c *cobra.Command, args []string) error {
			words := []string{"node", "discard", nodeNamed(c.Context(), args[0], args[1])}
			for flag, given := range map[string]bool{"--force": force, "--all": all} {
				if given {
					words = append(words, flag)
				}
			}
			return relay(c, args[0], words...)
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "give up what was changed in a branch")
	c.Flags().BoolVar(&all, "all", false, "list all that was changed, not only the first")
	return c
}

func nodeGrowCommand() *cobra.Command {
	var g growth
	c := &cobra.Command{
		Use:   "grow MNT NODE",
		Short: "Use all of a node's device after it became larger, or one more device",
		Long: `A logical volume was extended, an image file made longer: the node uses all of it.
Of a node of several devices it is the last one that can be grown. A node that was
replaced by a larger device uses all of it already.

--add makes DEVICE a part of the node, which is NODE:DEVICE from then on: name it so
in fstab. anvilfs grow --help says what it needs.

It stays in use: writers wait for a moment. df shows more when the smallest master
has more. A node that is offline is grown by anvilfs grow.

NODE is the member as anvilfs status MNT names it, or any path to a device of it.`,
		Args: exactly(2, "a mount point and a node"),
		RunE: func(c *cobra.Command, args []string) error {
			return growMounted(c, args[0], nodeNamed(c.Context(), args[0], args[1]), g)
		},
	}
	c.Flags().StringVar(&g.add, "add", "", "a device that becomes a part of the node")
	c.Flags().BoolVarP(&g.force, "force", "f", false, "use that device even if it carries a filesystem")
	c.Flags().BoolVar(&g.asJSON, "json", false, "print JSON")
	return c
}

func nodeReplaceCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "replace MNT NODE DEVICE",
		Short: "Put an empty device in the place of a node, lost or not",
		Long: `The device is brought in sync while the filesystem is in use, and then takes the
place of the node, which stays in use until then if it is there. A larger device is
used whole at once. anvilfs wait resync MNT returns when it is done; from then on
name the device, and not the node, in mounts and fstab.

NODE is the member as anvilfs status MNT names it, any path to a device of it, or the
id of a missing one.`,
		Args: exactly(3, "a mount point, a node and a device"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := refuseOwn(c.Context(), args[0], args[2], "replace", force); err != nil {
				return err
			}
			device, err := newDevice(args[2], force)
			if err != nil {
				return err
			}
			words := []string{"node", "replace", nodeNamed(c.Context(), args[0], args[1]), device}
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

func nodeAddCommand() *cobra.Command {
	var force, slave bool
	var role string
	c := &cobra.Command{
		Use:   "add MNT DEVICE",
		Short: "Make one more copy on an empty device",
		Long: `The device becomes a slave and is brought in sync while the filesystem is in
use; then it becomes a master by itself, unless another role is asked for:

  slave       it follows and does not vote
  soft-slave  likewise, and it may be away for long without being missed; alone
              it can be mounted read-only, as of the time when it left
  soft-master likewise, and alone it can be changed: back in the cluster, its
              changes are merged (anvilfs conflicts)
  cache       no copy, but a fast device on which blocks are kept that were read
              from the members; it may be lost at any time. One of this filesystem
              is used with what it holds

Devices of one member are joined with colons.`,
		Args: exactly(2, "a mount point and a device"),
		RunE: func(c *cobra.Command, args []string) error {
			if slave {
				if c.Flags().Changed("role") && role != "slave" {
					return usageError("--slave is short for --role slave: leave it out, or --role %s", role)
				}
				role = "slave"
			}
			r, err := parseRole(role)
			if err != nil {
				return err
			}
			if err := refuseOwn(c.Context(), args[0], args[1], "add", force); err != nil {
				return err
			}
			// Whether a volume is a cache of this filesystem the mount knows.
			device, err := newDevice(args[1], force || r == ondisk.PFSCache)
			if err != nil {
				return err
			}
			words := []string{"node", "add", device}
			words = append(words, "--role", role)
			if force {
				words = append(words, "-f")
			}
			return relay(c, args[0], words...)
		},
	}
	c.Flags().StringVar(&role, "role", "master", "master, slave, soft-slave, soft-master or cache")
	c.Flags().BoolVar(&slave, "slave", false, "short for --role slave")
	c.Flags().BoolVarP(&force, "force", "f", false, "use the device even if it carries a filesystem")
	return c
}

// parseRole reads the role of a member to be added.
func parseRole(word string) (ondisk.PFSType, error) {
	switch word {
	case "master":
		return ondisk.PFSMaster, nil
	case "slave":
		return ondisk.PFSSlave, nil
	case "soft-slave":
		return ondisk.PFSSoftSlave, nil
	case "soft-master":
		return ondisk.PFSSoftMaster, nil
	case "cache":
		return ondisk.PFSCache, nil
	}
	return 0, usageError("%q is no role of a member: master, slave, soft-slave, soft-master or cache", word)
}

// inUse reports whether somebody has a device open as a member.
func inUse(path string) bool {
	d, err := filedev.Open(path, filedev.Options{})
	if err == nil {
		d.Close()
	}
	return errors.Is(err, filedev.ErrInUse)
}

// newDevice names the devices of a new member by their full paths, and refuses
// those that carry something.
func newDevice(text string, force bool) (string, error) {
	m, err := parseMember(text)
	if err != nil {
		return "", err
	}
	for i, p := range m.paths {
		if m.paths[i], err = filepath.Abs(p); err != nil {
			return "", err
		}
		if force {
			continue
		}
		// Of a device in use the mount knows more: -f would not help with it.
		if err := refuseForeign(m.paths[i]); err != nil && !inUse(m.paths[i]) {
			return "", err
		}
	}
	for i := range m.paths {
		m.paths[i] = memberWord(m.paths[i])
	}
	return strings.Join(m.paths, ":"), nil
}
