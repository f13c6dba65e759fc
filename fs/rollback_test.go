package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/ondisk"
)

// rollback is what the control file's command does.
func (p *testPool) rollback(name string) (kept string) {
	p.t.Helper()
	err := p.srv.Rollback(context.Background(), func(func()) (bool, error) {
		var err error
		kept, err = p.pool.SnapshotRollbackSettled(context.Background(), name, true, func(error) {})
		return err == nil, err
	})
	p.check(err)
	return kept
}

func (p *testPool) snapshot(name string) {
	p.t.Helper()
	_, err := p.pool.SnapshotCreate(context.Background(), name, false)
	p.check(err)
}

func open(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o644)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// TestRollbackOpenFiles rolls back under files that are open, mapped, held
// without a name, and under a working directory.
func TestRollbackOpenFiles(t *testing.T) {
	p := newTestPool(t, 3, 2<<30)
	at := func(name string) string { return filepath.Join(p.dir, name) }
	long := strings.Repeat("old content\n", 20000)
	must(t, os.MkdirAll(at("dir/sub"), 0o755))
	write(t, at("stays"), long)
	write(t, at("mapped"), long)
	write(t, at("small"), "inline")
	write(t, at("removed"), "was here")
	write(t, at("dir/moved"), "moved")
	must(t, os.Symlink("before", at("link")))
	must(t, unix.Setxattr(at("small"), "user.x", []byte("old"), 0))
	held := open(t, at("removed"), os.O_RDWR)
	p.snapshot("s")

	stays, small := open(t, at("stays"), os.O_RDWR|os.O_APPEND), open(t, at("small"), os.O_RDWR)
	write(t, at("stays"), "new")
	write(t, at("small"), strings.Repeat("no more inline", 1000))
	must(t, unix.Setxattr(at("small"), "user.x", []byte("new"), 0))
	must(t, os.Remove(at("removed"))) // still held
	must(t, os.Rename(at("dir/moved"), at("dir/sub/elsewhere")))
	must(t, os.Mkdir(at("fresh"), 0o755))
	must(t, os.Remove(at("link")))
	must(t, os.Symlink("after", at("link")))
	write(t, at("fresh/file"), long)
	fresh, freshDir := open(t, at("fresh/file"), os.O_RDWR), open(t, at("fresh"), os.O_RDONLY)
	unnamed := open(t, at("fresh/unnamed"), os.O_CREATE|os.O_RDWR)
	_, err := unnamed.WriteString(long)
	must(t, err)
	must(t, os.Remove(at("fresh/unnamed")))
	mapFile := open(t, at("mapped"), os.O_RDWR)
	m, err := unix.Mmap(int(mapFile.Fd()), 0, len(long), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	copy(m, "changed through the mapping")
	for _, name := range []string{"not there", "fresh/not there"} { // the kernel remembers
		if _, err := os.Stat(at(name)); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
	if _, err := os.Stat(at("dir/moved")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	kept := p.rollback("s")

	wantContent(t, at("stays"), long)
	wantEqual(t, "size by the handle", size(t, stays), int64(len(long)))
	wantContent(t, at("small"), "inline")
	wantContent(t, at("removed"), "was here")
	wantContent(t, at("dir/moved"), "moved")
	wantContent(t, at("mapped"), long)
	wantEqual(t, "the mapping", string(m[:27]), long[:27])
	target, err := os.Readlink(at("link"))
	must(t, err)
	wantEqual(t, "link", target, "before")
	buf := make([]byte, 10)
	n, err := unix.Getxattr(at("small"), "user.x", buf)
	must(t, err)
	wantEqual(t, "attribute", string(buf[:n]), "old")
	names, err := os.ReadDir(p.dir)
	must(t, err)
	var list []string
	for _, e := range names {
		list = append(list, e.Name())
	}
	wantEqual(t, "root", strings.Join(list, " "), "dir link mapped removed small stays")
	if _, err := os.Stat(at("fresh")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("fresh: %v", err)
	}

	// Handles on what is there go on.
	_, err = stays.WriteString("more")
	must(t, err)
	wantContent(t, at("stays"), long+"more")
	_, err = small.WriteAt([]byte("I"), 0)
	must(t, err)
	wantContent(t, at("small"), "Inline")
	_, err = held.WriteAt([]byte("W"), 0)
	must(t, err)
	must(t, held.Close())
	p.sync()
	wantContent(t, at("removed"), "Was here") // closing what had no name takes nothing away

	// On what is not, nothing works, and nothing else is hit.
	for _, f := range []*os.File{fresh, unnamed} {
		use := map[string]error{}
		_, use["write"] = f.WriteAt([]byte("x"), 0)
		_, use["read"] = f.ReadAt(buf, 0)
		_, use["stat"] = f.Stat()
		use["fsync"], use["truncate"], use["chmod"] = f.Sync(), f.Truncate(0), f.Chmod(0o600)
		use["setxattr"] = unix.Fsetxattr(int(f.Fd()), "user.x", buf, 0)
		use["fallocate"] = unix.Fallocate(int(f.Fd()), 0, 0, 1000)
		for what, err := range use {
			if !errors.Is(err, syscall.ESTALE) {
				t.Errorf("%s on %s: %v", what, f.Name(), err)
			}
		}
	}
	if _, err := freshDir.ReadDir(-1); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("reading a directory that is not there: %v", err)
	}
	if _, err := unix.Openat(int(freshDir.Fd()), "x", unix.O_CREAT|unix.O_RDWR, 0o600); !errors.Is(err, syscall.ESTALE) && !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a name in a directory that is not there: %v", err)
	}
	must(t, errors.Join(fresh.Close(), unnamed.Close(), freshDir.Close()))

	// New files do not get the numbers of those that went.
	most := inum(t, filepath.Join(p.dir, "stays"))
	write(t, at("later"), "x")
	if n := inum(t, at("later")); n <= most+8 {
		t.Errorf("inode number %d was given out before", n)
	}

	// And back: what the rollback took away is there again.
	p.rollback(kept)
	wantContent(t, at("stays"), "new")
	wantContent(t, at("fresh/file"), long)
	wantContent(t, at("dir/sub/elsewhere"), "moved")
	wantContent(t, at("mapped"), "changed through the mapping"+long[27:])
	for _, name := range []string{"removed", "dir/moved", "later"} {
		if _, err := os.Stat(at(name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.noOrphans()
	must(t, errors.Join(unix.Munmap(m), stays.Close(), small.Close(), mapFile.Close()))
	p.remount()
	wantContent(t, at("stays"), "new")
	p.noOrphans()
}

// Symptom: a directory that had been removed while something below it was in
// use was empty for ever after a rollback that brought it back.
func TestRollbackRemovedDirectory(t *testing.T) {
	p := newTestPool(t, 1, 1<<30)
	at := func(name string) string { return filepath.Join(p.dir, name) }
	must(t, os.MkdirAll(at("a/b"), 0o755))
	write(t, at("a/b/f"), "x")
	write(t, at("a/g"), "y")
	p.snapshot("s")
	in, dir := open(t, at("a/b/f"), os.O_RDWR), open(t, at("a/b"), os.O_RDONLY)
	for range 2 {
		must(t, os.RemoveAll(at("a")))
		p.rollback("s")
		wantContent(t, at("a/b/f"), "x")
		wantContent(t, at("a/g"), "y")
		for path, want := range map[string]int{"a": 2, "a/b": 1} {
			names, err := os.ReadDir(at(path))
			must(t, err)
			wantEqual(t, "names in "+path, len(names), want)
		}
		_, err := in.WriteAt([]byte("x"), 0)
		must(t, err)
	}
	if _, err := dir.ReadDir(-1); err == nil {
		t.Error("a handle on the directory that was removed reads it")
	}
	write(t, at("a/b/new"), "n")
	must(t, errors.Join(in.Close(), dir.Close()))
	p.remount()
	wantContent(t, at("a/b/new"), "n")
}

// Symptom: what a program appended after a rollback came behind zeros, where the
// file had ended before.
func TestRollbackAppend(t *testing.T) {
	p := newTestPool(t, 1, 1<<30)
	name := filepath.Join(p.dir, "log")
	for _, sizes := range [][3]int{{6, 13, 9}, {13, 6, 9}, {5000, 70000, 10000}, {0, 1 << 20, 3 << 20}, {100000, 4096, 4096}} {
		was, grown, more := strings.Repeat("a", sizes[0]), strings.Repeat("b", sizes[1]), strings.Repeat("c", sizes[2])
		write(t, name, was)
		p.snapshot("s")
		write(t, name, grown)
		f := open(t, name, os.O_RDWR|os.O_APPEND)
		_, err := f.WriteString("!")
		must(t, err)
		p.rollback("s")
		for range 2 {
			_, err = f.WriteString(more)
			must(t, err)
		}
		got, err := os.ReadFile(name)
		must(t, err)
		if want := was + more + more; string(got) != want {
			t.Errorf("%v: %d bytes, not %d, or others", sizes, len(got), len(want))
		}
		must(t, f.Close())
		p.check(p.pool.SnapshotDelete(context.Background(), "s"))
	}
}

// noOrphans waits until nothing without a name is left.
func (p *testPool) noOrphans() {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		n := 0
		walk, err := p.pool.Orphans(context.Background())
		p.check(err)
		p.check(walk(context.Background(), func(uint64) bool { n++; return true }))
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%d orphans are left", n)
		}
	}
}

func (p *testPool) sync() {
	p.t.Helper()
	p.check(p.pool.Sync(context.Background()))
}

func size(t *testing.T, f *os.File) int64 {
	t.Helper()
	st, err := f.Stat()
	must(t, err)
	return st.Size()
}

func inum(t *testing.T, path string) uint64 {
	t.Helper()
	return stat(t, path).Ino
}

// TestRollbackUnderLoad rolls back while writers run. Each file says in its
// content which name it has, so that wrong data is noticed; after each
// rollback what the kernel shows is what a fresh mount would.
func TestRollbackUnderLoad(t *testing.T) {
	p := newTestPool(t, 3, 2<<30)
	content := func(name string, n int) string { return strings.Repeat(fmt.Sprintf("%s %04d\n", name, n), 1+n%700) }
	var names []string
	for i := range 60 {
		dir := fmt.Sprintf("d%d", i%6)
		must(t, os.MkdirAll(filepath.Join(p.dir, dir), 0o755))
		names = append(names, filepath.Join(dir, fmt.Sprint("f", i)))
		write(t, filepath.Join(p.dir, names[i]), content(names[i], i))
	}
	p.snapshot("s")
	var stop atomic.Bool
	var writers sync.WaitGroup
	var calls atomic.Int64
	for w := range 4 {
		writers.Go(func() {
			for n := w; !stop.Load(); n++ {
				name := names[n*7%len(names)]
				path := filepath.Join(p.dir, name)
				// Errors are those of files and directories that went: others
				// show in what is compared.
				switch n % 5 {
				case 0:
					_ = os.WriteFile(path, []byte(content(name, n)), 0o644)
				case 1:
					_ = os.WriteFile(path+".new", []byte(content(name, n)), 0o644)
					_ = os.Rename(path+".new", path)
				case 2:
					_ = os.Remove(path)
				case 3:
					_ = os.MkdirAll(path+".dir/x/y", 0o755)
				case 4:
					if b, err := os.ReadFile(path); err == nil && len(b) > 0 && !bytes.HasPrefix(b, []byte(name+" ")) {
						t.Errorf("%s has %.20q", name, b)
					}
				}
				calls.Add(1)
			}
		})
	}
	for range 6 {
		for before := calls.Load(); calls.Load() < before+200; {
			time.Sleep(time.Millisecond)
		}
		p.rollback("s")
	}
	stop.Store(true)
	writers.Wait()
	p.rollback("s")
	for i, name := range names {
		wantContent(t, filepath.Join(p.dir, name), content(name, i))
	}
	shown := p.listing()
	p.noOrphans()
	p.remount()
	wantEqual(t, "on media", p.listing(), shown)
}

// listing is all names, numbers and sizes.
func (p *testPool) listing() string {
	p.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(p.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil {
			fmt.Fprintln(&b, path, st.Size(), st.ModTime().UnixNano(), st.Sys().(*syscall.Stat_t).Ino)
		}
		return err
	})
	p.check(err)
	return b.String()
}

// TestRollbackRefused leaves everything as it was, and goes on.
func TestRollbackRefused(t *testing.T) {
	p := newTestPool(t, 1, 1<<30)
	write(t, filepath.Join(p.dir, "f"), "x")
	f := open(t, filepath.Join(p.dir, "f"), os.O_RDWR)
	err := p.srv.Rollback(context.Background(), func(func()) (bool, error) {
		_, err := p.pool.SnapshotRollbackSettled(context.Background(), "nothing", true, func(error) {})
		return err == nil, err
	})
	wantErr(t, toErrno(err), syscall.ENOENT)
	_, err = f.WriteAt([]byte("y"), 0)
	must(t, err)
	wantContent(t, filepath.Join(p.dir, "f"), "y")
}

func toErrno(err error) error {
	if err == nil {
		return nil
	}
	return Errno(err)
}

// Symptom: open(2) with O_CREAT answered "File exists", which no program expects,
// where a rollback had just brought a file that the kernel knew not to be there.
func TestCreateOfWhatCameMeanwhile(t *testing.T) {
	dir, s, _ := mountMem(t)
	for i, flags := range []int{os.O_CREATE | os.O_RDWR, os.O_CREATE | os.O_WRONLY | os.O_TRUNC, os.O_CREATE | os.O_EXCL | os.O_RDWR} {
		name := fmt.Sprint("f", i)
		if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Fatal(err)
		}
		rec, err := s.FS.Create(t.Context(), ondisk.InumRoot, name, NewNode{Type: ondisk.ObjFile, Mode: 0o644})
		must(t, err)
		f, err := os.OpenFile(filepath.Join(dir, name), flags, 0o644)
		if flags&os.O_EXCL != 0 {
			if !os.IsExist(err) {
				t.Errorf("exclusive: %v", err)
			}
			continue
		}
		must(t, err)
		var st syscall.Stat_t
		must(t, syscall.Fstat(int(f.Fd()), &st))
		if st.Ino != rec.Meta.Inum {
			t.Errorf("inode %d was opened, want %d", st.Ino, rec.Meta.Inum)
		}
		must(t, f.Close())
	}
	if err := syscall.Mknod(filepath.Join(dir, "f0"), syscall.S_IFREG|0o644, 0); err != syscall.EEXIST {
		t.Errorf("mknod: %v", err)
	}
}
