package fs

import (
	"context"
	"sync"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Reads of files are most of what is copied, so they pass go-fuse by: the
// answer is written from the buffer into which the store has read.

// A loan is data that the store lent for an answer.
type loan struct {
	data []byte
	back func([]byte)
}

// calls are the reads under way, for INTERRUPT, which names them by number.
type calls struct {
	mu  sync.Mutex
	out map[uint64]chan struct{}
}

func (c *calls) begin(unique uint64) chan struct{} {
	cancel := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out == nil {
		c.out = make(map[uint64]chan struct{})
	}
	c.out[unique] = cancel
	return cancel
}

func (c *calls) end(unique uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.out, unique)
}

// interrupt cancels a call. false: it is not, or no longer, one of these.
func (c *calls) interrupt(unique uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cancel, ok := c.out[unique]
	if ok {
		close(cancel)
		delete(c.out, unique)
	}
	return ok
}

// readFile answers a READ of a file of this filesystem. Others, of snapshots
// and control files, are not ours.
func (c *conn) readFile(b *buffers, in []byte) (reply []byte, ours bool) {
	if len(in) < int(unsafe.Sizeof(fuse.ReadIn{})) {
		return nil, false
	}
	r := (*fuse.ReadIn)(unsafe.Pointer(&in[0]))
	if c.debug || c.raw.ctl.owns(r.NodeId) {
		return nil, false
	}
	cancel := c.calls.begin(r.Unique)
	defer c.calls.end(r.Unique)
	data, lent, err := c.raw.fs.lend(contextOf(cancel), r.NodeId, r.Offset, int(min(r.Size, maxRequest)), r.Flags&syscall.O_NOATIME != 0)
	if err != nil {
		return errorReply(b.out, in, syscall.Errno(c.raw.status(err))), true
	}
	if !lent && len(data) <= len(b.out)-lenOutHead {
		return header(b.out, in, 0, copy(b.out[lenOutHead:], data)), true
	}
	b.loan = loan{data: data}
	if lent {
		b.loan.back = c.raw.fs.store.Return
	}
	return lengthen(header(b.out, in, 0, 0), len(data)), true
}

// lend returns the content of a file from off on, at most n bytes. lent: in a
// buffer that the store wants back; else it must not be changed. quiet: the time
// of the read is not noted, as who opened the file with O_NOATIME asks.
func (f *FS) lend(ctx context.Context, inum, off uint64, n int, quiet bool) (data []byte, lent bool, err error) {
	d, rec, err := f.rlock(ctx, inum)
	if err != nil {
		return nil, false, err
	}
	defer f.runlock(d)
	m := &rec.Meta
	if m.Type == ondisk.ObjDir {
		return nil, false, errIsDir
	}
	if !quiet {
		f.atimes.touch(d, m)
	}
	if off >= m.Size {
		return nil, false, nil
	}
	n = int(min(uint64(n), m.Size-off))
	if m.DirectData() {
		data = make([]byte, n)
		_, err = f.readLocked(ctx, rec, off, data)
		return data, false, err
	}
	data, err = f.store.Lend(ctx, inum, off, n)
	return data, err == nil, err
}
