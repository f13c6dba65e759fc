package fs

import (
	"encoding/binary"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/anvilfs/anvilfs/ondisk/histogram"
)

// A Meter counts the kernel's requests. The zero value is ready.
type Meter struct {
	ops [len(opNames)]opMeter
	out atomic.Int64
}

type opMeter struct {
	bytes, failed atomic.Uint64
	took          histogram.Histogram
}

// opNames are FUSE's opcodes that can reach us; "" is never sent.
var opNames = [...]string{
	1: "lookup", 2: "forget", 3: "getattr", 4: "setattr", 5: "readlink", 6: "symlink", 8: "mknod", 9: "mkdir",
	10: "unlink", 11: "rmdir", 12: "rename", 13: "link", 14: "open", 15: "read", 16: "write", 17: "statfs",
	18: "release", 20: "fsync", 21: "setxattr", 22: "getxattr", 23: "listxattr", 24: "removexattr", 25: "flush",
	26: "init", 27: "opendir", 28: "readdir", 29: "releasedir", 30: "fsyncdir", 31: "getlk", 32: "setlk",
	33: "setlkw", 34: "access", 35: "create", 36: "interrupt", 37: "bmap", 38: "destroy", 39: "ioctl", 40: "poll",
	42: "batchforget", 43: "fallocate", 44: "readdirplus", 45: "rename2", 46: "lseek", 47: "copyrange",
	48: "setupmapping", 50: "syncfs", 51: "tmpfile", 52: "statx", 53: "copyrange64",
}

const opWrite = 16

// lenWriteIn is a write's fixed part behind the header.
const lenWriteIn = 40

// begin counts a request in.
func (m *Meter) begin() time.Time {
	m.out.Add(1)
	return time.Now()
}

// end counts it as answered.
func (m *Meter) end(op uint32, began time.Time, in, reply []byte) {
	m.out.Add(-1)
	if op >= uint32(len(m.ops)) {
		return
	}
	o := &m.ops[op]
	o.took.Add(time.Since(began))
	errno, bytes := syscall.Errno(0), uint64(0)
	if len(reply) >= lenOutHead {
		errno = syscall.Errno(-int32(binary.NativeEndian.Uint32(reply[4:])))
		// What is written behind the reply is counted by its header, too.
		bytes = uint64(binary.NativeEndian.Uint32(reply)) - lenOutHead
	}
	switch {
	case errno == errIO || errno == syscall.ENOSPC:
		o.failed.Add(1)
	case errno != 0:
	case op == opRead:
		o.bytes.Add(bytes)
	case op == opWrite:
		o.bytes.Add(uint64(max(len(in)-lenInHeader-lenWriteIn, 0)))
	}
}

// A CallReport counts requests of one kind, as status shows them.
type CallReport struct {
	Name   string             `json:"call"`
	Count  uint64             `json:"count"`
	Bytes  uint64             `json:"bytes"`   // of reads and writes
	Failed uint64             `json:"failed"`  // answered with EIO or ENOSPC
	TookUs int64              `json:"took_us"` // all together
	Took   histogram.Snapshot `json:"-"`       // for the metrics
}

// Report counts the kinds of requests there were, and those that are out.
func (m *Meter) Report() (calls []CallReport, out int64) {
	for i := range m.ops {
		o := &m.ops[i]
		t := o.took.Snapshot()
		if n := t.Count(); n > 0 && opNames[i] != "" {
			calls = append(calls, CallReport{Name: opNames[i], Count: n, Bytes: o.bytes.Load(),
				Failed: o.failed.Load(), TookUs: t.Sum.Microseconds(), Took: t})
		}
	}
	return calls, m.out.Load()
}
