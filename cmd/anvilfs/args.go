package main

import "github.com/spf13/cobra"

// exactly wants n words and says which ones when they are not there.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError("%s takes %s: see %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return nil
	}
}

// atLeast wants n words or more.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return usageError("%s takes %s: see %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("%s has no command %q: see %s --help", c.CommandPath(), args[0], c.CommandPath())
			}
			return c.Help()
		}}
	c.AddCommand(children...)
	return c
}
