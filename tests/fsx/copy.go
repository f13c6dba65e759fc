package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// copy copies a range of a file to another by one system call, which may let
// them share it.
func (w *worker) copy(from, to string) error {
	src, dst := w.s[from], w.s[to]
	if src == dst || len(src.data) == 0 {
		return nil
	}
	at := w.place(len(src.data) - 1)
	n := 1 + w.r.Intn(len(src.data)-at)
	off := at
	switch w.r.Intn(4) {
	case 0:
		off = w.place(min(len(dst.data)+5000, maxFile-n))
	case 1: // all that is left, to the end of the file
		n = len(src.data) - at
	case 2: // all
		at, off, n = 0, 0, len(src.data)
	}
	return w.change(func() error {
		r, err := os.Open(w.path(from))
		if err != nil {
			return err
		}
		defer r.Close()
		o, err := os.OpenFile(w.path(to), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		in, out := int64(at), int64(off)
		done, err := unix.CopyFileRange(int(r.Fd()), &in, int(o.Fd()), &out, n, 0)
		if err == nil && done != n {
			err = fmt.Errorf("%d of %d bytes copied from %s to %s", done, n, from, to)
		}
		return errors.Join(err, o.Close())
	}, func() {
		p := src.data[at : at+n]
		dst.resize(max(len(dst.data), off+n))
		copy(dst.data[off:], p)
	})
}
