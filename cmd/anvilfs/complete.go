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
