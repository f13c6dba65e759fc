package filedev

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/devicetest"
	"golang.org/x/sys/unix"
)

// open makes a file device; with blockSize set, one that believes it has such
// blocks, to run the code for them where the system has smaller ones.
func open(t *testing.T, opt Options, blockSize int) (*Device, func() ondisk.Device) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "member.img")
	opt.Create = devicetest.Size
	d, err := Open(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	adapt := func(d *Device) *Device {
		if blockSize > 0 {
			d.direct, d.blockSize, d.memAlign = true, blockSize, blockSize
		}
		return d
	}
	opt.Create = 0
	return adapt(d), func() ondisk.Device {
		d, err := Open(path, opt)
		if err != nil {
			t.Fatal(err)
		}
		return adapt(d)
	}
}

func TestDevice(t *testing.T) {
	for _, c := range []struct {
		name      string
		opt       Options
		blockSize int
	}{
		{"as the system allows", Options{}, 0},
		{"buffered", Options{Buffered: true}, 0},
		{"blocks of 4 KiB", Options{}, 4096},
	} {
		t.Run(c.name, func(t *testing.T) {
			devicetest.Run(t, func(t *testing.T) (ondisk.Device, func() ondisk.Device) {
				d, reopen := open(t, c.opt, c.blockSize)
				return d, reopen
			})
		})
	}
}

func TestInUse(t *testing.T) {
	d, _ := open(t, Options{}, 0)
	for _, opt := range []Options{{}, {ReadOnly: true}} {
		_, err := Open(d.Name(), opt)
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), d.Name()) {
			t.Errorf("%+v: %v, want ErrInUse with the name", opt, err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	a, err := Open(d.Name(), Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Open(d.Name(), Options{ReadOnly: true})
	if err != nil {
		t.Fatalf("second reader: %v", err)
	}
	defer b.Close()
	if _, err := Open(d.Name(), Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("writer beside readers: %v", err)
	}
}

func TestReadOnlyNeverWrites(t *testing.T) {
	d, _ := open(t, Options{}, 0)
	d.Close()
	r, err := Open(d.Name(), Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.WriteAt(make([]byte, 512), 0); !errors.Is(err, ErrReadOnly) {
		t.Errorf("write: %v", err)
	}
	if err := r.Discard(0, 65536); !errors.Is(err, ErrReadOnly) {
		t.Errorf("discard: %v", err)
	}
	if err := r.Flush(); err != nil {
		t.Errorf("flush: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, want string
		opt        Options
	}{
		{filepath.Join(dir, "none"), "check the path", Options{}},
		{dir, "neither a regular file nor a block device", Options{}},
		{"/dev/null", "neither a regular file nor a block device", Options{}},
		{empty, "empty", Options{}},
		{empty, "remove it first", Options{Create: 4096}},
		{filepath.Join(dir, "no", "folder"), "check the path", Options{Create: 4096}},
		{filepath.Join(dir, "new"), "cannot make", Options{Create: 4096, ReadOnly: true}},
	} {
		_, err := Open(c.path, c.opt)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s %+v: %v, want %q", c.path, c.opt, err, c.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("a file was left behind")
	}
}

// Close has to wait: giving up the lock with a write under way would let two
// owners write.
func TestCloseWaits(t *testing.T) {
	d, _ := open(t, Options{}, 0)
	if err := d.begin("write", 0); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- d.Close() }()
	for { // until Close has begun
		if err := d.begin("read", 0); err != nil {
			break
		}
		d.end()
	}
	if _, err := Open(d.Name(), Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("opened while a request is under way: %v", err)
	}
	select {
	case <-closed:
		t.Error("close did not wait")
	default:
	}
	d.end()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestFlushErrorStays(t *testing.T) {
	d, _ := open(t, Options{}, 0)
	good := d.fd
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	d.fd = pipe[0] // fdatasync on a pipe fails
	if err := d.Flush(); err == nil {
		t.Error("flush of a pipe succeeded")
	}
	d.fd = good
	if err := d.Flush(); err == nil {
		t.Error("a later flush hides the failure")
	}
	unix.Close(pipe[0])
	unix.Close(pipe[1])
	d.Close()
}
