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
		"setcomp ":                            "lz4\nnone\nautozero\nzlib\n:4\n",
		"get ":                                "all\ncompression\ncheck\n:4\n",
		"get check /":                         ":0\n",
		// No mount is there to ask.
		"node offline /nowhere ": ":4\n",
	} {
		args := append([]string{"__complete"}, strings.Split(words, " ")...)
		if out, _ := anvil(t, exitOK, args...); out != want {
			t.Errorf("%q: %q, want %q", words, out, want)
		}
	}
}

// Options are offered behind others, and each is one that a mount takes.
func TestCompletionOfOptions(t *testing.T) {
	out, _ := anvil(t, exitOK, "__complete", "mount", "-o", "ro,no")
	values := map[string]string{
		"commit=": "5", "memory=": "64m", "deadline=": "5", "wait=": "5", "log=": t.TempDir() + "/log", "state=": t.TempDir() + "/state",
		"hook=": "/bin/true", "metrics=": "127.0.0.1:9100", "scrub=": "30d", "x-systemd.device-timeout=": "5",
	}
	words := strings.Fields(out)
	if len(words) != len(optionWords)+1 || words[len(words)-1] != ":6" {
		t.Fatalf("%q", out)
	}
	for _, w := range words[:len(words)-1] {
		word, ok := strings.CutPrefix(w, "ro,")
		if _, err := parseMountOptions([]string{word + values[word]}, false); err != nil || !ok {
			t.Errorf("%q is offered: %v", w, err)
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
