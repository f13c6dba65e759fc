package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk"
)

func pfsDelete() *cobra.Command {
	var force, damaged bool
	c := &cobra.Command{
		Use:   "delete DEVICE[,DEVICE...] LABEL",
		Short: "Delete a PFS or snapshot and everything only it holds",
		Long: `Delete a PFS or snapshot and everything only it holds.

A filesystem that is on several members, such as a clone, is deleted on all of them:
all have to be named, and none may be mounted. If that is cut off, the same command
deletes the rest. One that has snapshots is not deleted: delete those first. Nor is a
snapshot that a filesystem lists: anvilfs snapshot delete, on a mount of that, does it.

With --damaged it deletes a PFS whose root cannot be read, so that nothing leads to
what is in it: copy out what anvilfs recover finds before. The key in the error about
the root (16 digits) can stand for the label. As long as such a root is there, bulkfree
finds no space on the volume.`,
		Args: exactly(2, "a device and a label"),
		RunE: func(c *cobra.Command, args []string) error {
			if damaged && force {
				return usageError("--damaged deletes on the devices that are named, whatever there is elsewhere: leave -f out")
			}
			if damaged {
				return deleteDamaged(c.Context(), c.OutOrStdout(), args[0], args[1])
			}
			return deletePFS(c.Context(), args[0], args[1], force)
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "also if members are not named, which are gone for good")
	c.Flags().BoolVar(&damaged, "damaged", false, "delete one whose root cannot be read")
	return c
}

// A copyOf is a PFS on one of the volumes that were named.
type copyOf struct {
	vol  *chain.Volume
	info *chain.PFSInfo // nil: it has none of that label
	all  []chain.PFSInfo
}

// volumesOf opens the volumes that words name. The caller calls end with its error.
func volumesOf(ctx context.Context, words string) (vols []*chain.Volume, end func(*error), err error) {
	s, err := parseSource(words)
	if err != nil {
		return nil, nil, err
	}
	if s.label != "" {
		return nil, nil, usageError("%s: name the devices without a label: it stands behind them", words)
	}
	end = func(err *error) {
		for _, v := range vols {
			*err = errors.Join(*err, v.Close())
		}
	}
	for _, m := range s.nodes() {
		v, err := openVolume(ctx, m, chain.Options{})
		if err != nil {
			end(&err)
			return nil, nil, err
		}
		vols = append(vols, v)
	}
	return vols, end, nil
}

// deletePFS opens all volumes before it changes one. Roots of other PFSs that cannot be
// read are no reason to keep one that can.
func deletePFS(ctx context.Context, words, label string, force bool) (err error) {
	vols, end, err := volumesOf(ctx, words)
	if err != nil {
		return err
	}
	defer end(&err)
	var list []copyOf
	for _, v := range vols {
		c := copyOf{vol: v}
		var damage error
		c.all, damage = v.PFSs(ctx)
		if i := slices.IndexFunc(c.all, func(p chain.PFSInfo) bool { return p.Label == label }); i >= 0 {
			c.info = &c.all[i]
		} else if damage != nil {
			if l, err := v.Lost(ctx, label); err != nil || len(l.Keys) > 0 {
				return rootsLost(words, l.Keys, damage)
			} // what is lost has other names
		}
		list = append(list, c)
	}
	if err := mayDelete(ctx, list, words, label, force); err != nil {
		return err
	}
	for i := range list {
		if err := list[i].drop(ctx, label); err != nil {
			return err
		}
	}
	return nil
}

// mayDelete refuses what would part members of a filesystem, or lose what its
// snapshots are listed in.
func mayDelete(ctx context.Context, list []copyOf, words, label string, force bool) error {
	var first *chain.PFSInfo
	for i := range list {
		c := &list[i]
		switch {
		case c.info == nil:
			continue
		case first == nil:
			first = c.info
		case first.Clid != c.info.Clid:
			return fmt.Errorf("%s of %s is not the one of the others: delete it there by itself", label, c.vol.Name())
		}
		if c.info.Subtype != ondisk.PFSSubNone {
			if of := c.listedBy(ctx); of != "" {
				return fmt.Errorf("%s is a snapshot of %s, which would miss it: mount that, and anvilfs snapshot delete MNT %s", label, of, advice.Quote(label))
			}
			continue
		}
		members, snapshots, err := c.look(ctx)
		if err != nil {
			return err
		}
		if snapshots > 0 {
			return fmt.Errorf("%s has snapshots (%d): mount it and delete them first", label, snapshots)
		}
		away := slices.DeleteFunc(members, func(fsid ondisk.UUID) bool { return hasNode(list, c.info.Clid, fsid) })
		if len(away) > 0 && !force {
			return fmt.Errorf("%s of %s is one node of a cluster, and %d of its nodes are not on %s: name the devices of all, or use -f if those are gone for good",
				label, c.vol.Name(), len(away), words)
		}
	}
	if first == nil {
		return fmt.Errorf("%s has no PFS %q: anvilfs pfs list shows those of a device", words, label)
	}
	return nil
}

// listedBy names the filesystem that has a snapshot in its list; "" if none has. A
// list that cannot be read keeps nothing: that filesystem has to be repaired first.
func (c *copyOf) listedBy(ctx context.Context) string {
	for i := range c.all {
		p := &c.all[i]
		if p.Subtype != ondisk.PFSSubNone {
			continue // what a snapshot lists is what was there once
		}
		v, err := c.vol.View(ctx, p.Label)
		if err != nil {
			continue
		}
		table, err := cluster.ReadSnapshotTable(ctx, v)
		v.Release()
		if err == nil && slices.ContainsFunc(table.Entries, func(e cluster.SnapshotEntry) bool { return e.Clid == c.info.Clid }) {
			return p.Label
		}
	}
	return ""
}

// look reads what a PFS says of itself.
func (c *copyOf) look(ctx context.Context) (members []ondisk.UUID, snapshots int, err error) {
	v, err := c.vol.View(ctx, c.info.Label)
	if err != nil {
		return nil, 0, err
	}
	defer v.Release()
	table, err := cluster.ReadSnapshotTable(ctx, v)
	if err != nil {
		return nil, 0, err
	}
	members, err = cluster.ReadMembers(ctx, v)
	return members, len(table.Entries), err
}

// hasNode reports whether a volume of the list has that node, or had it: of a clone
// it is known where its nodes are.
func hasNode(list []copyOf, clid, fsid ondisk.UUID) bool {
	return slices.ContainsFunc(list, func(c copyOf) bool {
		return slices.ContainsFunc(c.all, func(p chain.PFSInfo) bool {
			return p.Fsid == fsid || chain.SnapshotFsid(clid, p.Fsid) == fsid
		})
	})
}

func (c *copyOf) drop(ctx context.Context, label string) error {
	if c.info == nil {
		return nil
	}
	t, err := c.vol.Begin(ctx)
	if err != nil {
		return err
	}
	t.UseReserve() // it gives space back
	if err := t.DeletePFS(ctx, label); err != nil {
		t.Abort()
		return err
	}
	t.ClearState(c.info.Fsid)
	return t.Commit(ctx)
}
