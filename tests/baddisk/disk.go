package main

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// sector is what reaches the media together.
const sector = 512

// backing is the image.
type backing interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Sync() error
}

// A disk is the image and what is wrong with it.
type disk struct {
	size int64

	mu      sync.Mutex
	changed *sync.Cond // the faults were changed
	image   backing
	cache   map[int64][]byte // sectors not flushed yet, by number
	faults  faults
	counts  [3]uint64 // requests by kind
	cuts    int       // how often the power went
}

// kind of a request.
type kind int

const (
	reads kind = iota
	writes
	flushes
)

var kindNames = map[string]kind{"read": reads, "write": writes, "flush": flushes}

// faults are what requests meet; the zero value is a good disk.
type faults struct {
	dead  bool // no power, or the cable is out
	hang  bool // nothing returns
	full  bool // writes find no room, as on a thin volume
	lie   bool // flushes succeed without effect, as with some cheap controllers
	eio   [3]bool
	after [3]int64 // eio begins when so many more requests went well; 0 = at once
	from  int64    // eio only where a request touches [from, to)
	to    int64
	delay time.Duration
}

func newDisk(f *os.File) (*disk, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d := &disk{size: st.Size(), image: f, cache: make(map[int64][]byte)}
	d.changed = sync.NewCond(&d.mu)
	return d, nil
}

// meet lets a request meet the faults. d.mu is held, but not while waiting.
func (d *disk) meet(k kind, off, n int64) syscall.Errno {
	d.counts[k]++
	for d.faults.hang && !d.faults.dead {
		d.changed.Wait()
	}
	if wait := d.faults.delay; wait > 0 {
		d.mu.Unlock()
		time.Sleep(wait)
		d.mu.Lock()
	}
	f := &d.faults
	switch {
	case f.dead:
		return syscall.EIO
	case f.full && k == writes:
		return syscall.ENOSPC
	case !f.eio[k] || k != flushes && (off >= f.to || off+n <= f.from):
		return 0
	case f.after[k] > 0:
		f.after[k]--
		return 0
	}
	return syscall.EIO
}

func (d *disk) read(p []byte, off int64) (int, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := max(min(int64(len(p)), d.size-off), 0)
	if e := d.meet(reads, off, n); e != 0 {
		return 0, e
	}
	p = p[:n]
	if m, _ := d.image.ReadAt(p, off); int64(m) < n {
		return 0, syscall.EIO
	}
	d.overlay(off, n, func(data []byte, at int64, from, to int64) {
		copy(p[at:], data[from:to])
	}, false)
	return int(n), 0
}

func (d *disk) write(p []byte, off int64) (int, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := int64(len(p))
	if off+n > d.size {
		return 0, syscall.ENOSPC
	}
	if e := d.meet(writes, off, n); e != 0 {
		return 0, e
	}
	d.overlay(off, n, func(data []byte, at int64, from, to int64) {
		copy(data[from:to], p[at:])
	}, true)
	return len(p), 0
}

// overlay calls fn for the cached sectors of [off, off+n): data[from:to]
// belongs at offset at of the request. With create there is one for each.
func (d *disk) overlay(off, n int64, fn func(data []byte, at, from, to int64), create bool) {
	for s := off / sector; s*sector < off+n; s++ {
		data := d.cache[s]
		if data == nil {
			if !create {
				continue
			}
			data = make([]byte, sector)
			_, _ = d.image.ReadAt(data, s*sector) // a short read leaves zeroes, as beyond a sparse end
			d.cache[s] = data
		}
		from, to := max(off-s*sector, 0), min(off+n-s*sector, sector)
		fn(data, s*sector+from-off, from, to)
	}
}

// flush makes durable what was written before.
func (d *disk) flush() syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.meet(flushes, 0, 0); e != 0 || d.faults.lie {
		return e
	}
	for s, data := range d.cache {
		if _, err := d.image.WriteAt(data, s*sector); err != nil {
			return syscall.EIO
		}
	}
	clear(d.cache)
	if d.image.Sync() != nil {
		return syscall.EIO
	}
	return 0
}
