package main

import (
	"log/slog"
	"strings"
	"testing"
)

// Symptom: a script that wrote two commands at once had one of them done, and no
// error; node offline took one of two nodes that were named, and said of the other
// that it is in sync.
func TestControlTakesNoWordsTooMany(t *testing.T) {
	c := &controller{log: slog.New(slog.DiscardHandler)}
	for _, line := range []string{
		"help\nstatus", "sync\nsnapshot create x\n", "sync now", "status --josn", "status --json x", "pid 1", "help me",
		"bulkfree fast", "wait healthy 1s 2s", "node offline a b", "node online a -f", "node replace a b c", "node add a b",
		"node add a --role slave b", "node discard a -x", "node promote a b", "node remove a b",
	} {
		err := c.Command(t.Context(), line, new(strings.Builder))
		if err == nil || !strings.Contains(err.Error(), "nothing was done") {
			t.Errorf("%q: %v", line, err)
		}
	}
	for verb, rest := range map[string][]string{
		"replace": {"d", "-f"}, "add": {"--role", "slave", "-f"}, "discard": {"--force", "--all"}, "offline": nil,
	} {
		if err := nodeWords(verb, rest); err != nil {
			t.Errorf("node %s %v: %v", verb, rest, err)
		}
	}
	if err := oneCommand("status\n"); err != nil {
		t.Error(err)
	}
}
