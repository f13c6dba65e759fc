package fs

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/ondisk"
)

func TestRemount(t *testing.T) {
	p := newTestPool(t, 3, 2<<30)
	file, link := filepath.Join(p.dir, "d", "f"), filepath.Join(p.dir, "l")
	must(t, os.Mkdir(filepath.Dir(file), 0o2750))
	write(t, file, strings.Repeat("content", 30000))
	write(t, filepath.Join(p.dir, "small"), "inline")
	must(t, os.Symlink(strings.Repeat("s", 600), link))
	must(t, unix.Setxattr(file, "user.long", bytes.Repeat([]byte("v"), 5000), 0))
	must(t, syscall.Mknod(filepath.Join(p.dir, "dev"), syscall.S_IFBLK|0o600, int(unix.Mkdev(8, 17))))
	times := []unix.Timespec{{Sec: 1234567890, Nsec: 123456789}, {Sec: 1234567891, Nsec: 987654321}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, file, times, 0))
	must(t, os.Truncate(filepath.Join(p.dir, "small"), 1<<30))
	before := map[string]syscall.Stat_t{}
	paths := []string{file, link, filepath.Dir(file), filepath.Join(p.dir, "dev"), filepath.Join(p.dir, "small")}
	for _, path := range paths {
		before[path] = *stat(t, path)
	}
	p.remount()
	for _, path := range paths {
		got, want := *stat(t, path), before[path]
		got.Dev, want.Dev = 0, 0
		got.Blocks, want.Blocks = 0, 0 // what compression saved is known only now
		if got != want {
			t.Errorf("%s is %+v, was %+v", path, got, want)
		}
	}
	wantContent(t, file, strings.Repeat("content", 30000))
	target, err := os.Readlink(link)
	must(t, err)
	wantEqual(t, "target", target, strings.Repeat("s", 600))
	buf := make([]byte, 6000)
	n, err := unix.Getxattr(file, "user.long", buf)
	must(t, err)
	wantEqual(t, "attribute", string(buf[:n]), strings.Repeat("v", 5000))
	p.umount()
	p.mount(MountOptions{ReadOnly: true})
	wantContent(t, file, strings.Repeat("content", 30000))
	wantErr(t, os.Remove(file), syscall.EROFS)
}

// TestNoSpace fills a volume, which must fail at write(2) and end: then
// removing must work, and give space back.
func TestNoSpace(t *testing.T) {
	p := newTestPool(t, 3, 128<<20)
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	fill := func(name string) (mib int, err error) {
		f, err := os.Create(filepath.Join(p.dir, name))
		if err != nil {
			return 0, err
		}
		defer f.Close()
		for ; mib < 1000 && err == nil; mib++ {
			noise[mib] ^= 0x55
			_, err = f.Write(noise)
		}
		return mib, errors.Join(err, f.Close())
	}
	first, err := fill("a")
	wantErr(t, err, syscall.ENOSPC)
	must(t, os.Remove(filepath.Join(p.dir, "a")))
	var second int
	for range 20 { // the kernel forgets, and space returns, by themselves
		if second, err = fill("b"); second > first/2 {
			break
		}
		must(t, os.Remove(filepath.Join(p.dir, "b")))
		syscall.Sync()
	}
	wantErr(t, err, syscall.ENOSPC)
	if second <= first/2 {
		t.Errorf("%d MiB fit at first, %d after removing them", first, second)
	}
}

// TestOrphans ends a filesystem as a crash does, with a file open that has
// no name, and looks for it afterwards.
func TestOrphans(t *testing.T) {
	ctx := context.Background()
	store := newMemStore()
	f, err := New(ctx, store, false, Options{})
	must(t, err)
	made, err := f.Create(ctx, ondisk.InumRoot, "f", NewNode{Type: ondisk.ObjFile})
	must(t, err)
	inum := made.Meta.Inum
	must(t, f.SetXattr(ctx, inum, "user.x", []byte("v"), 0, false))
	must(t, f.Unlink(ctx, ondisk.InumRoot, "f"))
	if _, err := f.Write(ctx, inum, 0, make([]byte, 1000), false); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "inodes with an open file", store.StatFS().Inodes, 3)
	again, err := New(ctx, store, false, Options{})
	must(t, err)
	<-again.collected
	must(t, again.Close(ctx))
	wantEqual(t, "inodes after a crash", store.StatFS().Inodes, 1)
	f.Forget(inum, 1) // too late, and harmless
	must(t, f.Close(ctx))
}

// TestTableSize bounds what the kernel's references cost.
func TestTableSize(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	const files = 1_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	table := newTable(0)
	for i := range uint64(files) {
		n := table.pin(ondisk.InumFirst + i)
		n.rec.Store(&Record{Meta: ondisk.InodeMeta{Inum: n.inum}})
		table.ref(n.inum, ondisk.ObjFile)
		table.unpin(n)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) >> 20; used > 80 {
		t.Errorf("%d files walked take %d MiB", files, used)
	}
	for i := range uint64(files) {
		if table.unref(ondisk.InumFirst+i, 1) {
			t.Fatal("a file with a name died")
		}
	}
}
