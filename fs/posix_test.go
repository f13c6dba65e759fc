package fs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A posixCase is a behaviour that any POSIX filesystem on Linux has. It gets
// an empty directory.
type posixCase struct {
	name string
	run  func(t *testing.T, dir string)
}

// posixCases are all of them.
func posixCases() []posixCase {
	var all []posixCase
	for _, group := range [][]posixCase{nameCases, renameCases, dataCases, holeCases, attrCases, xattrCases} {
		all = append(all, group...)
	}
	return all
}

// posixDirEnv names the directory that a child process runs the cases over.
const posixDirEnv = "ANVILFS_POSIX_DIR"

// TestPOSIX runs the cases over a mounted filesystem, TestPOSIXPlain over the
// directory of tests, to prove the cases.
func TestPOSIX(t *testing.T) {
	dir, _, store := mountMem(t)
	runPOSIX(t, dir)
	t.Run("nothing left", func(t *testing.T) { mustBeEmpty(t, store) })
}

func TestPOSIXPlain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := os.Getenv(posixDirEnv)
	if dir == "" {
		dir = tempDir(t)
	}
	for _, c := range posixCases() {
		t.Run(c.name, func(t *testing.T) {
			sub := filepath.Join(dir, "case")
			must(t, os.Mkdir(sub, 0o755))
			defer func() { must(t, os.RemoveAll(sub)) }()
			c.run(t, sub)
		})
	}
}

// runPOSIX runs the cases over a mount of this process in another one: a page
// fault in a mapped file holds up the Go scheduler, which would then have to
// answer it.
func runPOSIX(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestPOSIXPlain$")
	cmd.Env = append(os.Environ(), posixDirEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// tempDir is a directory that other users can reach.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "anvilfs-fs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mustBeEmpty checks that only the root is left when all files are removed.
func mustBeEmpty(t *testing.T, store *memStore) {
	t.Helper()
	syscall.Sync()
	for range 1000 {
		if store.StatFS().Inodes == 1 {
			return
		}
		syscall.Nanosleep(&syscall.Timespec{Nsec: 1e6}, nil) // forgets arrive by themselves
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	for inum, r := range store.inodes {
		t.Errorf("inode %d is left: a %v of %d bytes, %d links", inum, r.Meta.Type, r.Meta.Size, r.Meta.Nlinks)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

func wantEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	if string(got) != want {
		t.Errorf("%s: %d bytes %.40q, want %d bytes %.40q", filepath.Base(path), len(got), got, len(want), want)
	}
}

func stat(t *testing.T, path string) *syscall.Stat_t {
	t.Helper()
	var st syscall.Stat_t
	must(t, syscall.Lstat(path, &st))
	return &st
}
