package fs

import (
	"syscall"
	"testing"
)

func TestMeter(t *testing.T) {
	var m Meter
	call := func(op uint32, in, out int, errno syscall.Errno) {
		reply := header(make([]byte, lenOutHead+out), make([]byte, lenInHeader+in), errno, out)
		m.end(op, m.begin(), make([]byte, lenInHeader+in), reply)
	}
	call(opRead, 40, 4096, 0)
	call(opRead, 40, 0, syscall.EIO)
	call(opWrite, lenWriteIn+512, 8, 0)
	call(opWrite, lenWriteIn+512, 0, syscall.ENOSPC)
	call(opGetXattr, 20, 0, syscall.ENODATA)
	m.end(opForget, m.begin(), nil, nil) // has no answer
	m.end(1<<20, m.begin(), nil, nil)    // of a kernel to come
	began := m.begin()
	calls, out := m.Report()
	if out != 1 {
		t.Errorf("%d are out", out)
	}
	m.end(opRead, began, nil, nil)
	want := []CallReport{
		{Name: "forget", Count: 1},
		{Name: "read", Count: 2, Bytes: 4096, Failed: 1},
		{Name: "write", Count: 2, Bytes: 512, Failed: 1},
		{Name: "getxattr", Count: 1},
	}
	if len(calls) != len(want) {
		t.Fatalf("%+v", calls)
	}
	for i, w := range want {
		c := calls[i]
		if c.Name != w.Name || c.Count != w.Count || c.Bytes != w.Bytes || c.Failed != w.Failed || c.Took.Count() != w.Count {
			t.Errorf("got %+v, want %+v", c, w)
		}
	}
}

func TestOpNames(t *testing.T) {
	for op, want := range map[uint32]string{
		opForget: "forget", opRead: "read", opWrite: "write", opGetXattr: "getxattr", opListXattr: "listxattr",
		opReadDir: "readdir", opInterrupt: "interrupt", opBmap: "bmap", opDestroy: "destroy", opIoctl: "ioctl",
		opBatchForget: "batchforget", opReadDirPlus: "readdirplus", opSyncFS: "syncfs", opCopyRange64: "copyrange64",
	} {
		if opNames[op] != want {
			t.Errorf("opcode %d is %q, want %q", op, opNames[op], want)
		}
	}
}
