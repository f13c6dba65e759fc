package fs

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Sizes of the conversation with the kernel.
const (
	maxRequest  = 1 << 20 // bytes of a read or write
	inputBuffer = maxRequest + 8192
	replyBuffer = 8192 // for replies without data of their own
	maxReaders  = 128
	idleReaders = 8 // that stay, for a new one costs more than its wait: its buffers
	lenInHeader = 40
	lenOutHead  = 16
)

// patience is how long a call may take before a signal makes it return EINTR.
// Local filesystems do not return it at all, and programs are not prepared;
// but a call that hangs must let its caller be killed.
const patience = time.Second

// A conn is the device loop: it reads requests, answers some itself and lets
// go-fuse decode the others.
//
// Each reader is a goroutine that carries out what it read. Whoever takes the
// last idle place starts another reader first, so that a slow call holds up
// nobody; those too many end.
type conn struct {
	fd    int
	proto *fuse.ProtocolServer
	raw   *raw
	log   *slog.Logger
	meter *Meter
	debug bool // log every request
	calls calls
	// destroy is called when the kernel asks to end; umount(8) waits for it.
	destroy func()

	readers atomic.Int32
	idle    atomic.Int32
	wg      sync.WaitGroup
}

// serve reads requests until the mount is gone.
func (c *conn) serve() {
	c.start()
	c.wg.Wait()
}

func (c *conn) start() {
	c.readers.Add(1)
	c.idle.Add(1)
	c.wg.Add(1)
	go c.read()
}

// A reader's buffers; the reply's grows when needed.
type buffers struct {
	in     []byte
	out    []byte
	inIov  [1][]byte
	iov    [1][]byte
	outIov [2][]byte
	loan   loan // what is written behind the reply
}

func (c *conn) read() {
	defer c.wg.Done()
	defer c.readers.Add(-1)
	b := &buffers{in: make([]byte, inputBuffer), out: make([]byte, replyBuffer)}
	for {
		n, err := readDevice(c.fd, b.in)
		if c.idle.Add(-1) == 0 && err == nil && c.readers.Load() < maxReaders {
			c.start()
		}
		switch err {
		case nil:
			c.handle(b, b.in[:n])
		case syscall.ENOENT: // the request was withdrawn
		case syscall.ENODEV: // unmounted
			return
		default:
			c.log.Error("reading requests from the kernel", "error", err)
			return
		}
		if int(c.idle.Add(1)) > max(idleReaders, runtime.GOMAXPROCS(0)) {
			c.idle.Add(-1)
			return
		}
	}
}

func readDevice(fd int, b []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, b)
		if err != syscall.EINTR && err != syscall.EAGAIN {
			return n, err
		}
	}
}

// handle answers one request.
func (c *conn) handle(b *buffers, in []byte) {
	if len(in) < lenInHeader {
		c.log.Error("request too short", "bytes", len(in))
		return
	}
	op := binary.NativeEndian.Uint32(in[4:])
	began := c.meter.begin()
	var reply []byte
	ours := c.raw.refused(op, in)
	if !ours && freezes(op, in) {
		c.writeMapped(binary.NativeEndian.Uint64(in[16:]))
	}
	if c.raw.gated(op, in) {
		if c.raw.fs.gate.enter(op == opForget || op == opBatchForget) {
			// Until it is answered: what the kernel learns later is new.
			defer c.raw.fs.gate.leave()
		} else {
			ours = true
		}
	}
	if ours {
		reply = errorReply(b.out, in, errIO)
	} else {
		reply, ours = c.special(b, op, in)
	}
	if !ours {
		reply = c.decode(b, op, in)
	}
	// Before the answer: who got it may look at the numbers.
	c.meter.end(op, began, in, reply)
	if len(reply) == 0 {
		return
	}
	// ENOENT: the caller is gone. ENODEV: so is the mount.
	err := c.answer(b, reply)
	if err != nil && err != syscall.ENOENT && err != syscall.ENODEV {
		c.log.Error("answering the kernel", "opcode", op, "bytes", len(reply), "error", err)
	}
	c.appended(op, in)
}

// writeMapped has the kernel write what programs changed of a file through mappings.
// It waits for requests that the kernel sends meanwhile: the caller is outside of the
// gate, and does not count among the readers, of which one is left for them.
func (c *conn) writeMapped(inum uint64) {
	c.readers.Add(-1)
	defer c.readers.Add(1)
	if c.idle.Load() == 0 {
		c.start()
	}
	c.invalidateData(inum)
}

// answer writes a reply, and what was lent for it, which goes back.
func (c *conn) answer(b *buffers, reply []byte) (err error) {
	l := b.loan
	b.loan = loan{}
	if len(l.data) == 0 {
		_, err = syscall.Write(c.fd, reply)
	} else {
		b.outIov = [2][]byte{reply, l.data}
		_, err = unix.Writev(c.fd, b.outIov[:])
		b.outIov = [2][]byte{}
	}
	if l.back != nil {
		l.back(l.data)
	}
	return err
}

// decode lets go-fuse call raw.
func (c *conn) decode(b *buffers, op uint32, in []byte) []byte {
	if need := replySize(op, in); len(b.out) < need {
		b.out = make([]byte, need)
	}
	b.inIov[0], b.iov[0] = in, b.out
	n, status := c.proto.HandleRequest(b.inIov[:], b.iov[:])
	if !status.Ok() {
		return errorReply(b.out, in, syscall.Errno(status))
	}
	return b.out[:n]
}

// replySize is the room a reply may need.
func replySize(op uint32, in []byte) int {
	at := 0 // of the size the caller asked for
	switch op {
	case opRead, opReadDir, opReadDirPlus:
		at = lenInHeader + 16
	case opGetXattr, opListXattr:
		at = lenInHeader
	case opIoctl:
		at = lenInHeader + 28
	}
	if at == 0 || len(in) < at+4 {
		return replyBuffer
	}
	return replyBuffer + int(min(binary.NativeEndian.Uint32(in[at:]), maxRequest))
}

// errorReply makes the answer of a request that failed, or that succeeded
// without anything to say: errno 0.
func errorReply(out, in []byte, errno syscall.Errno) []byte {
	return header(out, in, errno, 0)
}

// header fills in an answer's header in front of n bytes that lie at
// out[lenOutHead:].
func header(out, in []byte, errno syscall.Errno, n int) []byte {
	out = out[:lenOutHead+n]
	binary.NativeEndian.PutUint32(out, uint32(len(out)))
	binary.NativeEndian.PutUint32(out[4:], uint32(-int32(errno)))
	copy(out[8:lenOutHead], in[8:16]) // the request's number
	return out
}

// lengthen says that n more bytes follow behind a reply.
func lengthen(reply []byte, n int) []byte {
	binary.NativeEndian.PutUint32(reply, uint32(len(reply)+n))
	return reply
}

// panicked contains a panic of one request: it answers EIO, the others go on.
func panicked(log *slog.Logger, what any) fuse.Status {
	log.Error("panic while answering a request", "panic", fmt.Sprint(what), "stack", string(debug.Stack()))
	return fuse.EIO
}
