package fs

import (
	"context"
	"math"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// filled is a read whose bytes are in the reply already.
type filled []byte

func (f filled) Size() int                          { return len(f) }
func (f filled) Done()                              {}
func (f filled) Bytes([]byte) ([]byte, fuse.Status) { return f, fuse.OK }

// Readv is go-fuse's way to read into the reply: nothing is left to do where
// it is where we read to.
func (f filled) Readv(dst [][]byte) (int, fuse.Status) {
	n := 0
	for _, d := range dst {
		if len(d) > 0 && n < len(f) && &d[0] != &f[n] {
			copy(d, f[n:])
		}
		n += len(d)
	}
	return min(n, len(f)), fuse.OK
}

func (r *raw) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	if s := r.ctl.snaps.below(&in.InHeader); s != nil {
		return s.Read(cancel, in, buf)
	}
	if r.ctl.owns(in.NodeId) {
		return r.ctl.read(in, buf)
	}
	n, err := r.fs.read(contextOf(cancel), in.NodeId, in.Offset, buf[:min(int(in.Size), len(buf))], in.Flags&syscall.O_NOATIME != 0)
	if err != nil {
		return nil, r.status(err)
	}
	return filled(buf[:n]), fuse.OK
}

func (r *raw) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if r.ctl.owns(in.NodeId) {
		return r.ctl.write(cancel, in, data)
	}
	if in.WriteFlags&fuse.WRITE_CACHE != 0 && r.fs.mapped.Load() {
		return uint32(len(data)), fuse.OK // a page of before the rollback
	}
	ctx := contextOf(cancel)
	kill := in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0
	if kill {
		if err := r.dropGroupBit(ctx, in.NodeId, &in.Caller); err != nil {
			return 0, r.status(err)
		}
	}
	if r.appends(in) {
		n, err := r.fs.Append(ctx, in.NodeId, data, kill)
		return uint32(n), r.status(err)
	}
	n, err := r.fs.Write(ctx, in.NodeId, in.Offset, data, kill)
	return uint32(n), r.status(err)
}

func (r *raw) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	n, status := r.copyRange(cancel, in)
	return uint32(min(n, math.MaxInt32)), status
}

func (r *raw) copyRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint64, fuse.Status) {
	from := r.ctl.snaps.at(in.NodeId)
	switch {
	case r.ctl.snaps.owns(in.NodeIdOut):
		return 0, r.ctl.refusal(in.NodeIdOut)
	case r.ctl.owns(in.NodeId) && from == nil, r.ctl.owns(in.NodeIdOut):
		return 0, fuse.Status(errNotHere)
	}
	ctx, kill := contextOf(cancel), !isRoot(&in.Caller)
	if kill {
		if err := r.dropGroupBit(ctx, in.NodeIdOut, &in.Caller); err != nil {
			return 0, r.status(err)
		}
	}
	var n uint64
	var err error
	if from != nil {
		n, err = r.fs.CopyFrom(ctx, from.raw.fs, from.snap, in.NodeId&plainMask, in.OffIn, in.NodeIdOut, in.OffOut, in.Len, kill)
	} else {
		n, err = r.fs.Copy(ctx, in.NodeId, in.OffIn, in.NodeIdOut, in.OffOut, in.Len, kill)
	}
	if err == nil && r.syncAll {
		err = r.fs.syncFile(context.Background(), in.NodeIdOut)
	}
	return n, r.status(err)
}

func (r *raw) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	if r.ctl.owns(in.NodeId) {
		return fuse.Status(errNotHere)
	}
	ctx, kill := contextOf(cancel), !isRoot(&in.Caller)
	if kill {
		if err := r.dropGroupBit(ctx, in.NodeId, &in.Caller); err != nil {
			return r.status(err)
		}
	}
	return r.status(r.fs.Fallocate(ctx, in.NodeId, in.Offset, in.Length, FallocateMode(in.Mode), kill))
}

// Places to look for, of lseek(2).
const (
	seekData = 3
	seekHole = 4
)

func (r *raw) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if s := r.ctl.snaps.below(&in.InHeader); s != nil {
		return s.Lseek(cancel, in, out)
	}
	if in.Whence != seekData && in.Whence != seekHole || r.ctl.owns(in.NodeId) {
		return fuse.EINVAL
	}
	at, err := r.fs.Seek(contextOf(cancel), in.NodeId, in.Offset, in.Whence == seekHole)
	out.Offset = at
	return r.status(err)
}

func (r *raw) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if r.ctl.owns(in.NodeId) || r.readOnly {
		return fuse.OK
	}
	ctx := contextOf(cancel)
	if r.fs.rolled.Load() {
		if _, err := r.fs.peek(ctx, in.NodeId); err != nil {
			return r.status(err)
		}
	}
	return r.status(r.fs.syncFile(ctx, in.NodeId))
}

func (r *raw) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return r.Fsync(cancel, in)
}

// GetXAttr is asked with an empty dest for the size alone.
func (r *raw) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if s := r.ctl.snaps.below(h); s != nil {
		return s.GetXAttr(cancel, h, name, dest)
	}
	if r.ctl.owns(h.NodeId) {
		return 0, fuse.ENODATA
	}
	value, err := r.fs.GetXattr(contextOf(cancel), h.NodeId, name)
	if err != nil {
		return 0, r.status(err)
	}
	if len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

func (r *raw) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if s := r.ctl.snaps.below(h); s != nil {
		return s.ListXAttr(cancel, h, dest)
	}
	if r.ctl.owns(h.NodeId) {
		return 0, fuse.OK
	}
	names, err := r.fs.ListXattr(contextOf(cancel), h.NodeId)
	if err != nil {
		return 0, r.status(err)
	}
	var list []byte
	for _, name := range names {
		if isTrusted(name) && !isRoot(&h.Caller) {
			continue // shown to the administrator only
		}
		list = append(append(list, name...), 0)
	}
	if len(dest) < len(list) {
		return uint32(len(list)), fuse.ERANGE
	}
	return uint32(copy(dest, list)), fuse.OK
}

func (r *raw) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	if r.ctl.owns(in.NodeId) {
		return r.ctl.refusal(in.NodeId)
	}
	if len(value) > int(in.Size) {
		value = value[:in.Size]
	}
	killGroup := in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0
	return r.status(r.fs.SetXattr(contextOf(cancel), in.NodeId, name, value, SetMode(in.Flags), killGroup))
}

func (r *raw) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if r.ctl.owns(h.NodeId) {
		return r.ctl.refusal(h.NodeId)
	}
	return r.status(r.fs.RemoveXattr(contextOf(cancel), h.NodeId, name))
}

// SyncFS makes everything durable, for sync(2) and syncfs(2).
func (r *raw) SyncFS(cancel <-chan struct{}) syscall.Errno {
	if r.readOnly {
		return 0
	}
	err := r.fs.store.Sync(contextOf(cancel))
	if err == nil {
		err = r.fs.store.LostAny()
	}
	return Errno(err)
}
