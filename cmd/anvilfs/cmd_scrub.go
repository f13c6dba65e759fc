package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
	"github.com/anvilfs/anvilfs/sync/scrub"
)

func scrubCommand() *cobra.Command {
	var tranquility int
	var asJSON, wait bool
	start := &cobra.Command{
		Use:   "start MNT",
		Short: "Verify every copy of every block, and repair what is bad",
		Long: `Every block of every node is read from its device and verified, snapshots
included; then the nodes are compared leaf by leaf. What is bad is rewritten from
a verified copy; copies that differ become what a majority of the masters has.
It runs in the mount, which stays in use, and goes on after a restart.

With --wait it returns when the scrub has ended, and fails if that left something
bad, or a node was not there; where one runs already it waits for that, and where
one is paused it says so.`,
		Args: exactly(1, "a mount point"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkTranquility(tranquility); err != nil {
				return err
			}
			words := []string{"scrub", "start", strconv.Itoa(tranquility)}
			if wait {
				words = append(words, "--wait")
			}
			return relay(c, args[0], words...)
		},
	}
	start.Flags().IntVarP(&tranquility, "tranquility", "t", scrub.DefaultTranquility,
		"0 to 10: how many times as long as it works it rests, for the sake of others")
	start.Flags().BoolVar(&wait, "wait", false, "return when it has ended")
	pace := -1
	resume := &cobra.Command{
		Use:   "resume MNT",
		Short: "Let it go on, or at another pace",
		Args:  exactly(1, "a mount point"),
		RunE: func(c *cobra.Command, args []string) error {
			words := []string{"scrub", "resume"}
			if c.Flags().Changed("tranquility") {
				if err := checkTranquility(pace); err != nil {
					return err
				}
				words = append(words, strconv.Itoa(pace))
			}
			return relay(c, args[0], words...)
		},
	}
	resume.Flags().IntVarP(&pace, "tranquility", "t", pace, "0 to 10, as for start; else it stays as it is")
	status := &cobra.Command{
		Use:   "status MNT",
		Short: "Show the scrub that runs, or the last one",
		Args:  exactly(1, "a mount point"),
		RunE: func(c *cobra.Command, args []string) error {
			words := []string{"scrub", "status"}
			if asJSON {
				words = append(words, "--json")
			}
			return relay(c, args[0], words...)
		},
	}
	status.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return group("scrub", "Verify all copies and repair what is bad",
		start,
		scrubVerb("pause", "Let the scrub wait, also over a restart"),
		resume,
		scrubVerb("stop", "End it"),
		status)
}

// checkTranquility refuses a pace that there is not.
func checkTranquility(n int) error {
	if n < 0 || n > scrub.MaxTranquility {
		return usageError("--tranquility takes 0 (no rest) to %d (mostly rest), not %d", scrub.MaxTranquility, n)
	}
	return nil
}

func scrubVerb(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " MNT",
		Short: short,
		Args:  exactly(1, "a mount point"),
		RunE:  func(c *cobra.Command, args []string) error { return relay(c, args[0], "scrub", verb) },
	}
}

// errNoScrub: what is found could not be mended.
var errNoScrub = errors.New("a read-only mount is not scrubbed: nothing could be repaired")

// relay has the mount carry out a command and prints the reply.
func relay(c *cobra.Command, dir string, words ...string) error {
	reply, err := tell(c.Context(), dir, words...)
	fmt.Fprint(c.OutOrStdout(), reply)
	return err
}

// scrubbing carries out a scrub command.
func (c *controller) scrubbing(ctx context.Context, words []string, w io.Writer) error {
	if c.care.scrub == nil {
		return errNoScrub
	}
	verb := strings.Join(words[:min(1, len(words))], "")
	switch verb {
	case "start":
		return c.scrubStart(ctx, words[1:])
	case "pause":
		return c.care.scrub.Pause()
	case "resume":
		return c.scrubResume(words[1:])
	case "stop":
		return c.care.scrub.Stop()
	case "status":
		rep := c.care.scrub.Report()
		if len(words) > 1 && words[1] == "--json" {
			return rawjson.Write(w, struct {
				OutputVersion int `json:"output_version"`
				scrub.Report
			}{careVersion, rep}, "  ")
		}
		printScrub(w, &rep, c.server.Dir, time.Now())
		return nil
	}
	return fmt.Errorf("scrub has no command %q: start, pause, resume, stop and status", verb)
}

