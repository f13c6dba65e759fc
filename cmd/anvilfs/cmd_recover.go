package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain/salvage"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk"
)

// exitIncomplete: something could not be recovered; as fsck(8)'s code for errors
// that are left.
const exitIncomplete = 4

func recoverCommand() *cobra.Command {
	o := salvage.Options{Slot: -1}
	var quiet, deleted bool
	c := &cobra.Command{
		Use:   "recover DEVICE[@LABEL] [PATH] DIRECTORY",
		Short: "Copy files out of a volume, however damaged it is",
		Long: `What can be read is copied to DIRECTORY, which must be empty or new; what cannot is
listed with its path, and bytes that are missing become holes. Nothing is written
to the device. LABEL may be a snapshot. An older header (--header; anvilfs show
volume lists them) has the files as they were a few commits ago, which brings back
what was just removed: do not mount the volume before. What was synced just before a crash
and is in the intent log only comes out as well, but not with --header.

What was removed longer ago is looked for with --deleted: the whole device is read
for inodes that nothing leads to any more, and files whose blocks were not used again
come out under their last known path, or in lost+found. Stop using the filesystem at
once when something was removed by mistake; a snapshot is the better way.

If the root of a filesystem cannot be read, an older header is used by itself, and
that is told; closing a volume makes all headers equal, so there may be none. With
--deleted all files come out then that are found on the device, also deleted ones.

The exit code is 0 if everything was copied, 4 if something is missing.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 || len(args) > 3 {
				return usageError("recover takes a device, perhaps a path on it, and a directory to copy to")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			s, err := parseSource(args[0])
			if err != nil {
				return err
			}
			if s.members = s.nodes(); len(s.members) != 1 {
				return usageError("recover takes one member: they are equal, begin with the one that fsck likes best")
			}
			o.Label = s.label
			if len(args) == 3 {
				o.Path = args[1]
			}
			copyOut := salvage.Copy
			if deleted && (o.Slot >= 0 || o.Orphans) {
				return usageError("--deleted looks through the whole device: leave --header and --orphans out")
			}
			if deleted {
				copyOut = salvageDeleted(c)
			}
			return salvageTo(c, s.members[0], args[len(args)-1], o, quiet, copyOut)
		},
	}
	c.Flags().IntVar(&o.Slot, "header", -1, "start from the header in this slot instead of the newest")
	c.Flags().BoolVar(&o.Orphans, "orphans", false, "also files that no directory names any more, to lost+found")
	c.Flags().BoolVar(&deleted, "deleted", false, "look through the whole device for deleted files")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not list what is missing")
	return c
}

// A copyOut copies files of a volume to a directory.
type copyOut = func(context.Context, []ondisk.Device, string, salvage.Options) (salvage.Report, error)

// salvageDeleted is salvage.Deleted, which says on a terminal how far it is.
func salvageDeleted(c *cobra.Command) copyOut {
	return func(ctx context.Context, devs []ondisk.Device, dir string, o salvage.Options) (salvage.Report, error) {
		var progress func(done, total uint64)
		if f, ok := c.ErrOrStderr().(*os.File); ok && onTerminal(f) {
			progress = func(done, total uint64) { fmt.Fprintf(f, "\r%s of %s read ", human(done), human(total)) }
			defer fmt.Fprint(f, "\r\033[K")
		}
		return salvage.Deleted(ctx, devs, dir, o, progress)
	}
}

func salvageTo(c *cobra.Command, m member, dir string, o salvage.Options, quiet bool, copyOut copyOut) error {
	devs, err := m.take(c.Context(), true)
	if err != nil {
		return explain(err)
	}
	defer func() {
		for _, d := range devs {
			_ = d.Close() // only read
		}
	}()
	o.Owners = os.Geteuid() == 0
	o.Lost = func(path string, err error) {
		if !quiet || errors.Is(err, salvage.ErrOlder) { // all of it is, which nobody should miss
			fmt.Fprintf(advice.Lines(c.ErrOrStderr()), "%s: %v\n", path, err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: give a new directory", err)
	}
	if old, err := os.ReadDir(dir); err != nil || len(old) > 0 {
		return errors.Join(fmt.Errorf("%s is not empty: give a new directory", dir), err)
	}
	rep, err := copyOut(c.Context(), devs, dir, o)
	if errors.Is(err, ondisk.ErrNotHammer2) {
		err = fmt.Errorf("%w: check the path: one whole header at least is needed", err)
	}
	if err != nil && rep.Files+rep.Dirs == 0 {
		return err
	}
	fmt.Fprintf(advice.Lines(c.OutOrStdout()), "%d files of %s, %d directories, %d more links, %d others copied to %s\n",
		rep.Files, human(uint64(rep.Bytes)), rep.Dirs, rep.Links, rep.Others, dir)
	if err != nil {
		return err
	}
	if rep.Lost > 0 {
		return exitWith(exitIncomplete, "not copied whole: %d; %s of file content is missing", rep.Lost, human(uint64(rep.Missing)))
	}
	return nil
}
