package filedev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/devicetest"
	"golang.org/x/sys/unix"
)

// loop attaches a loop device with that logical block size over a new file;
// without the rights for it the test is skipped.
func loop(t *testing.T, blockSize uint32) string {
	t.Helper()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no loop devices: %v", err)
	}
	defer ctl.Close()
	backing, err := os.Create(filepath.Join(t.TempDir(), "backing"))
	if err != nil {
		t.Fatal(err)
	}
	defer backing.Close()
	if err := backing.Truncate(devicetest.Size); err != nil {
		t.Fatal(err)
	}
	for range 10 { // another process may be faster to take the free one
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skipf("no loop device: %v", err)
		}
		path := fmt.Sprintf("/dev/loop%d", n)
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Skipf("no loop device: %v", err)
		}
		defer dev.Close()
		conf := &unix.LoopConfig{Fd: uint32(backing.Fd()), Size: blockSize, Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), conf)
		if errors.Is(err, unix.EBUSY) {
			continue
		}
		if err != nil {
			t.Skipf("%s: %v", path, err)
		}
		// It goes by itself with its last descriptor; this one keeps it for
		// the whole test.
		keep, err := os.OpenFile(path, os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { keep.Close() })
		return path
	}
	t.Skip("no loop device stays free")
	return ""
}

func TestBlockDevice(t *testing.T) {
	for _, blockSize := range []uint32{512, 4096} {
		t.Run(fmt.Sprint(blockSize), func(t *testing.T) {
			devicetest.Run(t, func(t *testing.T) (ondisk.Device, func() ondisk.Device) {
				path := loop(t, blockSize)
				again := func() ondisk.Device {
					d, err := Open(path, Options{})
					if err != nil {
						t.Fatal(err)
					}
					if d.BlockSize() != int(blockSize) || !d.Direct() {
						t.Errorf("block size %d, direct %v", d.BlockSize(), d.Direct())
					}
					return d
				}
				return again(), again
			})
		})
	}
}

func TestBlockDeviceInUse(t *testing.T) {
	path := loop(t, 512)
	d, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := Open(path, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("second owner: %v", err)
	}
	if _, err := Open(path, Options{ReadOnly: true}); !errors.Is(err, ErrInUse) {
		t.Errorf("reader beside the owner: %v", err)
	}
}

// Symptom: an image file was mounted beside the loop device over it, which was mounted
// already: two wrote one member, and what was synced by one of them was lost.
func TestFileUnderLoopDevice(t *testing.T) {
	path := loop(t, 512)
	bothWays(t, path, backing(t, path))
}

// Symptom: where a file system has no locks of ranges, the same went through silently.
func TestFileUnderLoopDeviceWithoutRangeLocks(t *testing.T) {
	path := loop(t, 512)
	file, was := backing(t, path), lockRange
	defer func() { lockRange = was }()
	lockRange = func(int, *unix.Flock_t) error { return unix.ENOLCK }
	bothWays(t, path, file)
}

// Symptom: an image was opened for writing while another filesystem was mounted from the
// loop device over it.
func TestFileUnderLoopDeviceOfOthers(t *testing.T) {
	path := loop(t, 512)
	file := backing(t, path)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0) // as mount(2) has it
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(file, Options{})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "in use by "+path) || !strings.Contains(err.Error(), "fuser -v "+path) {
		t.Errorf("beside a mount: %v", err)
	}
	if d, err := Open(file, Options{ReadOnly: true}); err != nil {
		t.Errorf("a reader: %v", err)
	} else {
		d.Close()
	}
	unix.Close(fd)
	d, err := Open(file, Options{})
	if err != nil {
		t.Fatalf("nobody has it: %v", err)
	}
	d.Close()
}

// backing is the file under a loop device.
func backing(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(path), "loop/backing_file"))
	if err != nil {
		t.Skip(err)
	}
	return strings.TrimSpace(string(text))
}

// bothWays checks that a file and the loop device over it are one thing.
func bothWays(t *testing.T, path, file string) {
	t.Helper()
	for _, c := range []struct{ first, second string }{{path, file}, {file, path}} {
		for _, o := range []struct {
			first, second Options
			inUse         bool
		}{
			{Options{}, Options{}, true},
			{Options{}, Options{ReadOnly: true}, true},
			{Options{ReadOnly: true}, Options{}, true},
			{Options{ReadOnly: true}, Options{ReadOnly: true}, false},
		} {
			d, err := Open(c.first, o.first)
			if err != nil {
				t.Fatal(err)
			}
			e, err := Open(c.second, o.second)
			if errors.Is(err, ErrInUse) != o.inUse || !o.inUse && err != nil {
				t.Errorf("%s %+v, then %s %+v: %v", c.first, o.first, c.second, o.second, err)
			}
			if err == nil {
				e.Close()
			}
			d.Close()
		}
	}
}
