package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/cluster"
)

func statusCommand() *cobra.Command {
	var asJSON, check, exact bool
	c := &cobra.Command{
		Use:   "status [MNT] [INTERVAL]",
		Short: "Show a mount and its nodes, worst first",
		Long: `Status shows the mount MNT, or every anvilfs mount of this system. With an
INTERVAL in seconds it repeats until interrupted.

With --check it prints one line and ends with 0 (healthy), 1 (works, something
needs care) or 2 (no majority, or no answer), as monitoring systems want it.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			dirs, every, err := statusWords(args)
			if err != nil {
				return err
			}
			show := func() error {
				switch {
				case check:
					return checkStatus(c.Context(), c.OutOrStdout(), dirs)
				case asJSON:
					return jsonStatus(c.Context(), c.OutOrStdout(), dirs)
				}
				return textStatus(c.Context(), c.OutOrStdout(), dirs, exact)
			}
			for {
				if err := show(); err != nil || every == 0 {
					return err
				}
				select {
				case <-time.After(every):
					fmt.Fprintln(c.OutOrStdout())
				case <-c.Context().Done():
					return nil
				}
			}
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the whole status as JSON")
	c.Flags().BoolVar(&check, "check", false, "one line, and an exit code for monitoring")
	c.Flags().BoolVarP(&exact, "exact", "p", false, "print bytes as plain numbers")
	return c
}

// statusWords reads [MNT] [INTERVAL].
func statusWords(args []string) (dirs []string, every time.Duration, err error) {
	if n := len(args); n > 0 {
		if d, err := parseSeconds(args[n-1]); err == nil {
			every, args = d, args[:n-1]
		} else if n == 2 {
			return nil, 0, usageError("%q is not a number of seconds", args[1])
		}
	}
	if len(args) > 0 {
		return args, every, nil
	}
	list, err := anvilMounts()
	if err != nil {
		return nil, 0, err
	}
	for _, m := range list {
		dirs = append(dirs, m.target)
	}
	if len(dirs) == 0 {
		return nil, 0, errors.New("no anvilfs filesystem is mounted here")
	}
	return dirs, every, nil
}

func statusOf(ctx context.Context, dir string) (*mountStatus, error) {
	b, err := readStatus(ctx, dir)
	if err != nil {
		return nil, err
	}
	var st mountStatus
	if err := json.Unmarshal(b, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return &st, nil
}

func textStatus(ctx context.Context, w io.Writer, dirs []string, exact bool) (failed error) {
	for i, dir := range dirs {
		if i > 0 {
			fmt.Fprintln(w)
		}
		st, err := statusOf(ctx, dir)
		if err != nil && len(dirs) > 1 {
			fmt.Fprintf(w, "%s: %v\n", dir, err) // the others are still worth seeing
			failed = exitWith(exitFailed, "not every mount answered")
			continue
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s on %s\n", st.Label, dir)
		printStatus(w, &st.Status, exact)
	}
	return failed
}

func jsonStatus(ctx context.Context, w io.Writer, dirs []string) error {
	for _, dir := range dirs {
		b, err := readStatus(ctx, dir)
		if err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// checkStatus prints one line for each mount; the worst decides the code.
func checkStatus(ctx context.Context, w io.Writer, dirs []string) error {
	code := exitOK
	for _, dir := range dirs {
		st, err := statusOf(ctx, dir)
		switch {
		case err != nil:
			fmt.Fprintf(w, "CRITICAL %s: %v\n", dir, err)
			code = checkCritical
		case st.Health == cluster.PoolStalled:
			fmt.Fprintf(w, "CRITICAL %s: no majority of masters: %s\n", dir, st.Next)
			code = checkCritical
		case st.Health == cluster.PoolDegraded:
			fmt.Fprintf(w, "WARNING %s: degraded: %s\n", dir, worst(&st.Status))
			code = max(code, checkWarning)
		default:
			fmt.Fprintf(w, "OK %s: %s, %d nodes\n", dir, st.Health, len(st.Nodes))
		}
	}
	if code != exitOK {
		return &exitError{code: code}
	}
	return nil
}

func worst(st *cluster.Status) string {
	if st.CommitError != "" {
		return st.CommitError
	}
	if len(st.Nodes) == 0 {
		return "no nodes"
	}
	return describeNode(&st.Nodes[0])
}

// printStatus is the status for people.
func printStatus(w io.Writer, st *cluster.Status, exact bool) {
	size := human
	if exact {
		size = func(n uint64) string { return fmt.Sprint(n) }
	}
	fmt.Fprintf(w, "  state   %s%s\n", st.Health, quorumWords(st))
	if st.CommitError != "" {
		fmt.Fprintf(w, "  error   %s\n", st.CommitError)
	}
	if st.Next != "" {
		fmt.Fprintf(w, "  action  %s\n", st.Next)
	}
	fmt.Fprintf(w, "  space   %s free of %s", size(st.Space.Avail), size(st.Space.Total))
	if st.Space.Pending > 0 {
		fmt.Fprintf(w, ", %s more in a moment", size(st.Space.Pending))
	}
	fmt.Fprintf(w, "\n  tid     %s", st.Committed)
	if st.Dirty.Bytes > 0 || st.Dirty.Leaves > 0 {
		fmt.Fprintf(w, ", %s not yet written", size(uint64(max(st.Dirty.Bytes, 0))))
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "  NODE\tROLE\tSTATE\tTID\tFREE\tBAD/FIXED")
	for i := range st.Nodes {
		n := &st.Nodes[i]
		state := string(n.State)
		if n.Focus {
			state += " *"
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\t%s\t%d/%d\n", n.Name, n.Role, state, n.T, size(n.Free), n.Bad, n.Repaired)
	}
	_ = tw.Flush() // an error shows in w's own writes
	for i := range st.Nodes {
		if n := &st.Nodes[i]; n.Error != "" {
			fmt.Fprintf(w, "  %s: %s\n", n.Name, n.Error)
		}
		if line := resyncWords(st.Nodes[i].Resync); line != "" {
			fmt.Fprintf(w, "  %s: %s\n", st.Nodes[i].Name, line)
		}
	}
}

func quorumWords(st *cluster.Status) string {
	q := st.Quorum
	if q.Masters < 2 || st.Health == cluster.PoolReadOnly {
		return ""
	}
	held := "a majority holds"
	if !q.Held {
		held = "no majority"
	}
	return fmt.Sprintf(": %s (%d of %d masters in sync, %d needed)", held, q.InSync, q.Masters, q.Need)
}

// describeNode is a node in one line.
func describeNode(n *cluster.NodeStatus) string {
	s := fmt.Sprintf("%s is %s", n.Name, n.State)
	if n.Error != "" {
		s += ": " + n.Error
	}
	if n.Next != "" {
		s += " (" + n.Next + ")"
	}
	return s
}

// resyncWords is a resync's report in one line. Behind the control file it
// is whatever JSON says; it is read back by its names.
func resyncWords(report any) string {
	if report == nil {
		return ""
	}
	b, err := json.Marshal(report)
	if err != nil {
		return ""
	}
	var r struct {
		State      string  `json:"state"`
		Err        string  `json:"error"`
		Path       string  `json:"path"`
		BytesDone  int64   `json:"bytes_done"`
		BytesLeft  int64   `json:"bytes_left"`
		LeavesDone int64   `json:"leaves_done"`
		Rate       float64 `json:"bytes_per_second"`
		ETA        float64 `json:"eta_seconds"`
		Round      int     `json:"round"`
	}
	if json.Unmarshal(b, &r) != nil || r.State == "" {
		return ""
	}
	parts := []string{"resync " + r.State}
	if r.LeavesDone > 0 {
		parts = append(parts, fmt.Sprintf("%s in %d changes copied", human(uint64(max(r.BytesDone, 0))), r.LeavesDone))
	}
	if r.BytesLeft > 0 {
		parts = append(parts, fmt.Sprintf("about %s left", human(uint64(r.BytesLeft))))
	}
	if r.Rate > 0 && r.BytesLeft > 0 {
		parts = append(parts, fmt.Sprintf("%s/s, %s to go", human(uint64(r.Rate)), time.Duration(r.ETA*float64(time.Second)).Round(time.Second)))
	}
	if r.Path != "" {
		parts = append(parts, "at "+r.Path)
	}
	if r.Err != "" {
		parts = append(parts, r.Err)
	}
	return strings.Join(parts, ", ")
}
