package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// echoControl repeats commands; "fail" fails.
type echoControl struct{}

func (echoControl) Command(_ context.Context, line string, w io.Writer) error {
	if line == "fail" {
		return errors.New("as you wish")
	}
	_, err := fmt.Fprintf(w, "got %s\n", line)
	return err
}

func (echoControl) Status(w io.Writer) error {
	_, err := io.WriteString(w, `{"state":"fine"}`)
	return err
}

func (c echoControl) Ask(ctx context.Context, line string, w io.Writer) error {
	if line == "change" {
		return syscall.EROFS
	}
	return c.Command(ctx, line, w)
}

func (echoControl) Snapshots(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, `{"snapshots":[]}`)
	return err
}

func (echoControl) Quotas(w io.Writer) error {
	_, err := io.WriteString(w, `{"quotas":[]}`)
	return err
}

func TestControl(t *testing.T) {
	dir, _, _ := mountMem(t)
	status, err := os.ReadFile(filepath.Join(dir, controlDir, statusFile))
	if err != nil || string(status) != `{"state":"fine"}` {
		t.Errorf("status: %q, %v", status, err)
	}
	quotas, err := os.ReadFile(filepath.Join(dir, controlDir, quotasFile))
	if err != nil || string(quotas) != `{"quotas":[]}` {
		t.Errorf("quotas: %q, %v", quotas, err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 0 {
		t.Errorf("root shows %v, %v", list, err)
	}
	list, err = os.ReadDir(filepath.Join(dir, controlDir))
	if err != nil || len(list) != 4 {
		t.Errorf("control directory shows %v, %v", list, err)
	}
	path := filepath.Join(dir, controlDir, controlFile)
	a, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for i := range 3 {
		ask(t, a, fmt.Sprintf("hello %d\n", i), fmt.Sprintf("got hello %d\n", i))
		ask(t, b, fmt.Sprintf("there %d", i), fmt.Sprintf("got there %d\n", i))
	}
	if _, err := a.WriteString("fail"); err == nil {
		t.Error("a failing command passed")
	}
	if reply, err := io.ReadAll(a); err != nil || string(reply) != "error: as you wish\n" {
		t.Errorf("reply to a failing command: %q, %v", reply, err)
	}
	if _, err := a.Write(bytes.Repeat([]byte("x"), commandMax+1)); err == nil {
		t.Error("a command without end passed")
	}
	if reply, err := io.ReadAll(a); err != nil || string(reply) != "error: a command has 64 KiB at most: nothing was done\n" {
		t.Errorf("reply to what is too long: %q, %v", reply, err)
	}
	ask(t, a, "again", "got again\n")
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("control: %v, %v", st, err)
	}
}

func ask(t *testing.T, f *os.File, command, want string) {
	t.Helper()
	if _, err := f.WriteString(command); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil || string(got) != want {
		t.Errorf("%q: reply %q, want %q (%v)", command, got, want, err)
	}
}

// A file that is open for reading takes what only looks.
func TestAsk(t *testing.T) {
	dir, _, _ := mountMem(t)
	f, err := os.Open(filepath.Join(dir, controlDir, controlFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	do := func(file *os.File, cmd uintptr, line string) syscall.Errno {
		var buf [AskLen]byte
		copy(buf[:], line)
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), cmd, uintptr(unsafe.Pointer(&buf)))
		return errno
	}
	for _, c := range []struct {
		line, want string
		errno      syscall.Errno
	}{
		{"hello", "got hello\n", 0},
		{"a longer one", "got a longer one\n", 0},
		{"fail", "error: as you wish\n", syscall.EINVAL},
		{"change", "error: read-only file system\n", syscall.EROFS},
		{"", "got \n", 0},
	} {
		if errno := do(f, IocAsk, c.line); errno != c.errno {
			t.Errorf("%q: %v", c.line, errno)
		}
		got := make([]byte, 100)
		n, err := f.ReadAt(got, 0)
		if string(got[:n]) != c.want || err != io.EOF {
			t.Errorf("%q: reply %q, %v, want %q", c.line, got[:n], err, c.want)
		}
	}
	if errno := do(f, IocAsk+1, "hello"); errno != syscall.ENOTTY {
		t.Errorf("another ioctl: %v", errno)
	}
	status, err := os.Open(filepath.Join(dir, controlDir, statusFile))
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	if errno := do(status, IocAsk, "hello"); errno != syscall.ENOTTY {
		t.Errorf("of another file: %v", errno)
	}
}
