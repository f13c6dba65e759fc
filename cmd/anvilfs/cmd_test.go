package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/ondisk"
)

// anvil runs a command line in this process.
func anvil(t *testing.T, want int, words ...string) (out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	if code := run(context.Background(), append([]string{"anvilfs"}, words...), &o, &e); code != want {
		t.Fatalf("anvilfs %s: exit %d, want %d\n%s%s", strings.Join(words, " "), code, want, o.String(), e.String())
	}
	return o.String(), e.String()
}

func TestWrongCommandLines(t *testing.T) {
	for _, c := range []struct {
		words string
		code  int
	}{
		{"frobnicate", exitUsage}, {"newfs", exitUsage}, {"newfs --bogus a", exitUsage}, {"mount", exitUsage},
		{"node", exitOK}, {"node frobnicate", exitUsage}, {"node offline /mnt", exitUsage}, {"sync", exitUsage},
		{"wait", exitUsage}, {"wait soon", exitUsage}, {"wait soon /nowhere", exitUsage},
		{"newfs -L LOCAL a", exitUsage}, {"newfs -L .anvilfs-x a", exitUsage}, {"newfs a,,b", exitUsage},
		{"mount a,a@HOME /mnt", exitUsage}, {"fsck a,b", fsckOperational},
		{"status --json -x", exitUsage}, {"status --check --json", exitUsage}, {"status --check -x", exitUsage},
		{"node add --slave --role soft-slave /nowhere a", exitUsage}, {"fsck", fsckUsage}, {"fsck /nowhere", fsckOperational}, {"status /nowhere", exitFailed},
		{"status --check /nowhere", checkCritical}, {"show", exitOK}, {"show volume", exitUsage}, {"umount /nowhere", exitMount},
		{"sync /proc", exitFailed}, {"show volume /nowhere", exitFailed}, {"pfs list /nowhere", exitFailed},
	} {
		_, said := anvil(t, c.code, strings.Fields(c.words)...)
		if c.code != exitOK && c.words != "status --check /nowhere" && strings.Count(said, "\n") != 1 {
			t.Errorf("anvilfs %s: not one sentence: %q", c.words, said)
		}
	}
}

// Every command says what it does, and what its options mean.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", c.CommandPath(), c.Short)
		}
		if c.Runnable() && c.HasParent() && !c.HasSubCommands() && c.Args == nil {
			t.Errorf("%s does not check its words", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(os.Stdout, os.Stderr))
}

func TestNewfs(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	out, _ := anvil(t, exitOK, "newfs", "-L", "HOME", "-s", "64m", "--slave", c, a, b)
	for _, want := range []string{"master", "slave", "64 MiB", "needs both masters", "anvilfs mount " + a + "," + b + "," + c + "@HOME DIR"} {
		if !strings.Contains(out, want) {
			t.Errorf("newfs does not say %q:\n%s", want, out)
		}
	}
	if out, _ := anvil(t, exitOK, "fsck", a, b, c); strings.Count(out, ": clean: ") != 3 {
		t.Errorf("fsck: %s", out)
	}
	if _, said := anvil(t, exitFailed, "newfs", "-L", "X", a); !strings.Contains(said, "HAMMER2") || !strings.Contains(said, "-f") {
		t.Errorf("newfs over a volume: %s", said)
	}
	if out, _ := anvil(t, exitOK, "newfs", "-n", "-f", "-L", "X", a); !strings.Contains(out, "would become") {
		t.Errorf("dry run: %s", out)
	}
	if out, _ := anvil(t, exitOK, "pfs", "list", "-H", a); !strings.Contains(out, "HOME") {
		t.Errorf("pfs list: %s", out)
	}
	d := filepath.Join(dir, "d")
	anvil(t, exitFailed, "newfs", "-s", "1m", d)
	if _, err := os.Stat(d); err == nil {
		t.Error("a newfs that failed left its file behind")
	}
	anvil(t, exitUsage, "newfs", "-s", "64m", "--check", "none", d)
	if _, said := anvil(t, exitUsage, "newfs", "-s", "64m", d, "--cache", d+"1", "--cache", d+"2"); !strings.Contains(said, "2 caches") {
		t.Errorf("two caches: %s", said)
	}
}

