package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// flagChoices are the words that flags take, by the name of the flag.
var flagChoices = map[string][]string{
	"role":        {"master", "slave", "soft-slave", "soft-master", "cache"},
	"keep":        {"ours", "theirs", "both"},
	"compression": {"lz4", "none", "autozero", "zlib"},
	"check":       {"xxhash64", "iscsi32", "sha192"},
	"sort":        {"name", "size", "inodes"},
}

// optionWords are the mount options that shells offer; those with a value end with =.
var optionWords = []string{
	"ro", "rw", "commit=", "memory=", "quorum=hang", "quorum=eio", "deadline=", "wait=", "dedup", "nointentlog", "nomerge",
	"log=", "state=", "hook=", "metrics=", "metrics_public", "scrub=", "allow_other", "debug",
	"noatime", "relatime", "strictatime", "lazytime", "nodiratime", "sync", "dirsync", "nosuid", "nodev", "noexec", "nosymfollow",
	"noauto", "nofail", "_netdev", "x-systemd.automount", "x-systemd.device-timeout=",
}

// propertyWords are what a command takes before its paths, by the name of the command.
var propertyWords = map[string][]string{
	"set": {"compression=lz4", "compression=none", "compression=autozero", "compression=zlib",
		"check=xxhash64", "check=iscsi32", "check=sha192", "check=none"},
	"get":      {"all", "compression", "check"},
	"setcomp":  flagChoices["compression"],
	"setcheck": append(flagChoices["check"], "none"),
}

// completeWords lets shells offer mount points, nodes and snapshots. What a
// command's words are is read from its Use: MNT, NODE, NAME, and words in small
// letters with bars between.
func completeWords(c *cobra.Command) {
	for _, sub := range c.Commands() {
		completeWords(sub)
	}
	for name, list := range flagChoices {
		if f := c.Flags().Lookup(name); f != nil && f.Value.Type() == "string" {
			_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)) // fails for no flag
		}
	}
	if c.Flags().Lookup("options") != nil {
		_ = c.RegisterFlagCompletionFunc("options", completeOptions)
	}
	if list := propertyWords[c.Name()]; list != nil {
		c.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return list, cobra.ShellCompDirectiveNoFileComp
		}
	}
	words := strings.Fields(c.Use)[1:]
	if !strings.Contains(c.Use, "MNT") {
		return
	}
	c.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		const nothing = cobra.ShellCompDirectiveNoFileComp
		word := words[min(len(args), len(words)-1)]
		switch {
		case word == "NODE":
			return nodeNames(c.Context(), args[0]), nothing
		case strings.TrimSuffix(word, "...") == "NAME" && len(args) > 0:
			return snapshotNames(c.Context(), args[0]), nothing
		case strings.Contains(word, "MNT"):
			return mountPoints(), cobra.ShellCompDirectiveDefault
		case strings.ToLower(word) == word:
			return strings.Split(word, "|"), nothing
		case word == "DEVICE":
			return nil, cobra.ShellCompDirectiveDefault
		}
		return nil, nothing
	}
}

// completeOptions offers mount options behind those that are typed already.
func completeOptions(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	typed := word[:strings.LastIndexByte(word, ',')+1]
	var list []string
	for _, o := range optionWords {
		list = append(list, typed+o)
	}
	return list, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

// mountPoints are those of this system; none if they cannot be read.
func mountPoints() []string {
	list, err := anvilMounts()
	if err != nil {
		return nil
	}
	var dirs []string
	for _, m := range list {
		dirs = append(dirs, m.target)
	}
	return dirs
}

func nodeNames(ctx context.Context, dir string) []string {
	st, err := statusOf(ctx, dir)
	if err != nil {
		return nil
	}
	return st.names()
}

// snapshotNames are those of a mount; none of one that does not answer.
func snapshotNames(ctx context.Context, dir string) []string {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var names []string
	_, err := bounded(ctx, dir, func() ([]byte, error) {
		list, err := os.ReadDir(filepath.Join(dir, ".anvilfs", "snapshots"))
		for _, e := range list {
			names = append(names, e.Name())
		}
		return nil, err
	})
	if err != nil {
		return nil
	}
	return names
}
