package fs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Symptom: what the kernel had read of the directory of snapshots once stayed what it
// showed: new ones were missing there, and deleted ones were not.
func TestSnapshotListIsNotKept(t *testing.T) {
	dir, s, server := mountSnapshots(t)
	at := filepath.Join(dir, controlDir, snapshotsDir)
	inside, err := os.Open(at) // as by who works there
	must(t, err)
	defer inside.Close()
	list := func(f *os.File) string {
		_, err := f.Seek(0, 0)
		must(t, err)
		names, err := f.Readdirnames(-1)
		must(t, err)
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	byPath := func() string {
		f, err := os.Open(at)
		must(t, err)
		defer f.Close()
		return list(f)
	}
	want := ""
	for i, name := range []string{"a", "b", "c", "-"} {
		if name == "-" {
			s.mu.Lock()
			s.names = s.names[1:]
			s.mu.Unlock()
			want = "b c"
		} else {
			s.add(t, name, ondisk.UUID{byte(i + 1)})
			want = strings.TrimSpace(want + " " + name)
		}
		for range 2 { // the second time from what the kernel has
			if got := byPath(); got != want {
				t.Errorf("the directory shows %q, not %q", got, want)
			}
		}
		server.sweeper.look(t.Context())
		if got := list(inside); got != want {
			t.Errorf("who is in the directory is shown %q, not %q", got, want)
		}
	}
	for i, when := range []string{"made", "deleted"} { // and nobody walks a path to it
		if i == 0 {
			s.add(t, "d", ondisk.UUID{9})
		} else {
			s.mu.Lock()
			s.names = s.names[:len(s.names)-1]
			s.mu.Unlock()
		}
		server.sweeper.look(t.Context())
		if got := strings.Contains(list(inside), "d"); got != (i == 0) {
			t.Errorf("one was %s, and is shown: %v", when, got)
		}
	}
}

// fakeSnapshots are stores by name.
type fakeSnapshots struct {
	mu    sync.Mutex
	names []cluster.SnapshotName
	store map[ondisk.UUID]*memStore
	open  int
	told  int // that a deleted one was closed
}

func (s *fakeSnapshots) Dropped() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told++
}

func (s *fakeSnapshots) SnapshotNames(context.Context) ([]cluster.SnapshotName, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]cluster.SnapshotName(nil), s.names...), nil
}

func (s *fakeSnapshots) OpenSnapshot(_ context.Context, n cluster.SnapshotName) (SnapshotStore, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	return &fakeSnapshot{s.store[n.Clid], s}, nil
}

type fakeSnapshot struct {
	*memStore
	of *fakeSnapshots
}

func (s *fakeSnapshot) Close(context.Context) error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.open--
	return nil
}

func (s *fakeSnapshots) opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// add makes a snapshot with files of that content.
func (s *fakeSnapshots) add(t *testing.T, name string, clid ondisk.UUID, files ...string) {
	store := newMemStore()
	f, err := New(t.Context(), store, false, Options{})
	must(t, err)
	for _, file := range files {
		rec, err := f.Create(t.Context(), ondisk.InumRoot, file, NewNode{Type: ondisk.ObjFile, Mode: 0o640})
		must(t, err)
		_, err = f.Write(t.Context(), rec.Meta.Inum, 0, []byte(name+"/"+file), false)
		must(t, err)
		must(t, f.SetXattr(t.Context(), rec.Meta.Inum, "user.x", []byte(name), 0, false))
	}
	d, err := f.Create(t.Context(), ondisk.InumRoot, "d", NewNode{Type: ondisk.ObjDir, Mode: 0o755})
	must(t, err)
	_, err = f.Create(t.Context(), d.Meta.Inum, "link", NewNode{Type: ondisk.ObjSymlink, Target: "../a"})
	must(t, err)
	must(t, f.Close(context.Background()))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = append(s.names, cluster.SnapshotName{Name: name, Clid: clid, Created: time.Now()})
	s.store[clid] = store
}

func mountSnapshots(t *testing.T) (dir string, s *fakeSnapshots, server *Server) {
	t.Helper()
	s = &fakeSnapshots{store: make(map[ondisk.UUID]*memStore)}
	dir = tempDir(t)
	server, err := Mount(t.Context(), newMemStore(), dir, MountOptions{Control: echoControl{}, Snapshots: s, AllowOther: true})
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
		if n := s.opened(); n != 0 {
			t.Errorf("%d snapshots are still open", n)
		}
	})
	return dir, s, server
}

