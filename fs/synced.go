package fs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// synced answers when what a call changed is durable, as dirsync wants of names
// and sync of everything. The kernel does that for written data only.
//
// It waits for no signal: what has been done cannot be told as interrupted, since
// the caller would do it again.
type synced struct{ *raw }

// serving is what answers the kernel, with these flags of mount(2).
func (r *raw) serving(flags uintptr) fuse.RawFileSystem {
	r.syncAll = flags&syscall.MS_SYNCHRONOUS != 0
	if r.readOnly || !r.syncAll && flags&syscall.MS_DIRSYNC == 0 {
		return r
	}
	return synced{r}
}

// An entry is a name in a directory, as the kernel knows it.
type entry struct {
	dir  uint64
	name string
}

// names is the answer to a call that changed names. Where it fails although the
// change was made, what the kernel believes of them is wrong.
func (s synced) names(did fuse.Status, changed ...entry) fuse.Status {
	if !did.Ok() {
		return did
	}
	st := s.status(s.fs.store.Sync(context.Background()))
	if !st.Ok() {
		s.later(func() { // it waits for who holds the directory: until this call is answered
			for _, e := range changed {
				s.invalidateName(e.dir, e.name)
			}
		})
	}
	return st
}

// made is names for a call that made an entry: the kernel counts no reference to
// one that failed.
func (s synced) made(did fuse.Status, e entry, out *fuse.EntryOut) fuse.Status {
	st := s.names(did, e)
	if did.Ok() && !st.Ok() {
		s.Forget(out.NodeId, 1)
	}
	return st
}

// rest is the answer to a call that changed something else of an inode.
func (s synced) rest(did fuse.Status, inum uint64) fuse.Status {
	if !did.Ok() || !s.syncAll {
		return did
	}
	st := s.status(s.fs.syncFile(context.Background(), inum))
	if !st.Ok() {
		s.invalidate(inum)
	}
	return st
}

func (s synced) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return s.made(s.raw.Mknod(cancel, in, name, out), entry{in.NodeId, name}, out)
}

func (s synced) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return s.made(s.raw.Mkdir(cancel, in, name, out), entry{in.NodeId, name}, out)
}

func (s synced) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return s.made(s.raw.Symlink(cancel, h, target, name, out), entry{h.NodeId, name}, out)
}

func (s synced) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	return s.made(s.raw.Link(cancel, in, name, out), entry{in.NodeId, name}, out)
}

func (s synced) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return s.names(s.raw.Unlink(cancel, h, name), entry{h.NodeId, name})
}

func (s synced) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return s.names(s.raw.Rmdir(cancel, h, name), entry{h.NodeId, name})
}

func (s synced) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	return s.names(s.raw.Rename(cancel, in, oldName, newName), entry{in.NodeId, oldName}, entry{in.Newdir, newName})
}

func (s synced) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return s.rest(s.raw.SetAttr(cancel, in, out), in.NodeId)
}

func (s synced) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	return s.rest(s.raw.SetXAttr(cancel, in, name, value), in.NodeId)
}

func (s synced) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return s.rest(s.raw.RemoveXAttr(cancel, h, name), h.NodeId)
}

func (s synced) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	return s.rest(s.raw.Fallocate(cancel, in), in.NodeId)
}

func (s synced) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, input []byte, out *fuse.IoctlOut, output []byte) fuse.Status {
	did := s.raw.Ioctl(cancel, in, input, out, output)
	if in.Cmd != iocSetFlags && in.Cmd != iocSetXattr {
		return did
	}
	return s.rest(did, in.NodeId)
}
