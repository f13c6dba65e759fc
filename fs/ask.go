package fs

import (
	"bytes"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// IocAsk is the ioctl that hands the control file a command which only looks:
// AskLen bytes, the rest of them zero. The reply is read from the same open file,
// from its beginning. It needs a file that is open for reading: of a mount that is
// read-only the kernel opens none for writing.
const (
	AskLen = 4096
	IocAsk = 1<<30 | AskLen<<16 | 'A'<<8 | 1 // _IOW('A', 1, char[AskLen])
)

// ioctl carries out IocAsk. The reply of a command that failed ends with the reason.
func (c *control) ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, input []byte) fuse.Status {
	t := c.file(in.NodeId)
	if in.Cmd != IocAsk || t == nil || t.name != controlFile {
		return fuse.Status(errBadIoctl)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	line, _, _ := bytes.Cut(input, []byte{0})
	var reply bytes.Buffer
	err := c.handler.Ask(contextOf(cancel), strings.TrimSpace(string(line)), &reply)
	if err != nil {
		reply.WriteString("error: " + err.Error() + "\n")
	}
	t.content, t.changed = reply.Bytes(), time.Now()
	if err != nil {
		return fuse.Status(commandErrno(err))
	}
	return fuse.OK
}
