package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A directory of the branch does not take the place of a file: both stay, and what
// to do is said.
func TestResolveDirectoryOverFile(t *testing.T) {
	dir := t.TempDir()
	copied := filepath.Join(dir, "x.conflict-n-1")
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(copied, 0o700); err != nil {
		t.Fatal(err)
	}
	k := &conflictJSON{Path: "x", Copy: "x.conflict-n-1"}
	err := settle(io.Discard, dir, k, keepOurs)
	if err == nil || !strings.Contains(err.Error(), "x.conflict-n-1 is a directory, and x is none") {
		t.Fatalf("settle: %v", err)
	}
	for _, name := range []string{copied, filepath.Join(dir, "x")} {
		if _, err := os.Lstat(name); err != nil {
			t.Fatal(err)
		}
	}
	// Where nothing is in its way, it comes.
	if err := os.Remove(filepath.Join(dir, "x")); err != nil {
		t.Fatal(err)
	}
	if err := settle(io.Discard, dir, k, keepOurs); err != nil {
		t.Fatal(err)
	}
}

// Of what the cluster removed nothing is said to stay.
func TestResolveRemovedThere(t *testing.T) {
	dir := t.TempDir()
	k := &conflictJSON{Path: "x", Copy: "x.conflict-n-1"}
	copied := filepath.Join(dir, k.Copy)
	if err := os.WriteFile(copied, []byte("ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := settle(&out, dir, k, keepTheirs); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(copied); err == nil {
		t.Error("the copy is there")
	}
	if want := "x.conflict-n-1 is removed, as x is in the cluster\n"; out.String() != want {
		t.Errorf("said %q, want %q", out.String(), want)
	}
}
