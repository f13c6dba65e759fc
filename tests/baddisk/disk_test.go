package main

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func testDisk(t *testing.T) (*disk, *os.File) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	d, err := newDisk(f)
	if err != nil {
		t.Fatal(err)
	}
	return d, f
}

func put(t *testing.T, d *disk, off int64, text string, want syscall.Errno) {
	t.Helper()
	if _, e := d.write([]byte(text), off); e != want {
		t.Fatalf("write of %q: %v, want %v", text, e, want)
	}
}

func get(t *testing.T, d *disk, off int64, want string) {
	t.Helper()
	p := make([]byte, len(want))
	if _, e := d.read(p, off); e != 0 || string(p) != want {
		t.Fatalf("read %q (%v), want %q", p, e, want)
	}
}

func do(t *testing.T, d *disk, line string) {
	t.Helper()
	if err := d.command(line); err != nil {
		t.Fatal(err)
	}
}

func TestCutForgetsWhatWasNotFlushed(t *testing.T) {
	d, f := testDisk(t)
	put(t, d, 500, "kept across two sectors", 0)
	if e := d.flush(); e != 0 {
		t.Fatal(e)
	}
	put(t, d, 500, "lost", 0)
	get(t, d, 500, "lost across two sectors")
	do(t, d, "cut")
	put(t, d, 500, "dead", syscall.EIO)
	do(t, d, "ok")
	get(t, d, 500, "kept across two sectors")
	raw := make([]byte, 4)
	if _, err := f.ReadAt(raw, 500); err != nil || !bytes.Equal(raw, []byte("kept")) {
		t.Errorf("the image holds %q, %v", raw, err)
	}
}

func TestTearKeepsSomeSectors(t *testing.T) {
	d, _ := testDisk(t)
	for s := range int64(64) {
		put(t, d, s*sector, "x", 0)
	}
	do(t, d, "tear 7")
	do(t, d, "ok")
	kept := 0
	for s := range int64(64) {
		p := make([]byte, 1)
		if _, e := d.read(p, s*sector); e != 0 {
			t.Fatal(e)
		}
		if p[0] == 'x' {
			kept++
		}
	}
	if kept < 10 || kept > 54 {
		t.Errorf("%d of 64 sectors kept", kept)
	}
}

func TestLieKeepsNothing(t *testing.T) {
	d, _ := testDisk(t)
	put(t, d, 0, "kept", 0)
	if e := d.flush(); e != 0 {
		t.Fatal(e)
	}
	do(t, d, "lie")
	put(t, d, 0, "lost", 0)
	if e := d.flush(); e != 0 {
		t.Fatal(e)
	}
	get(t, d, 0, "lost")
	do(t, d, "cut")
	do(t, d, "ok")
	get(t, d, 0, "kept")
}

func TestFaults(t *testing.T) {
	d, _ := testDisk(t)
	do(t, d, "eio write after 2 from 4096 to 8192")
	put(t, d, 0, "a", 0)
	put(t, d, 4096, "b", 0)
	put(t, d, 4095, "cc", 0)
	put(t, d, 8191, "d", syscall.EIO)
	put(t, d, 8192, "e", 0)
	do(t, d, "eio flush")
	if e := d.flush(); e != syscall.EIO {
		t.Errorf("flush: %v", e)
	}
	do(t, d, "ok")
	put(t, d, 8191, "d", 0)
	do(t, d, "flip 8191")
	get(t, d, 8191, "\x9b")
	do(t, d, "full")
	put(t, d, 0, "a", syscall.ENOSPC)
	for _, line := range []string{"", "eio", "eio all", "eio read after", "delay", "flip x", "nonsense"} {
		if d.command(line) == nil {
			t.Errorf("%q passed", line)
		}
	}
}

func TestHangEnds(t *testing.T) {
	d, _ := testDisk(t)
	do(t, d, "hang")
	done := make(chan syscall.Errno)
	go func() {
		_, e := d.write([]byte("late"), 0)
		done <- e
	}()
	do(t, d, "ok")
	if e := <-done; e != 0 {
		t.Errorf("after the hang: %v", e)
	}
	get(t, d, 0, "late")
}
