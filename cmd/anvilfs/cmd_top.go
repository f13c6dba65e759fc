package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// topCalls is how many kinds of calls are shown.
const topCalls = 8

func topCommand() *cobra.Command {
	var asJSON bool
	var rounds int
	c := &cobra.Command{
		Use:     "top [MNT...] [INTERVAL]",
		Aliases: []string{"iostat"},
		Short:   "Show what mounts and their nodes do, per second",
		Long: `Top shows reads, writes and flushes of every node, their mean times and the
requests that are out; what a cache answered and took; the transaction groups;
and the kernel's calls that took most time. It repeats every INTERVAL seconds (1)
until interrupted, in place on a terminal. Its numbers are differences of those in
the status.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			dirs, every, err := statusWords(args)
			if err != nil {
				return err
			}
			if every == 0 {
				every = time.Second
			}
			out := c.OutOrStdout()
			show := func(list []rates) error { return printRates(out, list, onTerminal(out)) }
			if asJSON {
				show = func(list []rates) error { return encodeRates(out, list) }
			}
			return watchRates(c.Context(), dirs, every, rounds, show)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object for each mount and round")
	wholeVar(c.Flags(), &rounds, "rounds", "n", "end after so many (0: when interrupted)")
	return c
}

// watchRates looks at the mounts again and again. A mount that does not answer
// ends it: the error names it.
func watchRates(ctx context.Context, dirs []string, every time.Duration, rounds int, show func([]rates) error) error {
	before := make([]*mountStatus, len(dirs))
	for n := 0; rounds == 0 || n <= rounds; n++ {
		var list []rates
		for i, dir := range dirs {
			st, err := statusOf(ctx, dir)
			if err != nil {
				return err
			}
			if before[i] != nil {
				list = append(list, between(dir, before[i], st))
			}
			before[i] = st
		}
		if n > 0 {
			if err := show(list); err != nil {
				return err
			}
		}
		if n == rounds && rounds > 0 {
			break
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func encodeRates(w io.Writer, list []rates) error {
	for i := range list {
		if err := rawjson.Write(w, &list[i], ""); err != nil {
			return err
		}
	}
	return nil
}

// printRates prints one round, over the last one if in place.
func printRates(w io.Writer, list []rates, inPlace bool) error {
	var b strings.Builder
	if inPlace {
		b.WriteString("\x1b[H\x1b[J")
	}
	for i := range list {
		r := &list[i]
		fmt.Fprintf(advice.Lines(&b), "%s on %s  %s\n", r.Label, r.Dir, r.Health)
		fmt.Fprintf(&b, "  txgs    %s/s, %s/s, %s each; %s of %s dirty; %d calls out\n", count(r.Txg.Count), perSecond(r.Txg.Bytes),
			r.Txg.mean(), human(uint64(max(r.Dirty, 0))), human(uint64(max(r.Limit, 0))), r.Out)
		t := newTable("  NODE", "STATE", "READ/s", "BYTES/s", "MEAN", "WRITE/s", "BYTES/s", "MEAN", "FLUSH/s", "MEAN", "QUEUE", "LAG")
		for i := range r.Nodes {
			n := &r.Nodes[i]
			t.row("  "+n.Name, string(n.State), count(n.Read.Count), perSecond(n.Read.Bytes), n.Read.mean(),
				count(n.Write.Count), perSecond(n.Write.Bytes), n.Write.mean(), count(n.Flush.Count), n.Flush.mean(),
				strconv.FormatInt(n.Queue, 10), strconv.FormatUint(n.Lag, 10))
		}
		t.print(&b)
		printCacheRates(&b, r.Caches)
		t = newTable("  CALL", "PER s", "BYTES/s", "MEAN", "FAILED/s")
		for i := range r.Calls[:min(len(r.Calls), topCalls)] {
			c := &r.Calls[i]
			t.row("  "+c.Name, count(c.Count), perSecond(c.Bytes), c.mean(), count(c.Failed))
		}
		t.print(&b)
	}
	if !inPlace {
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// count prints a number per second: small ones with a digit behind the point.
func count(f float64) string {
	if f == 0 || f >= 10 {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(f, 'f', 1, 64)
}

func perSecond(bytes float64) string {
	if bytes == 0 {
		return "-"
	}
	return human(uint64(bytes))
}

// onTerminal reports whether w is a terminal.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
