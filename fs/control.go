package fs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A Control answers for the control directory.
type Control interface {
	// Command carries out one line and writes the reply. An error fails the
	// caller's write(2) and is appended to the reply.
	Command(ctx context.Context, line string, w io.Writer) error
	// Ask is Command for lines that change nothing. Of others it is an EROFS.
	Ask(ctx context.Context, line string, w io.Writer) error
	// Status writes the state as JSON.
	Status(w io.Writer) error
	// Quotas writes the accounts of directories as JSON. It must not wait, as
	// Status must not.
	Quotas(w io.Writer) error
	// Snapshots writes the list of snapshots as JSON, without what is unique to
	// each: looking at the file would count that.
	Snapshots(ctx context.Context, w io.Writer) error
}

// The control directory: MNT/.anvilfs.
const (
	controlDir  = ".anvilfs"
	controlFile = "control"
	statusFile  = "status.json"
	quotasFile  = "quotas.json"
	listFile    = "snapshots.json"

	// controlInum is the directory: numbers this low are never handed out.
	// Its files are numbered anew from transcriptBit for each path walk.
	controlInum   = 16
	transcriptBit = 1 << 63

	commandMax    = 64 << 10
	transcriptMax = 16 << 20
)

// control is the state of the control directory. A nil handler: there is none.
type control struct {
	handler Control
	started time.Time
	snaps   *snapshots
	ran     func() // called after a command; may be nil

	mu    sync.Mutex
	next  uint64
	files map[uint64]*transcript
}

// A transcript is a control file as one opener sees it.
type transcript struct {
	name string

	mu      sync.Mutex // held while a command runs: one at a time per opener
	content []byte
	changed time.Time
}

func newControl(handler Control) *control {
	return &control{handler: handler, started: time.Now(), next: transcriptBit, files: make(map[uint64]*transcript), snaps: newSnapshots(nil, nil, 0)}
}

// owns reports whether a node is the control directory or below it.
func (c *control) owns(inum uint64) bool {
	return c.handler != nil && (inum == controlInum || inum&transcriptBit != 0 || c.snaps.owns(inum))
}

// refusal is the answer to who wants to change what is there.
func (c *control) refusal(inum uint64) fuse.Status {
	if c.snaps.owns(inum) {
		return fuse.EROFS
	}
	return fuse.EPERM
}

// elsewhere is the answer to who wants to have what is in from in another
// directory: out of a snapshot as out of another filesystem, so that it is copied.
func (c *control) elsewhere(from, to uint64) fuse.Status {
	if c.snaps.owns(from) && !c.owns(to) {
		return fuse.Status(errOtherTree)
	}
	return c.refusal(to)
}

// reserved reports whether a name cannot be made or removed by callers.
func (c *control) reserved(dir uint64, name string) bool {
	return c.handler != nil && (c.owns(dir) || dir == ondisk.InumRoot && name == controlDir)
}

func (c *control) lookup(ctx context.Context, dir uint64, name string, out *fuse.EntryOut) fuse.Status {
	switch {
	case dir == snapshotsInum:
		return c.snaps.lookup(ctx, name, out)
	case c.snaps.owns(dir):
		return fuse.Status(errStale)
	case dir == controlInum && name == snapshotsDir && c.snaps.source != nil:
		// No lifetime, as its time says if what the kernel has of it still holds.
		return c.snaps.lookup(ctx, ".", out)
	case dir == ondisk.InumRoot || dir == controlInum && name == ".":
		out.NodeId, out.Generation = controlInum, 1
		out.EntryValid, out.AttrValid = lifetime, lifetime
		c.attr(controlInum, nil, &out.Attr)
		return fuse.OK
	case dir != controlInum:
		return fuse.ENOENT
	}
	fill := func(io.Writer) error { return nil }
	switch name {
	case controlFile:
	case statusFile:
		fill = c.handler.Status
	case quotasFile:
		fill = c.handler.Quotas
	case listFile:
		fill = func(w io.Writer) error { return c.handler.Snapshots(ctx, w) }
	default:
		return fuse.ENOENT
	}
	// No lifetime: the next path walk asks again and gets a fresh file.
	t := &transcript{name: name, changed: time.Now()}
	var buf bytes.Buffer
	if err := fill(&buf); err != nil {
		return fuse.Status(Errno(err))
	}
	t.content = buf.Bytes()
	c.mu.Lock()
	inum := c.next
	c.next++
	c.files[inum] = t
	c.mu.Unlock()
	out.NodeId, out.Generation = inum, 1
	c.attr(inum, t, &out.Attr)
	return fuse.OK
}

// forget drops a file: each was given out once, so the count does not matter.
func (c *control) forget(inum, count uint64) {
	if c.snaps.owns(inum) {
		c.snaps.forget(inum, count)
		return
	}
	c.mu.Lock()
	delete(c.files, inum)
	c.mu.Unlock()
}

func (c *control) file(inum uint64) *transcript {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.files[inum]
}

