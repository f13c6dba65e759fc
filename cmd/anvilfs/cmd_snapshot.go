package main

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anvilfs/anvilfs/cluster"
)

// snapshotWords are the flags of the snapshot commands. The client has them to
// explain and check, the server of a mount to carry them out.
type snapshotWords struct {
	json   bool
	quick  bool
	script bool
	exact  bool
	dryRun bool
	owner  string
	until  string
	hold   bool
	force  bool
	off    bool
	policy cluster.SnapshotPolicy
}

// A snapshotVerb is one of the snapshot commands.
type snapshotVerb struct {
	name, args, short, long string
	least, most             int // words behind the mount point; most < 0: any number
	flags                   func(f *pflag.FlagSet, w *snapshotWords)
}

func jsonFlag(f *pflag.FlagSet, w *snapshotWords) {
	f.BoolVar(&w.json, "json", false, "print JSON")
}

func holdFlags(f *pflag.FlagSet, w *snapshotWords) {
	f.StringVar(&w.owner, "owner", "", "who holds it (you)")
	f.StringVar(&w.until, "until", "", "when the hold ends: 36h, 30d, 2027-01-31 or a full time (never)")
}

var snapshotVerbs = []snapshotVerb{
	{"create", "[NAME]", "Make a snapshot of everything as it is now",
		`The snapshot is made on every member at once, in one commit, in the same time
whatever the size of the filesystem. Without NAME it is named by the time. Its
files are in MNT/.anvilfs/snapshots/NAME.`, 0, 1,
		func(f *pflag.FlagSet, w *snapshotWords) {
			jsonFlag(f, w)
			f.BoolVar(&w.hold, "hold", false, "hold it from the start")
			holdFlags(f, w)
		}},
	{"list", "", "List the snapshots, oldest first",
		`USED is what the snapshot refers to, shared or not. UNIQUE is what nothing else
refers to: about what deleting it alone would free. Counting that reads the
tables in which a snapshot differs from all others: --quick leaves it out. What was
changed until then counts, too: it is committed first. If that fails, or takes
longer than 10 s, the list ends with a line that says as of when it counted, and
with -H UNIQUE is -.`, 0, 0,
		func(f *pflag.FlagSet, w *snapshotWords) {
			jsonFlag(f, w)
			f.BoolVar(&w.quick, "quick", false, "do not count what is unique to each")
			f.BoolVarP(&w.script, "script", "H", false, "no heading and exact bytes, tabs between, for scripts")
			f.BoolVarP(&w.exact, "exact", "p", false, "exact numbers of bytes")
		}},
	{"delete", "NAME...", "Delete snapshots, all of those named or none",
		`The space that only they held is found in the background, or by bulkfree. A
snapshot that is held is not deleted. Files in it that are open stay readable.`, 1, -1,
		func(f *pflag.FlagSet, w *snapshotWords) {
			f.BoolVarP(&w.dryRun, "dry-run", "n", false, "say what would go, and what space, and change nothing")
		}},
	{"hold", "NAME", "Keep a snapshot from being deleted",
		"Each owner has one hold on a snapshot; holding again sets its end anew.", 1, 1, holdFlags},
	{"clone", "NAME LABEL", "Make a filesystem of its own of a snapshot, which can be changed",
		`It lies on the same members under LABEL, is mounted as DEVICE,...@LABEL, and shares
with the snapshot all that it does not change. Deleting the snapshot does not
matter to it. Members that lack the snapshot, or are away, are not part of it.`, 2, 2,
		func(f *pflag.FlagSet, w *snapshotWords) {
			f.BoolVarP(&w.force, "force", "f", false, "also if that leaves members out")
		}},
	{"policy", "", "Show or set which snapshots are made and kept by themselves",
		`Without a flag it shows the policy. The mount makes a snapshot at the start of each
of the shortest period that is not 0, and keeps the newest of each of the last so
many hours, days, weeks (from Monday) and months, in UTC. It deletes no others than
those it made, and none that is held. --off makes none, and leaves those there are.`, 0, 0,
		func(f *pflag.FlagSet, w *snapshotWords) {
			jsonFlag(f, w)
			f.Uint16Var(&w.policy.Hourly, "hourly", 0, "hours of which one is kept")
			f.Uint16Var(&w.policy.Daily, "daily", 0, "days")
			f.Uint16Var(&w.policy.Weekly, "weekly", 0, "weeks")
			f.Uint16Var(&w.policy.Monthly, "monthly", 0, "months")
			f.BoolVar(&w.policy.FreeSpace, "free-space", false, "delete the oldest of them before a writer is told that there is no space")
			f.BoolVar(&w.off, "off", false, "make none")
		}},
	{"release", "NAME", "Take back a hold", "", 1, 1,
		func(f *pflag.FlagSet, w *snapshotWords) { f.StringVar(&w.owner, "owner", "", "who held it (you)") }},
}

// flagSet returns the flags of the verb, and where they go.
func (v *snapshotVerb) flagSet() (*pflag.FlagSet, *snapshotWords) {
	w := new(snapshotWords)
	f := pflag.NewFlagSet(v.name, pflag.ContinueOnError)
	v.flags(f, w)
	return f, w
}

// check refuses too many or too few words.
func (v *snapshotVerb) check(n int) error {
	if n < v.least || v.most >= 0 && n > v.most {
		return usageError("snapshot %s takes a mount point and %s: see anvilfs snapshot %s --help", v.name, orNothing(v.args), v.name)
	}
	return nil
}

func orNothing(args string) string {
	if args == "" {
		return "nothing more"
	}
	return args
}

func snapshotCommand() *cobra.Command {
	var children []*cobra.Command
	for i := range snapshotVerbs {
		children = append(children, snapshotVerbs[i].command())
	}
	return group("snapshot", "Keep what the filesystem is at an instant", append(children, rollbackCommand())...)
}

func (v *snapshotVerb) command() *cobra.Command {
	flags, w := v.flagSet()
	use := v.name + " MNT"
	if v.args != "" {
		use += " " + v.args
	}
	c := &cobra.Command{
		Use: use, Short: v.short, Long: v.short + ".",
		Args: func(_ *cobra.Command, args []string) error { return v.check(len(args) - 1) },
		RunE: func(c *cobra.Command, args []string) error {
			words := []string{"snapshot", v.name}
			c.Flags().Visit(func(f *pflag.Flag) {
				if flags.Lookup(f.Name) == f {
					words = append(words, "--"+f.Name+"="+f.Value.String())
				}
			})
			if flags.Lookup("owner") != nil && w.owner == "" {
				words = append(words, "--owner="+userName())
			}
			words = append(append(words, "--"), args[1:]...)
			reply, err := tell(c.Context(), args[0], words...)
			if errors.Is(err, syscall.EROFS) {
				return fmt.Errorf("%s is mounted read-only: its snapshots are in %s/.anvilfs/snapshots, and changing them needs a mount with rw", args[0], args[0])
			}
			fmt.Fprint(c.OutOrStdout(), reply)
			return err
		},
	}
	if v.long != "" {
		c.Long += "\n\n" + v.long
	}
	c.Flags().AddFlagSet(flags)
	return c
}

// userName is who is asking, for holds.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return "root"
	}
	if u.Username == "" {
		return strconv.Quote(u.Uid)
	}
	return u.Username
}
