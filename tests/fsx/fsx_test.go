package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// On a plain directory it finds nothing to complain of, and what it leaves is
// a state of its history.
func TestOnAPlainDirectory(t *testing.T) {
	dir, history := t.TempDir(), filepath.Join(t.TempDir(), "history")
	for seed := range int64(3) {
		stop := make(chan os.Signal, 1)
		timer := time.AfterFunc(200*time.Millisecond, func() { stop <- syscall.SIGTERM })
		err := work(dir, history, seed, stop)
		timer.Stop()
		if err != nil {
			t.Fatal(err)
		}
		if err := check(dir, history); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(history + ".ops")
	if err != nil || strings.Count(string(text), "\n") < 50 {
		t.Fatalf("%d calls in a fifth of a second, %v", strings.Count(string(text), "\n"), err)
	}
}

// What was never there is noticed, be it a byte, a name, or one of two names
// that stand for one file.
func TestCheckNotices(t *testing.T) {
	dir, history := t.TempDir(), filepath.Join(t.TempDir(), "history")
	path := func(name string) string { return filepath.Join(dir, name) }
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.WriteFile(path("a"), []byte("one"), 0o600))
	do(os.Link(path("a"), path("b")))
	first, err := scan(dir)
	do(err)
	before := first.String()
	do(os.WriteFile(path("a"), []byte("two"), 0o600))
	second, err := scan(dir)
	do(err)
	do(os.WriteFile(history, []byte(before+second.String()), 0o600))
	do(check(dir, history))
	do(os.WriteFile(path("a"), []byte("one"), 0o600))
	do(check(dir, history))
	for what, damage := range map[string]func() error{
		"byte":  func() error { return os.WriteFile(path("a"), []byte("onE"), 0o600) },
		"tail":  func() error { return os.WriteFile(path("a"), []byte("one\x00"), 0o600) },
		"extra": func() error { return os.WriteFile(path("c"), nil, 0o600) },
		"mode":  func() error { return os.Chmod(path("a"), 0o640) },
		"two": func() error {
			if err := os.Remove(path("b")); err != nil {
				return err
			}
			return os.WriteFile(path("b"), []byte("one"), 0o600)
		},
	} {
		do(damage())
		if err := check(dir, history); err == nil {
			t.Errorf("%s: not noticed", what)
		}
		for _, name := range []string{"a", "b", "c"} {
			_ = os.Remove(path(name)) // some are not there
		}
		do(os.WriteFile(path("a"), []byte("one"), 0o600))
		do(os.Link(path("a"), path("b")))
	}
}