// attr fills in the attributes of the directory (t is nil) or a locked or
// fresh file.
func (c *control) attr(inum uint64, t *transcript, out *fuse.Attr) {
	when := c.started
	out.Ino, out.Nlink, out.Mode = inum, 1, syscall.S_IFDIR|0o755
	// They are of who serves: a user who mounted may command it.
	out.Uid, out.Gid = uint32(os.Geteuid()), uint32(os.Getegid())
	if t != nil {
		when = t.changed
		out.Size = uint64(len(t.content))
		out.Mode = syscall.S_IFREG | 0o644
		if t.name != statusFile { // paths of directories are not for everybody
			out.Mode = syscall.S_IFREG | 0o600
		}
	}
	sec, nsec := uint64(when.Unix()), uint32(when.Nanosecond())
	out.Mtime, out.Ctime, out.Atime = sec, sec, sec
	out.Mtimensec, out.Ctimensec, out.Atimensec = nsec, nsec, nsec
}

func (c *control) getattr(inum uint64, out *fuse.AttrOut) fuse.Status {
	switch inum {
	case controlInum:
		c.attr(inum, nil, &out.Attr)
		return fuse.OK
	case snapshotsInum:
		c.snaps.attr(&out.Attr)
		return fuse.OK
	}
	t := c.file(inum)
	if t == nil {
		return fuse.Status(errStale)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c.attr(inum, t, &out.Attr)
	return fuse.OK
}

// setattr lets a shell truncate the control file; nothing else can change.
func (c *control) setattr(in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	t := c.file(in.NodeId)
	if t == nil || t.name != controlFile || in.Valid&(fuse.FATTR_MODE|fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		return c.refusal(in.NodeId)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if in.Valid&fuse.FATTR_SIZE != 0 {
		if in.Size != 0 {
			return fuse.EINVAL
		}
		t.content = nil
	}
	c.attr(in.NodeId, t, &out.Attr)
	return fuse.OK
}

func (c *control) read(in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	t := c.file(in.NodeId)
	if t == nil {
		return nil, fuse.EISDIR
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	if in.Offset < uint64(len(t.content)) {
		n = copy(buf, t.content[in.Offset:])
	}
	return filled(buf[:n]), fuse.OK
}

// write carries out a command. The reply follows the command in the file, so
// that it is what the caller reads next.
func (c *control) write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	t := c.file(in.NodeId)
	if t == nil || t.name != controlFile {
		return 0, c.refusal(in.NodeId)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if in.Offset > transcriptMax {
		return 0, fuse.Status(errTooBig)
	}
	for uint64(len(t.content)) < in.Offset {
		t.content = append(t.content, '\n')
	}
	var reply bytes.Buffer
	err := errLongCommand
	if len(data) <= commandMax {
		err = c.handler.Command(contextOf(cancel), strings.TrimSpace(string(data)), &reply)
	}
	if c.ran != nil {
		c.ran()
	}
	t.content = t.content[:in.Offset]
	t.changed = time.Now()
	if err != nil {
		// The write fails, so the caller's position stays before the reply.
		reply.WriteString("error: " + err.Error() + "\n")
		t.content = append(t.content, reply.Bytes()...)
		return 0, fuse.Status(commandErrno(err))
	}
	t.content = append(append(t.content, data...), reply.Bytes()...)
	return uint32(len(data)), fuse.OK
}

var errLongCommand = fmt.Errorf("a command has %d KiB at most: nothing was done", commandMax>>10)

// commandErrno is Errno, but EINVAL for what has no number: most commands
// fail because of what was asked.
func commandErrno(err error) syscall.Errno {
	if no := Errno(err); no != errIO {
		return no
	}
	return errInvalid
}

// readdir lists a directory for the kernel.
func (c *control) readdir(ctx context.Context, dir, pos uint64, add func(uint64, *ondisk.Dirent) bool) fuse.Status {
	if dir == snapshotsInum {
		return c.snaps.readdir(ctx, pos, add)
	}
	list := []ondisk.Dirent{
		{Inum: controlInum, Type: ondisk.ObjDir, Name: "."},
		{Inum: ondisk.InumRoot, Type: ondisk.ObjDir, Name: ".."},
		{Inum: transcriptBit, Type: ondisk.ObjFile, Name: controlFile},
		{Inum: transcriptBit + 1, Type: ondisk.ObjFile, Name: statusFile},
		{Inum: transcriptBit + 2, Type: ondisk.ObjFile, Name: quotasFile},
		{Inum: transcriptBit + 3, Type: ondisk.ObjFile, Name: listFile},
	}
	if c.snaps.source != nil {
		list = append(list, ondisk.Dirent{Inum: snapshotsInum, Type: ondisk.ObjDir, Name: snapshotsDir})
	}
	for i := pos; i < uint64(len(list)); i++ {
		if !add(i+1, &list[i]) {
			break
		}
	}
	return fuse.OK
}
