package fs

import (
	"encoding/binary"
	"math"
	"syscall"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Opcodes whose layout conn must know.
const (
	opLookup      = 1
	opForget      = 2
	opGetAttr     = 3
	opRead        = 15
	opStatFS      = 17
	opGetXattr    = 22
	opListXattr   = 23
	opInit        = 26
	opReadDir     = 28
	opInterrupt   = 36
	opBmap        = 37
	opDestroy     = 38
	opIoctl       = 39
	opBatchForget = 42
	opReadDirPlus = 44
	opSyncFS      = 50
	opCopyRange64 = 53
)

// special answers the requests that go-fuse lacks, or does not answer as it
// should here: SYNCFS and DESTROY must wait for the media, FORGET is frequent
// and simple, BMAP has no answer on media where blocks move.
func (c *conn) special(b *buffers, op uint32, in []byte) (reply []byte, ours bool) {
	defer func() {
		if what := recover(); what != nil {
			reply, ours = errorReply(b.out, in, syscall.Errno(panicked(c.log, what))), true
		}
	}()
	body := in[lenInHeader:]
	switch op {
	case opRead:
		return c.readFile(b, in)
	case opForget:
		if len(body) >= 8 {
			c.raw.Forget(binary.NativeEndian.Uint64(in[16:]), binary.NativeEndian.Uint64(body))
		}
		return nil, true
	case opBatchForget:
		c.batchForget(body)
		return nil, true
	case opInterrupt:
		if len(body) >= 8 {
			c.interrupt(in)
		}
		return nil, true
	case opBmap:
		return errorReply(b.out, in, syscall.ENOSYS), true
	case opDestroy:
		c.destroy()
		return errorReply(b.out, in, 0), true
	case opSyncFS:
		return errorReply(b.out, in, c.raw.SyncFS(nil)), true
	case opCopyRange64:
		return c.copyRange64(b, in), true
	}
	return nil, false
}

// batchForget decodes a count, padding, and pairs of node and count.
func (c *conn) batchForget(body []byte) {
	const lenHead, lenOne = 8, 16
	if len(body) < lenHead {
		return
	}
	count := int(binary.NativeEndian.Uint32(body))
	list := body[lenHead:]
	for range min(count, len(list)/lenOne) {
		c.raw.Forget(binary.NativeEndian.Uint64(list), binary.NativeEndian.Uint64(list[8:]))
		list = list[lenOne:]
	}
}

// interrupt passes the news on to a request that still runs after a while;
// go-fuse finds it by its number, which is not used again.
func (c *conn) interrupt(in []byte) {
	kept := append([]byte(nil), in...)
	time.AfterFunc(patience, func() {
		if c.calls.interrupt(binary.NativeEndian.Uint64(kept[lenInHeader:])) {
			return
		}
		out := make([]byte, replyBuffer)
		c.proto.HandleRequest([][]byte{kept}, [][]byte{out}) // there is nothing to answer
	})
}

// copyRange64 is COPY_FILE_RANGE with an answer that counts beyond 32 bits.
func (c *conn) copyRange64(b *buffers, in []byte) []byte {
	if len(in) < int(unsafe.Sizeof(fuse.CopyFileRangeIn{})) {
		return errorReply(b.out, in, syscall.EINVAL)
	}
	n, status := c.raw.copyRange(nil, (*fuse.CopyFileRangeIn)(unsafe.Pointer(&in[0])))
	if !status.Ok() {
		return errorReply(b.out, in, syscall.Errno(status))
	}
	binary.NativeEndian.PutUint64(b.out[lenOutHead:], n)
	return header(b.out, in, 0, 8)
}

// Notifications: messages without a request.
const (
	notifyInvalInode = 2
	notifyInvalEntry = 3
)

// invalidateAttr makes the kernel ask for an inode's attributes again.
func (c *conn) invalidateAttr(inum uint64) {
	var b [lenOutHead + 24]byte
	binary.NativeEndian.PutUint64(b[lenOutHead:], inum)
	binary.NativeEndian.PutUint64(b[lenOutHead+8:], math.MaxUint64) // offset -1: no data
	c.notify(notifyInvalInode, b[:])
}

// invalidateData drops what the kernel caches of an inode, content included.
// It waits for pages in use, so no request may wait for it but by writeMapped.
func (c *conn) invalidateData(inum uint64) {
	var b [lenOutHead + 24]byte
	binary.NativeEndian.PutUint64(b[lenOutHead:], inum)
	c.notify(notifyInvalInode, b[:])
}

// invalidateEntry makes the kernel look a name up again. It waits for the
// directory's lock, so no request may wait for it.
func (c *conn) invalidateEntry(dir uint64, name string) {
	b := make([]byte, lenOutHead+16+len(name)+1)
	binary.NativeEndian.PutUint64(b[lenOutHead:], dir)
	binary.NativeEndian.PutUint32(b[lenOutHead+8:], uint32(len(name)))
	copy(b[lenOutHead+16:], name)
	c.notify(notifyInvalEntry, b)
}

// notify sends a message. An inode or name that the kernel does not know is
// as good as invalidated.
func (c *conn) notify(code uint32, b []byte) {
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint32(b[4:], code)
	clear(b[8:lenOutHead])
	if _, err := syscall.Write(c.fd, b); err != nil && err != syscall.ENOENT && err != syscall.ENODEV {
		c.log.Warn("notifying the kernel", "code", code, "error", err)
	}
}
