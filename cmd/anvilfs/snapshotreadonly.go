package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// A read-only mount takes no commands, but its snapshots can be listed.

// looks reports whether a command with these flags changes nothing.
func (v *snapshotVerb) looks(flags *pflag.FlagSet) bool {
	sets := false
	flags.VisitAll(func(f *pflag.Flag) { sets = sets || f.Changed && f.Name != "json" })
	return v.name == "list" || v.name == "policy" && !sets
}

// readOnly carries out such a command.
func (v *snapshotVerb) readOnly(out io.Writer, mnt string, w *snapshotWords) error {
	file := "snapshots-unique.json"
	if v.name == "policy" || w.quick {
		file = "snapshots.json"
	}
	b, err := os.ReadFile(filepath.Join(mnt, ".anvilfs", file))
	if err != nil {
		return mountError(mnt, err)
	}
	var list snapshotsJSON
	if err := rawjson.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("%s: %w", mnt, err)
	}
	if v.name == "list" {
		return printSnapshots(out, snapshotList{list.Snapshots, list.AsOf}, w)
	}
	var p cluster.SnapshotPolicy
	if l := list.Policy; l != nil {
		p = cluster.SnapshotPolicy{Hourly: l.Hourly, Daily: l.Daily, Weekly: l.Weekly, Monthly: l.Monthly, FreeSpace: l.FreeSpace}
	}
	return printPolicy(out, p, w)
}
