package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
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

func (echoControl) Snapshots(_ context.Context, unique bool, w io.Writer) error {
	_, err := fmt.Fprintf(w, "snapshots, unique %v", unique)
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
