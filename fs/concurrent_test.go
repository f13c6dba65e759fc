package fs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// expected are the errors that calls may meet when others race them.
var expected = []error{
	syscall.ENOENT, syscall.EEXIST, syscall.ENOTEMPTY, syscall.EINVAL, syscall.ENOTDIR,
	syscall.EISDIR, syscall.ENODATA, syscall.EPERM, syscall.ESTALE,
}

// TestConcurrent lets many callers fight over few names and checks that the
// tree is whole afterwards, also on the media.
func TestConcurrent(t *testing.T) {
	p := newTestPool(t, 3, 4<<30)
	steps := 600
	if testing.Short() {
		steps = 150
	}
	dirs := []string{"", "a", "b", "a/c"}
	for _, d := range dirs {
		must(t, os.MkdirAll(filepath.Join(p.dir, d), 0o755))
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(worker), 7))
			path := func() string {
				return filepath.Join(p.dir, dirs[rnd.IntN(len(dirs))], fmt.Sprintf("n%d", rnd.IntN(8)))
			}
			for range steps {
				if err := randomCall(rnd, path); err != nil && !isExpected(err) {
					t.Errorf("worker %d: %v", worker, err)
					return
				}
			}
		})
	}
	wg.Wait()
	before := describeTree(t, p.dir)
	p.remount()
	if after := describeTree(t, p.dir); after != before {
		t.Errorf("the tree changed by remounting\n%s\nto\n%s", before, after)
	}
}

func isExpected(err error) bool {
	for _, e := range expected {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func randomCall(rnd *rand.Rand, path func() string) error {
	switch rnd.IntN(11) {
	case 0, 1:
		return os.WriteFile(path(), []byte(strings.Repeat("w", rnd.IntN(3000))), 0o644)
	case 2:
		return os.Mkdir(path(), 0o755)
	case 3:
		return os.Remove(path())
	case 4:
		return os.Rename(path(), path())
	case 5:
		return unix.Renameat2(unix.AT_FDCWD, path(), unix.AT_FDCWD, path(), unix.RENAME_EXCHANGE)
	case 6:
		return os.Link(path(), path())
	case 7:
		return os.Truncate(path(), rnd.Int64N(100000))
	case 8:
		return unix.Setxattr(path(), "user.x", []byte(strings.Repeat("v", rnd.IntN(700))), 0)
	case 9:
		_, err := os.ReadDir(filepath.Dir(path()))
		return err
	}
	_, err := os.ReadFile(path())
	return err
}

// describeTree lists what is below dir and checks link counts.
func describeTree(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	names := map[uint64]uint64{}
	links := map[uint64]uint64{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st := stat(t, path)
		buf := make([]byte, 1000)
		n, err := unix.Lgetxattr(path, "user.x", buf)
		if err != nil {
			n = -1
		}
		fmt.Fprintf(&out, "%s %o inode %d size %d xattr %d\n", path[len(dir):], st.Mode, st.Ino, st.Size, n)
		if !d.IsDir() {
			names[st.Ino]++
			links[st.Ino] = uint64(st.Nlink)
		}
		return nil
	})
	must(t, err)
	for ino, n := range names {
		if links[ino] != n {
			t.Errorf("inode %d has %d names and counts %d links", ino, n, links[ino])
		}
	}
	return out.String()
}
