package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// fsckFlags are the words of fsck.
type fsckFlags struct {
	fsck.Options
	json, quiet, repair, dryRun bool
}

func fsckCommand() *cobra.Command {
	var o fsckFlags
	c := &cobra.Command{
		Use:   "fsck DEVICE...",
		Short: "Check volumes that are not mounted, and repair what is certain if asked to",
		Long: `Fsck reads everything that the newest volume header reaches, checks it, and
compares it with the freemap, both ways. Without --repair it never writes.

With --repair it puts right what is certain, and checks again. The freemap of a
volume is made up from its tree, and header slots are written anew. Names and
inodes that do not fit each other are changed on all members at once, so give a
majority of them: names without an inode go, link counts become what is there,
and what no name leads to gets one in /lost+found. Nothing that a name leads to
is removed, and snapshots are never changed. Blocks that are damaged are
repaired by mounting the member together with good ones.

Exit codes, added up over all devices: 0 clean, 1 errors repaired, 4 errors
left, 8 could not be checked or repaired, 16 wrong words.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exitWith(fsckUsage, "fsck takes the devices to check: see anvilfs fsck --help")
			}
			if code, err := o.run(c, args); err != nil {
				return err
			} else if code != fsckClean {
				return &exitError{code: code}
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&o.json, "json", false, "print the report as JSON")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print only what is wrong")
	f.BoolVar(&o.AllSlots, "all-slots", false, "check also what the older volume headers reach")
	f.BoolVar(&o.SkipData, "skip-data", false, "leave file data out: quick, finds no rotten file")
	f.BoolVarP(&o.repair, "repair", "y", false, "put right what is certain")
	f.BoolVar(&o.dryRun, "dry-run", false, "with --repair: say what would be done, write nothing")
	return c
}

// run checks the devices, repairs if asked to, and returns the exit code.
func (o *fsckFlags) run(c *cobra.Command, words []string) (code int, err error) {
	reports := make(map[string]*fsck.Report)
	check := func() error {
		code = fsckClean
		for _, w := range words {
			rep, err := fsckOne(c.Context(), w, o.Options)
			if err != nil {
				fmt.Fprintf(advice.Lines(c.ErrOrStderr()), "anvilfs: %v\n", err)
				code |= fsckOperational
				continue
			}
			reports[w] = rep
			if !rep.Clean() {
				code |= fsckUncorrected
			}
			if err := printFsck(c.OutOrStdout(), w, rep, o.json, o.quiet); err != nil {
				return err
			}
		}
		return c.Context().Err()
	}
	if err := check(); err != nil || !o.repair {
		return code, err
	}
	r := &fsckRepair{out: c.OutOrStdout(), errs: c.ErrOrStderr(), dryRun: o.dryRun}
	if o.json {
		r.out = c.ErrOrStderr() // what is printed stays JSON
	}
	r.run(c.Context(), words, reports)
	if !r.changed {
		return code | r.code, nil
	}
	err = check()
	return code | r.code | fsckCorrected, err
}

func fsckOne(ctx context.Context, word string, o fsck.Options) (*fsck.Report, error) {
	var rep *fsck.Report
	err := withDevices(ctx, word, func(devs []ondisk.Device) (err error) {
		rep, err = fsck.Check(ctx, devs, o)
		return explain(err)
	})
	return rep, err
}

func printFsck(w io.Writer, name string, rep *fsck.Report, asJSON, quiet bool) error {
	if asJSON {
		return rawjson.Write(w, struct {
			OutputVersion int `json:"output_version"`
			*fsck.Report
		}{careVersion, rep}, "  ")
	}
	w = advice.Lines(w)
	for _, f := range rep.Findings {
		if !quiet || f.Severity > fsck.Info {
			fmt.Fprintf(w, "%s: %s\n", name, f)
		}
	}
	if all := rep.Errors + rep.Warnings + rep.Infos; all > len(rep.Findings) {
		fmt.Fprintf(w, "%s: %d more findings are not shown\n", name, all-len(rep.Findings))
	}
	if quiet {
		return nil
	}
	word := "clean"
	if !rep.Clean() {
		word = fmt.Sprintf("%d errors, %d warnings", rep.Errors, rep.Warnings)
	}
	inodes := uint64(0)
	for _, p := range rep.PFSs {
		inodes += p.Inodes
	}
	_, err := fmt.Fprintf(w, "%s: %s: %d inodes in %d PFSs, %s reachable, %s free, checked in %s\n", name, word,
		inodes, len(rep.PFSs), human(rep.Counts.Reachable), human(rep.Counts.Free), rep.Took.Round(time.Millisecond))
	return err
}
