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
	text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(path), "loop/backing_file"))
	if err != nil {
		t.Skip(err)
	}
	file := strings.TrimSpace(string(text))
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
