package ledger

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// A ledger in which nothing is leaves no file; one with anything in it stays, and so
// does one that a person named.
func TestEmptyLedgerGoesAway(t *testing.T) {
	for _, c := range []struct {
		name  string
		named bool
		use   func(l *Ledger)
		stays bool
	}{
		{"nothing", false, func(*Ledger) {}, false},
		{"named", true, func(*Ledger) {}, true},
		{"bad", false, func(l *Ledger) { must(t, l.Found(damage("a", 1), "/f", errors.New("bad"))) }, true},
		{"repaired", false, func(l *Ledger) { must(t, l.Found(damage("a", 1), "/f", nil)) }, true},
		{"job", false, func(l *Ledger) { must(t, l.SaveJob("scrub", 7)) }, true},
		{"cleared", false, func(l *Ledger) {
			must(t, l.Found(damage("a", 1), "/f", errors.New("bad")))
			_, err := l.Clear(true)
			must(t, err)
		}, false},
		{"job, cleared", false, func(l *Ledger) {
			must(t, l.SaveJob("scrub", 7))
			_, err := l.Clear(true)
			must(t, err)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			for range 2 { // also when it was there before
				l, err := Open(path, Options{Named: c.named})
				must(t, err)
				c.use(l)
				held := state(t, l)
				must(t, l.Close())
				if exists(t, path) != c.stays {
					t.Fatalf("with %s in it, it is there: %v, want %v", held, !c.stays, c.stays)
				}
			}
		})
	}
}

// A mount that waits for the file while another one ends, and takes it away, has a
// file that the next mount finds.
func TestLedgerTakenAwayWhileWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	first := open(t, path)
	done := make(chan *Ledger)
	go func() {
		l, err := openSound(path, false)
		if err != nil {
			t.Error(err)
		}
		done <- l
	}()
	waitOpened(t, path, 2)
	must(t, first.Close())
	l := <-done
	if l == nil {
		return
	}
	must(t, l.Found(damage("a", 1), "/f", errors.New("bad")))
	must(t, l.Close())
	l = open(t, path)
	if r := l.Report(); r.Bad != 1 {
		t.Errorf("what was written is lost: %+v", r)
	}
	must(t, l.Close())
}

// waitOpened returns once a file is open n times here.
func waitOpened(t *testing.T, path string, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		fds, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		have := 0
		for _, fd := range fds {
			if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == path {
				have++
			}
		}
		if have >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("open %d times", have)
		}
	}
}

// A file that was moved while it was in use is somebody's, and so is what has its
// name now.
func TestLedgerMovedIsLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	l := open(t, path)
	must(t, os.Rename(path, path+".old"))
	must(t, os.WriteFile(path, []byte("another"), 0o600))
	must(t, l.Close())
	if !exists(t, path) || !exists(t, path+".old") {
		t.Error("one of them is gone")
	}
}

// What is left of a filesystem that ended goes, whatever it holds; what is in use,
// or something else, stays.
func TestRemove(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	must(t, Remove(path))
	l := open(t, path)
	must(t, l.Found(damage("a", 1), "/f", errors.New("bad")))
	must(t, l.SaveJob("scrub", 7))
	if err := Remove(path); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), path) {
		t.Errorf("in use: %v", err)
	}
	must(t, l.Close())
	if !exists(t, path) {
		t.Fatal("it was taken away while it was in use")
	}
	must(t, Remove(path))
	if exists(t, path) {
		t.Error("it is still there")
	}
	l = open(t, path)
	must(t, l.SaveJob("scrub", 7))
	must(t, l.Close())
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{1}, 64), int64(os.Getpagesize()*2))
	must(t, err)
	must(t, f.Close())
	must(t, Remove(path)) // damaged
	if exists(t, path) {
		t.Error("a damaged one is still there")
	}
	must(t, os.WriteFile(path, []byte(strings.Repeat("dear reader, ", 1000)), 0o600))
	if err := Remove(path); !errors.Is(err, errForeign) || !exists(t, path) {
		t.Errorf("a letter: %v, it is there: %v", err, exists(t, path))
	}
}
