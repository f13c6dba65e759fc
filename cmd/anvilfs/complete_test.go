package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	dir := t.TempDir() // what a mount shows of its snapshots
	for _, name := range []string{"monday", "before a move"} {
		if err := os.MkdirAll(filepath.Join(dir, ".anvilfs", "snapshots", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for words, want := range map[string]string{
		"wait ":                               "resync\nquorum\nhealthy\nsnapshots\nscrub\n:4\n",
		"node of":                             "offline\tStop using a node and close its device: it can be pulled\n:4\n",
		"snapshot delete " + dir + " b":       "before a move\nmonday\n:4\n",
		"snapshot delete " + dir + " monday ": "before a move\nmonday\n:4\n",
		"snapshot rollback " + dir + " ":      "before a move\nmonday\n:4\n",
		"snapshot create " + dir + " ":        ":4\n",
		"snapshot hold /nowhere ":             ":4\n",
		"node add --role ":                    "master\nslave\nsoft-slave\nsoft-master\ncache\n:4\n",
		"newfs --check ":                      "xxhash64\niscsi32\nsha192\n:4\n",
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