// scrubStart takes a tranquility and --wait.
func (c *controller) scrubStart(ctx context.Context, words []string) error {
	tranquility, wait := scrub.DefaultTranquility, false
	for _, word := range words {
		if word == "--wait" {
			wait = true
			continue
		}
		n, err := strconv.Atoi(word)
		if err != nil {
			return fmt.Errorf("scrub start: tranquility %q is not a number", word)
		}
		tranquility = n
	}
	err := c.care.scrub.Start(tranquility)
	if !wait || err != nil && !errors.Is(err, scrub.ErrRunning) {
		return err
	}
	return c.care.scrub.Wait(ctx)
}

// scrubResume takes a tranquility, if it is to be another one.
func (c *controller) scrubResume(words []string) error {
	if len(words) > 0 {
		n, err := strconv.Atoi(words[0])
		if err != nil {
			return fmt.Errorf("scrub resume: tranquility %q is not a number", words[0])
		}
		if err := c.care.scrub.Pace(n); err != nil {
			return err
		}
	}
	return c.care.scrub.Resume()
}

// printScrub says how far a scrub is and what it found.
func printScrub(w io.Writer, r *scrub.Report, dir string, now time.Time) {
	w = advice.Lines(w)
	if r.Phase == scrub.Idle {
		fmt.Fprintln(w, advice.Typed("no scrub was run here: anvilfs scrub start MNT begins one", dir, ""))
		return
	}
	fmt.Fprintf(w, "scrub     %s", r.Phase)
	switch {
	case !r.Ended.IsZero():
		fmt.Fprintf(w, " on %s, took %v", r.Ended.Local().Format("2006-01-02 15:04"), r.Ended.Sub(r.Began).Round(time.Second))
	case r.ETA >= 0:
		fmt.Fprintf(w, ", %s to go", (time.Duration(r.ETA) * time.Second).Round(time.Second))
	}
	fmt.Fprintln(w)
	fmt.Fprintf(w, "verified  %s of about %s", human(uint64(r.Bytes)), human(uint64(r.BytesTotal)))
	if r.Rate > 0 {
		fmt.Fprintf(w, ", %s/s", human(uint64(r.Rate)))
	}
	fmt.Fprintf(w, "; %d leaves compared", r.Compared)
	switch {
	case r.Snapshots == 1:
		fmt.Fprint(w, ", in 1 snapshot, too")
	case r.Snapshots > 1:
		fmt.Fprintf(w, ", in %d snapshots, too", r.Snapshots)
	}
	fmt.Fprintln(w)
	fmt.Fprintf(w, "found     %d bad, %d differing; %d repaired, %d not\n", r.Bad, r.Differing, r.Repaired, r.Unrepaired)
	for _, a := range r.Absent {
		fmt.Fprintf(w, "  %s: not verified: it was %s\n", a.Node, a.State)
	}
	for i := range r.Lanes {
		if l := &r.Lanes[i]; l.Err != "" {
			fmt.Fprintf(w, "  %s: not verified to the end: %s\n", l.Node, l.Err)
		}
	}
	for i := range r.Lost {
		fmt.Fprintf(w, "  %s on %s %s\n", advice.Printable(r.Lost[i].Path), r.Lost[i].Node, r.Lost[i].What)
	}
	if r.Err != "" {
		fmt.Fprintf(w, "error     %s\n", r.Err)
	}
	if r.Next.After(now) {
		fmt.Fprintf(w, "next      %s\n", r.Next.Local().Format("2006-01-02 15:04"))
	}
}
