package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
)

// What is written to the control file comes from scripts, too, which see no help: a
// word that a command would do without is refused, as it may be what was meant.

// oneCommand refuses several lines in one write: of these the first would be carried
// out, with all that follows as its words.
func oneCommand(line string) error {
	if strings.Contains(strings.TrimSpace(line), "\n") {
		return errors.New("one command is taken by one write, and there is a line end in it: nothing was done")
	}
	return nil
}

// nothingMore refuses words behind a command but for those that may be there.
func nothingMore(command string, rest []string, may ...string) error {
	for _, w := range rest {
		if !slices.Contains(may, w) {
			return fmt.Errorf("%s does not take %q: help lists what it does; nothing was done", command, w)
		}
	}
	return nil
}

// nodeWords refuses words behind the node of a command about it.
func nodeWords(verb string, rest []string) error {
	may := map[string][]string{"add": {"-f"}, "replace": {"-f"}, "discard": {"--force", "--all"}}[verb]
	switch {
	case verb == "replace" && len(rest) > 0: // the device
		rest = rest[1:]
	case verb == "add":
		if i := slices.Index(rest, "--role"); i >= 0 {
			rest = slices.Delete(slices.Clone(rest), i, min(i+2, len(rest)))
		}
	}
	return nothingMore("node "+verb, rest, may...)
}

// Ask carries out one line that changes nothing.
func (c *controller) Ask(ctx context.Context, line string, w io.Writer) error {
	if words, err := splitWords(line); err == nil && !looks(words) {
		return syscall.EROFS
	}
	return c.Command(ctx, line, w)
}

// looks reports whether a command changes nothing, whatever the mount is.
func looks(words []string) bool {
	if len(words) == 0 {
		return true
	}
	verb := words[0]
	switch strings.Join(words[:min(2, len(words))], " ") {
	case "errors list", "conflicts list", "scrub status", "snapshot list", "quota list", "quota show":
		return true
	case "snapshot policy":
		sets := func(w string) bool { return strings.HasPrefix(w, "-") && w != "--" && !strings.HasPrefix(w, "--json") }
		return !slices.ContainsFunc(words[2:], sets)
	}
	return verb == "help" || verb == "status" || verb == "pid" || verb == "wait" || verb == "du"
}
