package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	maxFile  = 400 << 10 // bytes
	maxWrite = 96 << 10
	page     = 4096 // of the kernel's cache: the least there is
	maxFiles = 12
)

// A worker changes a directory and its model alike.
type worker struct {
	dir    string
	r      *rand.Rand
	s      state
	acked  string   // the state of the last flush
	since  []string // the states after it, in order
	ops    *os.File // progress, for others
	calls  int
	flushs int
}

// work runs until stop says so, or a call fails.
func work(dir, history string, seed int64, stop <-chan os.Signal) error {
	s, err := scan(dir)
	if err != nil {
		return err
	}
	ops, err := os.Create(history + ".ops")
	if err != nil {
		return err
	}
	defer ops.Close()
	w := &worker{dir: dir, r: rand.New(rand.NewSource(seed)), s: s, ops: ops}
	w.acked = s.String() // what was found was there before
	err = w.loop(stop)
	text := w.acked + strings.Join(w.since, "")
	return errors.Join(err, os.WriteFile(history, []byte(text), 0o644))
}

func (w *worker) loop(stop <-chan os.Signal) error {
	for {
		select {
		case <-stop:
			return w.flush(w.dir)
		default:
		}
		if err := w.step(); err != nil {
			return fmt.Errorf("call %d: %w", w.calls, err)
		}
		w.calls++
		fmt.Fprintf(w.ops, "%d calls %d acknowledged\n", w.calls, w.flushs)
	}
}

// change makes a call and the same change of the model. A call that fails may
// have taken effect or not.
func (w *worker) change(call func() error, model func()) error {
	err := call()
	model()
	w.since = append(w.since, w.s.String())
	return failed(err)
}

// flush makes all that was done durable; it may be done on any file.
func (w *worker) flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return failed(err)
	}
	err = f.Sync()
	f.Close()
	if err != nil {
		return failed(err)
	}
	w.flushs++
	w.acked, w.since = w.s.String(), nil
	return nil
}