func TestSnapshotDirectory(t *testing.T) {
	dir, s, _ := mountSnapshots(t)
	// Two whose numbers collide.
	s.add(t, "one", ondisk.UUID{7, 0, 1}, "a", "b")
	s.add(t, "two", ondisk.UUID{7, 0, 2}, "a")
	at := filepath.Join(dir, controlDir, snapshotsDir)
	list, err := os.ReadDir(at)
	if err != nil || len(list) != 2 || list[0].Name() != "one" || !list[1].IsDir() {
		t.Fatalf("%v, %v", list, err)
	}
	inos := make(map[uint64]string)
	for _, name := range []string{"one/a", "one/b", "two/a", "one/d/link"} {
		path := filepath.Join(at, name)
		got, err := os.ReadFile(path)
		if want := strings.Replace(name, "d/link", "a", 1); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		var st syscall.Stat_t
		must(t, syscall.Lstat(path, &st))
		if other, twice := inos[st.Ino]; twice {
			t.Errorf("%s and %s have one number", name, other)
		}
		inos[st.Ino] = name
	}
	entries, err := os.ReadDir(filepath.Join(at, "one"))
	if err != nil || len(entries) != 3 {
		t.Errorf("%v, %v", entries, err)
	}
	value := make([]byte, 100)
	if n, err := syscall.Getxattr(filepath.Join(at, "two/a"), "user.x", value); err != nil || string(value[:n]) != "two" {
		t.Errorf("attribute: %q, %v", value[:max(n, 0)], err)
	}
	for what, err := range map[string]error{
		"write":  os.WriteFile(filepath.Join(at, "one/a"), []byte("x"), 0),
		"create": os.WriteFile(filepath.Join(at, "one/new"), []byte("x"), 0o600),
		"mkdir":  os.Mkdir(filepath.Join(at, "three"), 0o755),
		"remove": os.Remove(filepath.Join(at, "one/b")),
		"rename": os.Rename(filepath.Join(at, "one/b"), filepath.Join(at, "one/c")),
		"chmod":  os.Chmod(filepath.Join(at, "one/b"), 0o777),
		"link":   os.Link(filepath.Join(at, "one/b"), filepath.Join(at, "one/c")),
		"xattr":  syscall.Setxattr(filepath.Join(at, "one/b"), "user.y", nil, 0),
		"rmdir":  os.Remove(filepath.Join(at, "two")),
	} {
		if errnoOf(err) != syscall.EROFS {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Out of it nothing is moved: it is copied, as from another filesystem.
	for what, err := range map[string]error{
		"link out":   os.Link(filepath.Join(at, "one/b"), filepath.Join(dir, "b")),
		"rename out": os.Rename(filepath.Join(at, "one/b"), filepath.Join(dir, "b")),
		"all of it":  os.Rename(filepath.Join(at, "one"), filepath.Join(dir, "one")),
	} {
		if errnoOf(err) != syscall.EXDEV {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.Rename(filepath.Join(dir, controlDir), filepath.Join(dir, "x")); errnoOf(err) != syscall.EPERM {
		t.Errorf("the control directory renamed: %v", err)
	}
	if _, err := os.Stat(filepath.Join(at, "three")); !os.IsNotExist(err) {
		t.Errorf("a snapshot that is not there: %v", err)
	}
}

// Symptom: a deleted snapshot in which a name was looked for that it does not have
// stayed open, with all its space, until the kernel was short of memory.
func TestSnapshotForgottenWithMissedNames(t *testing.T) {
	dir, s, server := mountSnapshots(t)
	s.add(t, "one", ondisk.UUID{4}, "a")
	at := filepath.Join(dir, controlDir, snapshotsDir)
	for _, name := range []string{"one/nothing", "one/d/nothing", "one/d/more"} {
		if _, err := os.Stat(filepath.Join(at, name)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.mu.Lock()
	s.names = nil
	s.mu.Unlock()
	server.SweepSnapshots()
	for range 6000 {
		if s.opened() == 0 {
			return
		}
		syscall.Nanosleep(&syscall.Timespec{Nsec: 5e6}, nil) // forgets arrive by themselves
	}
	t.Errorf("%d are open though nobody uses them", s.opened())
}

// Symptom: "bulkfree right after frees late": the space of a deleted snapshot that
// somebody had looked through was not found by a bulkfree right behind the delete.
func TestSnapshotsForgotten(t *testing.T) {
	dir, s, server := mountSnapshots(t)
	at := filepath.Join(dir, controlDir, snapshotsDir)
	for i := range 20 {
		name := fmt.Sprint("s", i)
		s.add(t, name, ondisk.UUID{5, byte(i)}, "a", "b")
		for _, file := range []string{"a", "b", "none"} {
			_, _ = os.ReadFile(filepath.Join(at, name, file))
		}
	}
	f, err := os.Open(filepath.Join(at, "s7/a"))
	must(t, err)
	s.mu.Lock()
	s.names = nil
	s.mu.Unlock()
	if held := server.ForgetSnapshots(t.Context()); !slices.Equal(held, []string{"s7"}) {
		t.Errorf("in use is said to be %v", held)
	}
	if n := s.opened(); n != 1 {
		t.Errorf("%d are open, want the one that is in use", n)
	}
	if names := server.HeldSnapshots(0); !slices.Equal(names, []string{"s7"}) || server.HeldSnapshots(time.Hour) != nil {
		t.Errorf("in use is said to be %v", names)
	}
	if !server.KnowsSnapshots([]string{"s1", "s7"}) || server.KnowsSnapshots([]string{"s1", "s8"}) {
		t.Error("it is not known which the kernel knows")
	}
	must(t, f.Close())
	if held := server.ForgetSnapshots(t.Context()); held != nil || server.HeldSnapshots(0) != nil {
		t.Errorf("in use is still said to be %v", held)
	}
	if n := s.opened(); n != 0 {
		t.Errorf("%d are open though nobody uses them", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told != 20 {
		t.Errorf("told %d times that the space of one can be found", s.told)
	}
}

// Symptom: lsattr(1) said "Inappropriate ioctl for device" of all in a snapshot.
func TestSnapshotFlags(t *testing.T) {
	dir, s, _ := mountSnapshots(t)
	s.add(t, "one", ondisk.UUID{3}, "a")
	s.mu.Lock() // who opens it takes it, too
	for _, rec := range s.store[ondisk.UUID{3}].inodes {
		if rec.Meta.Type == ondisk.ObjFile {
			rec.Meta.UFlags |= sfImmutable
		}
	}
	s.mu.Unlock()
	for path, want := range map[string]int{"one/a": fsImmutable, "one": 0, "one/d": 0} {
		f, err := os.Open(filepath.Join(dir, controlDir, snapshotsDir, path))
		must(t, err)
		defer f.Close()
		if got, err := unix.IoctlGetInt(int(f.Fd()), iocGetFlags); err != nil || got != want {
			t.Errorf("%s: flags %#x, %v", path, got, err)
		}
		if err := unix.IoctlSetPointerInt(int(f.Fd()), iocSetFlags, fsNodump); err != syscall.EROFS {
			t.Errorf("%s: flags set: %v", path, err)
		}
	}
}

func errnoOf(err error) syscall.Errno {
	for e := err; e != nil; {
		if no, ok := e.(syscall.Errno); ok {
			return no
		}
		u, ok := e.(interface{ Unwrap() error })
		if !ok {
			return 0
		}
		e = u.Unwrap()
	}
	return 0
}

// A snapshot that is deleted is let go at once, but for files that are open;
// one made anew under its name is another.
func TestSnapshotDeletedInUse(t *testing.T) {
	dir, s, server := mountSnapshots(t)
	s.add(t, "one", ondisk.UUID{1}, "a", "b")
	at := filepath.Join(dir, controlDir, snapshotsDir)
	f, err := os.Open(filepath.Join(at, "one/a"))
	must(t, err)
	defer f.Close()
	if _, err := os.ReadFile(filepath.Join(at, "one/b")); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.names = nil
	s.mu.Unlock()
	s.add(t, "one", ondisk.UUID{2}, "c")
	// Not beside what follows: while the name is dropped, a look for what is not
	// in the new snapshot leaves the kernel with a name that keeps it, until it is
	// short of memory.
	server.sweeper.look(t.Context())
	if _, err := os.ReadFile(filepath.Join(at, "one/c")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(at, "one/a")); !os.IsNotExist(err) {
		t.Errorf("the old snapshot is still there: %v", err)
	}
	got := make([]byte, 10)
	if n, err := f.ReadAt(got, 0); n != 5 || string(got[:n]) != "one/a" {
		t.Errorf("open file: %q, %v", got[:n], err)
	}
	must(t, f.Close())
	s.mu.Lock()
	s.names = nil
	s.mu.Unlock()
	server.SweepSnapshots()
	for range 6000 { // the sweeper's fourth look comes after 7 s
		if s.opened() == 0 {
			return
		}
		syscall.Nanosleep(&syscall.Timespec{Nsec: 5e6}, nil) // forgets arrive by themselves
	}
	t.Error(fmt.Sprint(s.opened(), " are open though nobody uses them"))
}
