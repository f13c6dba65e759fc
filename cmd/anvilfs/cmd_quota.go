package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// quotaWords are the flags of the quota commands, of du, and of no other. The
// client has them to explain and check, the server of a mount to carry them out.
type quotaWords struct {
	json, script, exact bool
	wait                bool
	bytes, inodes       string
	depth               int
	apparent            bool
	sort                string
	summarize           bool
}

// A quotaVerb is one of the quota commands.
type quotaVerb struct {
	name, args, short, long string
	flags                   func(f *pflag.FlagSet, w *quotaWords)
}

func listFlags(f *pflag.FlagSet, w *quotaWords) {
	f.BoolVar(&w.json, "json", false, "print JSON")
	f.BoolVarP(&w.script, "script", "H", false, "no heading and exact numbers, tabs between, for scripts")
	f.BoolVarP(&w.exact, "exact", "p", false, "exact numbers")
}

func waitFlag(f *pflag.FlagSet, w *quotaWords) {
	f.BoolVar(&w.wait, "wait", false, "return when it is counted")
}

var quotaVerbs = []quotaVerb{
	{"set", "DIR", "Limit what a directory tree takes, or only account for it",
		`The tree is counted once, in the background and while it is in use; from then on
its use is known at once, to quota, du and df, and survives crashes exactly. A call
that would go beyond a limit fails with "Disk quota exceeded": write, create, mkdir,
link and rename, never fsync. Root is bound, too. A limit below what is used stops
growth, no more.

Bytes are the space of data on one member, after compression, as du shows it.
Files and directories with limits of their own count in those around them, too.
Without a limit the tree is only accounted for.

A file with several names, or a directory that is not empty, cannot be moved into
or out of the tree by rename(2): mv(1) copies it.`,
		func(f *pflag.FlagSet, w *quotaWords) {
			f.StringVar(&w.bytes, "bytes", "", "most space: 500m, 10g, 1.5t, or none")
			f.StringVar(&w.inodes, "inodes", "", "most files, directories and others: 5000, 100k, 2m, or none")
			waitFlag(f, w)
		}},
	{"clear", "DIR", "Take limits and account from a directory tree", "", waitFlag},
	{"list", "MNT", "List the directories with limits or accounts", "", listFlags},
	{"show", "DIR", "Show what a directory tree takes, and may",
		`The directory is the one named, or the nearest one above it that has an account.`, listFlags},
	{"recount", "MNT", "Count all accounts anew",
		`Other systems that write a filesystem of one copy do not keep the sums: the next
mount for writing counts anew by itself. This does so at any time. Limits hold
meanwhile for what is counted.`, waitFlag},
}

// flagSet returns the flags of the verb, and where they go.
func (v *quotaVerb) flagSet() (*pflag.FlagSet, *quotaWords) {
	w := new(quotaWords)
	f := pflag.NewFlagSet(v.name, pflag.ContinueOnError)
	v.flags(f, w)
	return f, w
}

func quotaCommand() *cobra.Command {
	var children []*cobra.Command
	for i := range quotaVerbs {
		children = append(children, quotaVerbs[i].command())
	}
	return group("quota", "Limit what directory trees take", children...)
}

func (v *quotaVerb) command() *cobra.Command {
	flags, _ := v.flagSet()
	c := &cobra.Command{
		Use: v.name + " " + v.args, Short: v.short, Long: v.short + ".", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			mnt, path, err := inMount(args[0])
			if err != nil {
				return err
			}
			if v.args == "DIR" && inSnapshots(path) {
				where := "in a snapshot"
				if path == "/.anvilfs" {
					where = "where the snapshots are"
				}
				return fmt.Errorf("%s is %s: what snapshots have is charged to nobody, and never limited", args[0], where)
			}
			words := append([]string{"quota", v.name}, givenFlags(c, flags)...)
			if v.args == "DIR" {
				words = append(words, "--", path)
			}
			return askQuota(c, mnt, words)
		},
	}
	if v.long != "" {
		c.Long += "\n\n" + v.long
	}
	c.Flags().AddFlagSet(flags)
	return c
}

// givenFlags are the flags that were given, as words.
func givenFlags(c *cobra.Command, flags *pflag.FlagSet) (words []string) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if flags.Lookup(f.Name) == f {
			words = append(words, "--"+f.Name+"="+f.Value.String())
		}
	})
	return words
}

func askQuota(c *cobra.Command, mnt string, words []string) error {
	reply, err := tell(c.Context(), mnt, words...)
	fmt.Fprint(c.OutOrStdout(), reply)
	return err
}

// inSnapshots reports whether a path from the mount point is in the control
// directory, where the snapshots are.
func inSnapshots(path string) bool {
	return path == "/.anvilfs" || strings.HasPrefix(path, "/.anvilfs/")
}

// inMount splits the path of a file into the mount point it is below, and
// the path from there.
func inMount(path string) (mnt, below string, err error) {
	abs, err := filepath.Abs(path)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return "", "", err
	}
	list, err := anvilMounts()
	if err != nil {
		return "", "", err
	}
	for at := abs; ; at = filepath.Dir(at) {
		for _, m := range list {
			if m.target == at {
				return at, "/" + strings.TrimPrefix(strings.TrimPrefix(abs, at), "/"), nil
			}
		}
		if at == "/" {
			return "", "", mountError(path, os.ErrNotExist)
		}
	}
}

var duVerb = quotaVerb{"du", "DIR...", "Show what directory trees take, at once where they are accounted for",
	`It counts as du(1) does on the mount, in the server, without looking up each file
through the kernel: many times faster. A tree with an account (anvilfs quota set DIR)
is known without looking at any file, if it is not asked for in parts. In snapshots,
and for users who may not use the control file, trees are counted through the kernel.`,
	func(f *pflag.FlagSet, w *quotaWords) {
		listFlags(f, w)
		wholeVar(f, &w.depth, "max-depth", "d", "also show the trees so far below")
		f.BoolVarP(&w.summarize, "summarize", "s", false, "show the tree as a whole only, as without -d")
		f.BoolVar(&w.apparent, "apparent-size", false, "sum sizes of files, not the space they take")
		f.StringVar(&w.sort, "sort", "name", "name, size or inodes: the largest last")
	}}

func duCommand() *cobra.Command {
	flags, w := duVerb.flagSet()
	c := &cobra.Command{
		Use: "du DIR...", Short: duVerb.short, Long: duVerb.short + ".\n\n" + duVerb.long, Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if w.sort != "name" && w.sort != "size" && w.sort != "inodes" {
				return usageError("--sort %s: name, size or inodes", w.sort)
			}
			return duAll(c, flags, w, args)
		},
	}
	c.Flags().AddFlagSet(flags)
	return c
}

// duAll asks each mount for the trees on it, in the order given.
func duAll(c *cobra.Command, flags *pflag.FlagSet, w *quotaWords, args []string) error {
	for len(args) > 0 {
		first := args
		mnt, at, err := inMount(args[0])
		if err != nil {
			return err
		}
		words := append([]string{"du"}, append(givenFlags(c, flags), "--")...)
		below := inSnapshots(at)
		for len(args) > 0 {
			other, path, err := inMount(args[0])
			if err != nil {
				return err
			}
			if other != mnt || inSnapshots(path) != below {
				break
			}
			words = append(words, path, args[0])
			args = args[1:]
		}
		if !below {
			err = askQuota(c, mnt, words)
		}
		// A server that is older does not count on a read-only mount, and none takes very
		// many words there.
		if below || errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.E2BIG) {
			err = countUse(c.OutOrStdout(), first[:len(first)-len(args)], w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