// Damage is told by name and by exit code.
func TestFsckTells(t *testing.T) {
	a := filepath.Join(t.TempDir(), "a")
	anvil(t, exitOK, "newfs", "-q", "-s", "64m", a)
	anvil(t, fsckClean, "fsck", "-q", a)
	image, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ondisk.DecodeVolumeHeader(image[:ondisk.HeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	image[h.Sroot[0].Off()+100] ^= 1
	if err := os.WriteFile(a, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := anvil(t, fsckUncorrected, "fsck", "-q", a); !strings.Contains(out, "check code") {
		t.Errorf("fsck: %s", out)
	}
}

func TestPFS(t *testing.T) {
	a := filepath.Join(t.TempDir(), "a")
	anvil(t, exitOK, "newfs", "-q", "-s", "64m", a)
	anvil(t, exitOK, "pfs", "create", a, "EXTRA")
	if out, _ := anvil(t, exitOK, "pfs", "list", a); !strings.Contains(out, "EXTRA") || !strings.Contains(out, "DATA") {
		t.Errorf("pfs list: %s", out)
	}
	anvil(t, exitFailed, "pfs", "create", a, "EXTRA")
	anvil(t, exitOK, "pfs", "delete", a, "EXTRA")
	anvil(t, exitFailed, "pfs", "delete", a, "EXTRA")
	anvil(t, exitOK, "fsck", a)
	for _, words := range [][]string{{"volume", a}, {"pfs", a}, {"freemap", a}, {"chain", a}, {"inode", a, "DATA", "1"}} {
		if out, _ := anvil(t, exitOK, append([]string{"show"}, words...)...); out == "" {
			t.Errorf("show %v shows nothing", words)
		}
	}
	anvil(t, exitOK, "bulkfree", a)
}

func TestSignatures(t *testing.T) {
	a := filepath.Join(t.TempDir(), "a")
	anvil(t, exitOK, "newfs", "-q", "-s", "64m", "-L", "HOME", a)
	anvil(t, exitOK, "pfs", "create", a, "EXTRA")
	if found, err := signatureOf(a); err != nil || !strings.HasPrefix(found, "a HAMMER2 volume with EXTRA, HOME (file system id ") && !strings.HasPrefix(found, "a HAMMER2 volume with HOME, EXTRA (file system id ") {
		t.Errorf("%q, %v", found, err)
	}
	for export, want := range map[string]string{
		"DEVNAME=x\nUUID=1\nTYPE=ext4\nUSAGE=filesystem\n": "ext4 (filesystem signature)",
		"PTTYPE=gpt\n": "a gpt partition table",
		"":             "",
	} {
		if got := describeBlkid(export); got != want {
			t.Errorf("%q: %q, want %q", export, got, want)
		}
	}
}

// Symptom: get all, without a path, said that there is no file all.
func TestGetWithoutAFile(t *testing.T) {
	for words, want := range map[string]string{
		"all": "behind the properties", "compression": "behind the properties", "chekc": "nor a property", "chekc /": "nor a property",
	} {
		code := exitUsage
		if strings.HasPrefix(words, "chekc") {
			code = exitFailed
		}
		if _, said := anvil(t, code, append([]string{"get"}, strings.Fields(words)...)...); !strings.Contains(said, want) {
			t.Errorf("get %s: %s", words, said)
		}
	}
}

// What is wrong does not end a status that is shown again and again.
func TestStatusRepeats(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	shown := 0
	err := repeat(ctx, io.Discard, time.Millisecond, func() error {
		if shown++; shown == 3 {
			cancel()
		}
		return &exitError{code: checkWarning}
	})
	if shown < 3 || exitCode(err) != checkWarning {
		t.Errorf("shown %d times: %v", shown, err)
	}
	if err := repeat(t.Context(), io.Discard, time.Millisecond, func() error { return io.EOF }); err != io.EOF {
		t.Errorf("a mount that is gone: %v", err)
	}
}
