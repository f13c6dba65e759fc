package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

// completeWords lets shells offer mount points and nodes. What a command's
// words are is read from its Use: MNT, NODE, and words in small letters with
// bars between.
func completeWords(c *cobra.Command) {
	for _, sub := range c.Commands() {
		completeWords(sub)
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
