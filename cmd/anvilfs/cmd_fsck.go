package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/ondisk"
)

func fsckCommand() *cobra.Command {
	var asJSON, quiet bool
	var o fsck.Options
	c := &cobra.Command{
		Use:   "fsck DEVICE...",
		Short: "Check volumes that are not mounted; writes nothing",
		Long: `Fsck reads everything that the newest volume header reaches, checks it, and
compares it with the freemap, both ways. It never writes: damaged blocks of a
member are repaired by mounting it together with good ones.

Exit codes, added up over all devices: 0 clean, 4 errors found, 8 could not be
checked, 16 wrong words.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exitWith(fsckUsage, "fsck takes the devices to check: see anvilfs fsck --help")
			}
			code := fsckClean
			for _, a := range args {
				rep, err := fsckOne(c.Context(), a, o)
				switch {
				case err != nil:
					fmt.Fprintf(c.ErrOrStderr(), "anvilfs: %v\n", err)
					code |= fsckOperational
					continue
				case !rep.Clean():
					code |= fsckUncorrected
				}
				if err := printFsck(c.OutOrStdout(), a, rep, asJSON, quiet); err != nil {
					return err
				}
			}
			if code != fsckClean {
				return &exitError{code: code}
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	f.BoolVarP(&quiet, "quiet", "q", false, "print only what is wrong")
	f.BoolVar(&o.AllSlots, "all-slots", false, "check also what the older volume headers reach")
	f.BoolVar(&o.SkipData, "skip-data", false, "leave file data out: quick, finds no rotten file")
	return c
}

func fsckOne(ctx context.Context, word string, o fsck.Options) (*fsck.Report, error) {
	var rep *fsck.Report
	err := withDevices(word, func(devs []ondisk.Device) (err error) {
		rep, err = fsck.Check(ctx, devs, o)
		return explain(err)
	})
	return rep, err
}

func printFsck(w io.Writer, name string, rep *fsck.Report, asJSON, quiet bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(rep)
	}
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
