package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/ondisk/rawjson"
	"github.com/anvilfs/anvilfs/sync/ledger"
)

func errorsCommand() *cobra.Command {
	var all, asJSON bool
	flags := func() (words []string) {
		if all {
			words = append(words, "--all")
		}
		if asJSON {
			words = append(words, "--json")
		}
		return words
	}
	list := &cobra.Command{
		Use:   "list MNT",
		Short: "List what is bad on the nodes and could not be repaired yet",
		Long: `What reads and scrubs found bad is written down with its path and tried again:
after a minute, two, four, up to a day. --all lists what was repaired, too.`,
		Args: exactly(1, "a mount point"),
		RunE: func(c *cobra.Command, args []string) error {
			return relay(c, args[0], append([]string{"errors", "list"}, flags()...)...)
		},
	}
	list.Flags().BoolVar(&all, "all", false, "also what was repaired")
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	forget := &cobra.Command{
		Use:   "clear MNT",
		Short: "Forget what was repaired",
		Args:  exactly(1, "a mount point"),
		RunE: func(c *cobra.Command, args []string) error {
			return relay(c, args[0], append([]string{"errors", "clear"}, flags()...)...)
		},
	}
	forget.Flags().BoolVar(&all, "all", false, "also what is still bad: it is found again by the next read or scrub")
	retry := &cobra.Command{
		Use:   "retry MNT",
		Short: "Try to repair everything that is bad, now",
		Args:  exactly(1, "a mount point"),
		RunE:  func(c *cobra.Command, args []string) error { return relay(c, args[0], "errors", "retry") },
	}
	return group("errors", "What was found bad on the nodes, and what came of it", list, retry, forget)
}

// careVersion is the output_version of errors, scrub and dedup, and of fsck. It
// rises when a field changes its meaning.
const careVersion = 1

// badness carries out an errors command.
func (c *controller) badness(words []string, w io.Writer) error {
	has := func(flag string) bool { return strings.Contains(" "+strings.Join(words, " ")+" ", " "+flag+" ") }
	l, verb := c.care.ledger, strings.Join(words[:min(1, len(words))], "")
	list := c.care.past
	if l != nil {
		list = l.List
	}
	if list == nil || l == nil && verb != "list" {
		return fmt.Errorf("nothing is written down for this mount: %w", c.care.noBook)
	}
	switch verb {
	case "list":
		list, err := list(has("--all"))
		if err != nil {
			return err
		}
		if has("--json") {
			return rawjson.Write(w, struct {
				OutputVersion int            `json:"output_version"`
				Errors        []ledger.Entry `json:"errors"`
			}{careVersion, append([]ledger.Entry{}, list...)}, "  ")
		}
		return printErrors(w, list, c.server.Dir)
	case "retry":
		n, err := l.Retry()
		if err != nil {
			return err
		}
		c.care.retrier.Wake()
		fmt.Fprintf(w, "%d to be tried again now\n", n)
		return nil
	case "clear":
		n, err := l.Clear(has("--all"))
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%d forgotten\n", n)
		return nil
	default:
		return fmt.Errorf("errors has no command %q: list, retry and clear", verb)
	}
}