func (w *worker) names() []string {
	var names []string
	for name := range w.s {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (w *worker) path(name string) string { return filepath.Join(w.dir, name) }

func (w *worker) step() error {
	names := w.names()
	if len(names) == 0 || len(names) < maxFiles && w.r.Intn(8) == 0 {
		return w.create()
	}
	name := names[w.r.Intn(len(names))]
	switch n := w.r.Intn(44); {
	case n < 14:
		return w.write(name)
	case n < 18:
		return w.truncate(name)
	case n < 21:
		return w.punch(name)
	case n < 23:
		return w.rename(name, names[w.r.Intn(len(names))])
	case n < 25:
		return w.link(name)
	case n < 27:
		return w.remove(name)
	case n < 28:
		return w.chmod(name)
	case n < 30:
		return w.setAttr(name)
	case n < 34:
		return w.copy(name, names[w.r.Intn(len(names))])
	case n < 41:
		return w.compare(name)
	}
	return w.flush(w.path(name))
}

func (w *worker) create() error {
	name := fmt.Sprintf("f%d", w.r.Intn(1000))
	if w.s[name] != nil {
		return nil
	}
	return w.change(func() error {
		f, err := os.OpenFile(w.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	}, func() { w.s[name] = &file{mode: 0o600} })
}

// bytes are of a kind that compresses, a little or not at all.
func (w *worker) bytes(n int) []byte {
	p := make([]byte, n)
	switch w.r.Intn(3) {
	case 0:
		for i := range p {
			p[i] = byte('a' + (i/7+w.calls)%26)
		}
	case 1:
		for i := range p {
			p[i] = byte(w.r.Intn(32))
		}
	default:
		w.r.Read(p)
	}
	return p
}

// place is an offset, often on an edge of something.
func (w *worker) place(limit int) int {
	switch off := w.r.Intn(limit + 1); w.r.Intn(4) {
	case 0:
		return off &^ (64<<10 - 1)
	case 1:
		return off &^ 4095
	default:
		return off
	}
}

func (w *worker) write(name string) error {
	f := w.s[name]
	off := w.place(min(len(f.data)+5000, maxFile-maxWrite))
	p := w.bytes(1 + w.r.Intn([]int{200, 5000, maxWrite}[w.r.Intn(3)]))
	return w.change(func() error {
		o, err := os.OpenFile(w.path(name), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = o.WriteAt(p, int64(off))
		return errors.Join(err, o.Close())
	}, func() { w.wrote(f, off, p) })
}

// wrote notes what a write leaves: the kernel hands it to the server in pieces
// that end with a page of its cache, as after one that it has not read and that
// is written in part, or where the memory of the program is not at hand. Each
// piece is one step.
func (w *worker) wrote(f *file, off int, p []byte) {
	for done := 0; ; {
		n := min(page-(off+done)%page, len(p)-done)
		f.resize(max(len(f.data), off+done+n))
		copy(f.data[off+done:], p[done:done+n])
		if done += n; done == len(p) {
			return
		}
		w.since = append(w.since, w.s.String())
	}
}

// resize also makes the data the file's own again: states share them.
func (f *file) resize(n int) {
	data := make([]byte, n)
	copy(data, f.data)
	f.data, f.sum = data, ""
}

func (w *worker) truncate(name string) error {
	f := w.s[name]
	n := w.place(min(2*len(f.data)+100, maxFile))
	return w.change(func() error { return os.Truncate(w.path(name), int64(n)) }, func() { f.resize(n) })
}

func (w *worker) punch(name string) error {
	f := w.s[name]
	if len(f.data) == 0 {
		return nil
	}
	off := w.place(len(f.data) - 1)
	n := 1 + w.r.Intn(len(f.data)-off)
	const keepSize, punchHole = 1, 2
	return w.change(func() error {
		o, err := os.OpenFile(w.path(name), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		err = syscall.Fallocate(int(o.Fd()), keepSize|punchHole, int64(off), int64(n))
		return errors.Join(err, o.Close())
	}, func() {
		f.resize(len(f.data))
		clear(f.data[off : off+n])
	})
}

func (w *worker) rename(from, to string) error {
	if w.r.Intn(2) == 0 {
		to = fmt.Sprintf("r%d", w.r.Intn(1000))
	}
	return w.change(func() error { return os.Rename(w.path(from), w.path(to)) }, func() {
		if w.s[from] == w.s[to] {
			return // two names of one file: rename(2) says do nothing
		}
		w.s[to] = w.s[from]
		delete(w.s, from)
	})
}

func (w *worker) link(name string) error {
	to := fmt.Sprintf("l%d", w.r.Intn(1000))
	if w.s[to] != nil || len(w.s) >= maxFiles {
		return nil
	}
	return w.change(func() error { return os.Link(w.path(name), w.path(to)) }, func() { w.s[to] = w.s[name] })
}

func (w *worker) remove(name string) error {
	return w.change(func() error { return os.Remove(w.path(name)) }, func() { delete(w.s, name) })
}

func (w *worker) chmod(name string) error {
	mode := os.FileMode(0o600 | w.r.Intn(0o100))
	return w.change(func() error { return os.Chmod(w.path(name), mode) }, func() { w.s[name].mode, w.s[name].sum = mode, "" })
}

func (w *worker) setAttr(name string) error {
	value := fmt.Sprintf("value %d", w.calls)
	return w.change(func() error {
		return syscall.Setxattr(w.path(name), attrName, []byte(value), 0)
	}, func() { w.s[name].attr, w.s[name].sum = value, "" })
}

func getAttr(path string) (string, error) {
	buf := make([]byte, 256)
	n, err := syscall.Getxattr(path, attrName, buf)
	if err == syscall.ENODATA || err == syscall.ENOTSUP {
		return "", nil
	}
	if err != nil {
		return "", &os.PathError{Op: "getxattr", Path: path, Err: err}
	}
	return string(buf[:n]), nil
}

// compare reads a part of a file, past the kernel's cache now and then.
func (w *worker) compare(name string) error {
	o, err := os.Open(w.path(name))
	if err != nil {
		return failed(err)
	}
	defer o.Close()
	if w.r.Intn(3) == 0 {
		dropCache(o)
	}
	data := w.s[name].data
	info, err := o.Stat()
	if err != nil {
		return failed(err)
	}
	if info.Size() != int64(len(data)) {
		return fmt.Errorf("%s has %d bytes, not %d", name, info.Size(), len(data))
	}
	off := w.place(len(data))
	want := data[off:min(len(data), off+1+w.r.Intn(maxWrite))]
	got := make([]byte, len(want))
	if n, err := o.ReadAt(got, int64(off)); n < len(got) {
		return failed(fmt.Errorf("%s: %d of %d bytes at %d: %w", name, n, len(got), off, err))
	}
	if !bytes.Equal(got, want) {
		at := 0
		for got[at] == want[at] {
			at++
		}
		return fmt.Errorf("%s: byte %d is %#x, not %#x (%d bytes at %d read at %v)", name, off+at, got[at], want[at],
			len(got), off, time.Now().Format(time.StampMilli))
	}
	return nil
}

// dropCache asks the kernel to forget the pages of a file. It may decline.
func dropCache(f *os.File) {
	const dontNeed = 4
	_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0)
}
