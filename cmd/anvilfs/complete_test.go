package main

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	for words, want := range map[string]string{
		"wait ":   "resync\nquorum\nhealthy\nsnapshots\nscrub\n:4\n",
		"node of": "offline\tStop using a node and close its device: it can be pulled\n:4\n",
		// No mount is there to ask.
		"node offline /nowhere ": ":4\n",
	} {
		args := append([]string{"__complete"}, strings.Split(words, " ")...)
		if out, _ := anvil(t, exitOK, args...); out != want {
			t.Errorf("%q: %q, want %q", words, out, want)
		}
	}
}

// What shells load must at least be what they can read.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, _ := anvil(t, exitOK, "completion", shell)
		if len(script) < 1000 {
			t.Errorf("%s: only %d bytes", shell, len(script))
		}
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		cmd := exec.CommandContext(context.Background(), shell, "-n")
		cmd.Stdin = bytes.NewReader([]byte(script))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
}
