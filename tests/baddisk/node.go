package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// root is the directory with the two files.
type root struct {
	fs.Inode
	disk *disk
}

var _ = (fs.NodeOnAdder)((*root)(nil))

// OnAdd makes the files.
func (r *root) OnAdd(ctx context.Context) {
	r.AddChild("disk", r.NewPersistentInode(ctx, &diskFile{disk: r.disk}, fs.StableAttr{Mode: syscall.S_IFREG}), true)
	r.AddChild("ctl", r.NewPersistentInode(ctx, &ctlFile{disk: r.disk}, fs.StableAttr{Mode: syscall.S_IFREG}), true)
}

// diskFile is the image as the loop device sees it.
type diskFile struct {
	fs.Inode
	disk *disk
}

var (
	_ = (fs.NodeOpener)((*diskFile)(nil))
	_ = (fs.NodeReader)((*diskFile)(nil))
	_ = (fs.NodeWriter)((*diskFile)(nil))
	_ = (fs.NodeFsyncer)((*diskFile)(nil))
	_ = (fs.NodeGetattrer)((*diskFile)(nil))
	_ = (fs.NodeSetattrer)((*diskFile)(nil))
)

// Getattr never meets a fault: the size of a disk is known to the controller.
func (f *diskFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o600, uint64(f.disk.size)
	out.Blocks = out.Size / sector
	return 0
}

// Setattr lets times be set, which means nothing here.
func (f *diskFile) Setattr(ctx context.Context, h fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return f.Getattr(ctx, h, out)
}

// Open needs no handle.
func (f *diskFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (f *diskFile) Read(_ context.Context, _ fs.FileHandle, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, e := f.disk.read(p, off)
	return fuse.ReadResultData(p[:n]), e
}

func (f *diskFile) Write(_ context.Context, _ fs.FileHandle, p []byte, off int64) (uint32, syscall.Errno) {
	n, e := f.disk.write(p, off)
	return uint32(n), e
}

// Fsync is what a flush of the loop device becomes.
func (f *diskFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return f.disk.flush() }

// ctlFile takes commands and gives the state.
type ctlFile struct {
	fs.Inode
	disk *disk
}

var (
	_ = (fs.NodeOpener)((*ctlFile)(nil))
	_ = (fs.NodeReader)((*ctlFile)(nil))
	_ = (fs.NodeWriter)((*ctlFile)(nil))
	_ = (fs.NodeGetattrer)((*ctlFile)(nil))
	_ = (fs.NodeSetattrer)((*ctlFile)(nil))
)

// Getattr shows no size: every read is fresh.
func (f *ctlFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0o600
	return 0
}

// Setattr lets a shell truncate it.
func (f *ctlFile) Setattr(ctx context.Context, h fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return f.Getattr(ctx, h, out)
}

// Open keeps the kernel from caching what changes by itself.
func (f *ctlFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (f *ctlFile) Read(_ context.Context, _ fs.FileHandle, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	text := f.disk.report()
	if off >= int64(len(text)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(p[:copy(p, text[off:])]), 0
}

func (f *ctlFile) Write(_ context.Context, _ fs.FileHandle, p []byte, _ int64) (uint32, syscall.Errno) {
	if err := f.disk.command(string(p)); err != nil {
		fmt.Fprintln(os.Stderr, "baddisk:", err)
		return 0, syscall.EINVAL
	}
	return uint32(len(p)), 0
}
