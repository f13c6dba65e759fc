package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

func statusCommand() *cobra.Command {
	var asJSON, check, wrong, exact bool
	c := &cobra.Command{
		Use:   "status [MNT...] [INTERVAL]",
		Short: "Show mounts and their nodes: what is wrong, at risk, and to be typed next",
		Long: `Status shows the mounts MNT, or every anvilfs mount of this system, the worst
first. With an INTERVAL in seconds it repeats until interrupted.

With -x it shows only what is wrong. With --check it prints one line for each
mount, as monitoring systems want it. Both end with 0 (healthy), 1 (works,
something needs care) or 2 (no majority, or no answer).`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if check && wrong || check && asJSON || wrong && asJSON {
				return usageError("--check, -x and --json are three ways to show it: give one of them")
			}
			dirs, every, err := statusWords(args)
			if err != nil {
				return err
			}
			show := func() error {
				switch {
				case check:
					return checkStatus(c.Context(), c.OutOrStdout(), dirs)
				case wrong:
					return wrongStatus(c.Context(), c.OutOrStdout(), dirs, exact)
				case asJSON:
					return jsonStatus(c.Context(), c.OutOrStdout(), dirs)
				}
				return textStatus(c.Context(), c.OutOrStdout(), dirs, exact)
			}
			return repeat(c.Context(), c.OutOrStdout(), every, show)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the whole status as JSON")
	c.Flags().BoolVar(&check, "check", false, "one line, and an exit code for monitoring")
	c.Flags().BoolVarP(&wrong, "wrong", "x", false, "only what is wrong, and an exit code for scripts")
	c.Flags().BoolVarP(&exact, "exact", "p", false, "print bytes as plain numbers")
	return c
}

// repeat shows once, or again and again until it is interrupted. That something is
// wrong ends nothing: it is what is looked for.
func repeat(ctx context.Context, w io.Writer, every time.Duration, show func() error) error {
	for {
		err := show()
		var code *exitError
		if every == 0 || err != nil && !(errors.As(err, &code) && code.err == nil) {
			return err
		}
		select {
		case <-time.After(every):
			fmt.Fprintln(w)
		case <-ctx.Done():
			return err
		}
	}
}

// statusWords reads [MNT...] [INTERVAL].
func statusWords(args []string) (dirs []string, every time.Duration, err error) {
	if n := len(args); n > 0 {
		if d, err := parseSeconds(args[n-1]); err == nil {
			every, args = d, args[:n-1]
		} else if n > 1 && !strings.Contains(args[n-1], "/") {
			if _, err := os.Stat(args[n-1]); err != nil {
				return nil, 0, usageError("%q is neither a directory nor a number of seconds", args[n-1])
			}
		}
	}
	dirs, err = mountsOr(args)
	return dirs, every, err
}

func statusOf(ctx context.Context, dir string) (*mountStatus, error) {
	b, err := readStatus(ctx, dir)
	if err != nil {
		return nil, err
	}
	var st mountStatus
	if err := rawjson.Unmarshal(b, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return &st, nil
}

// A looked is a mount and what it answered.
type looked struct {
	dir    string
	st     *mountStatus
	err    error // it did not answer
	advice []advice.Advice
}

// look asks all mounts at once and sorts them, the worst first: one that hangs
// must not hold up the others.
func look(ctx context.Context, dirs []string, size func(uint64) string) []looked {
	list := make([]looked, len(dirs))
	var wg sync.WaitGroup
	for i, dir := range dirs {
		wg.Go(func() {
			l := looked{dir: dir}
			if l.st, l.err = statusOf(ctx, dir); l.err == nil {
				l.advice = l.st.advice(dir, size)
			}
			list[i] = l
		})
	}
	wg.Wait()
	slices.SortStableFunc(list, func(a, b looked) int { return cmp.Compare(b.code(), a.code()) })
	return list
}

// code is the exit code that a mount asks for.
func (l *looked) code() int {
	worst, wrong := advice.Worst(l.advice)
	switch {
	case l.err != nil || worst == advice.Critical:
		return checkCritical
	case wrong:
		return checkWarning
	}
	return exitOK
}

func textStatus(ctx context.Context, w io.Writer, dirs []string, exact bool) (failed error) {
	w = advice.Lines(w)
	for i, l := range look(ctx, dirs, sizes(exact)) {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if l.err != nil && len(dirs) > 1 {
			fmt.Fprintf(w, "%s: %v\n", l.dir, l.err) // the others are still worth seeing
			failed = exitWith(exitFailed, "not every mount answered")
			continue
		}
		if l.err != nil {
			return l.err
		}
		fmt.Fprintf(w, "%s on %s\n", l.st.Label, l.dir)
		printStatus(w, l.st, l.dir, exact)
	}
	return failed
}

// wrongStatus prints only what is wrong; the worst decides the code.
func wrongStatus(ctx context.Context, w io.Writer, dirs []string, exact bool) error {
	w = advice.Lines(w)
	code := exitOK
	for _, l := range look(ctx, dirs, sizes(exact)) {
		code = max(code, l.code())
		switch {
		case l.err != nil:
			fmt.Fprintf(w, "%s: no answer\n  wrong   %v\n", l.dir, l.err)
		case l.code() != exitOK:
			fmt.Fprintf(w, "%s on %s: %s\n", l.st.Label, l.dir, l.st.Health)
			printAdvice(w, l.advice, advice.Warning)
		}
	}
	if code != exitOK {
		return &exitError{code: code}
	}
	_, err := fmt.Fprintf(w, "nothing is wrong (mounts looked at: %d)\n", len(dirs))
	return err
}

// jsonStatus prints the objects of all that answer, whoever does not.
func jsonStatus(ctx context.Context, w io.Writer, dirs []string) (failed error) {
	for _, dir := range dirs {
		b, err := readStatus(ctx, dir)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return failed
}

// checkStatus prints one line for each mount; the worst decides the code.
func checkStatus(ctx context.Context, w io.Writer, dirs []string) error {
	w = advice.Lines(w)
	code := exitOK
	for _, l := range look(ctx, dirs, human) {
		code = max(code, l.code())
		switch l.code() {
		case checkCritical:
			fmt.Fprintf(w, "CRITICAL %s: %s\n", l.dir, l.reason())
		case checkWarning:
			fmt.Fprintf(w, "WARNING %s: %s: %s\n", l.dir, l.st.Health, l.reason())
		default:
			fmt.Fprintf(w, "OK %s: %s, %d nodes\n", l.dir, l.st.state(), len(l.st.Nodes))
		}
	}
	if code != exitOK {
		return &exitError{code: code}
	}
	return nil
}

// reason is the worst there is to say, without its full stop.
func (l *looked) reason() string {
	if l.err != nil {
		return l.err.Error()
	}
	return strings.TrimSuffix(l.advice[0].What, ".")
}
