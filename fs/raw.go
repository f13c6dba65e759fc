package fs

import (
	"context"
	"log/slog"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/anvilfs/anvilfs/ondisk"
)

// raw speaks FUSE's words for an FS. Requests for control files go to ctl.
// What it does not define answers ENOSYS: among it CREATE, after which the
// kernel makes files by MKNOD; ACCESS, since the kernel checks permissions;
// and locks, which it keeps itself.
type raw struct {
	fuse.RawFileSystem
	fs  *FS
	ctl *control
	log *slog.Logger

	missed   *missed // names of a snapshot that are not there; nil: it is none
	readOnly bool
	syncAll  bool   // mounted with sync: see synced
	base     uint64 // what the kernel's numbers have in front of the inode's; 0 but for snapshots
	// invalidate tells the kernel that attributes changed behind its back.
	invalidate func(inum uint64)
	// invalidateName does so for a name in a directory; no request may wait for it.
	invalidateName func(dir uint64, name string)
	later          func(do func()) // beside requests; serving ends after it
	recount        *recounter      // nil: what is told of space stays so
}

// A requestContext is done when the caller was interrupted. Channels are
// pointers, so that being a context costs nothing.
type requestContext <-chan struct{}

func (c requestContext) Done() <-chan struct{}       { return c }
func (c requestContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c requestContext) Value(any) any               { return nil }

func (c requestContext) Err() error {
	select {
	case <-c:
		return context.Canceled
	default:
		return nil
	}
}

func contextOf(cancel <-chan struct{}) context.Context { return requestContext(cancel) }

func (r *raw) String() string { return "anvilfs" }

// Open and Flush answer so that the kernel never asks again: files have no
// handles, opening keeps what is cached, and closing is not a request.
func (r *raw) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

// Flush: see Open.
func (r *raw) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

func (r *raw) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if s := r.ctl.snaps.below(h); s != nil {
		return s.Lookup(cancel, h, name, out)
	}
	if r.ctl.owns(h.NodeId) || r.ctl.reserved(h.NodeId, name) {
		return r.ctl.lookup(contextOf(cancel), h.NodeId, name, out)
	}
	ctx := contextOf(cancel)
	if name == "." || name == ".." {
		return r.reopen(ctx, h.NodeId, name, out)
	}
	rec, ok, err := r.fs.Lookup(ctx, h.NodeId, name)
	if err != nil {
		return r.status(err)
	}
	if ok && r.base != 0 && rec.Meta.Inum > plainMask {
		r.Forget(rec.Meta.Inum, 1)
		return fuse.Status(errTooBig)
	}
	if !ok {
		// Node 0 with a lifetime: the kernel remembers that it is not there.
		out.EntryValid = lifetime
		r.missed.add(h.NodeId, name)
		return fuse.OK
	}
	r.fillEntry(ctx, out, rec)
	return fuse.OK
}

// reopen answers for file handles of NFS and open_by_handle_at(2).
func (r *raw) reopen(ctx context.Context, inum uint64, name string, out *fuse.EntryOut) fuse.Status {
	if name == ".." {
		rec, err := r.fs.Stat(ctx, inum)
		if err != nil {
			return r.status(err)
		}
		if inum != ondisk.InumRoot {
			inum = rec.Meta.Iparent
		}
	}
	rec, err := r.fs.Reopen(ctx, inum)
	if err != nil {
		return r.status(err)
	}
	r.fillEntry(ctx, out, rec)
	return fuse.OK
}

func (r *raw) Forget(inum, count uint64) {
	if r.ctl.owns(inum) {
		r.ctl.forget(inum, count)
		return
	}
	r.fs.Forget(inum, count)
}

func (r *raw) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if s := r.ctl.snaps.below(&in.InHeader); s != nil {
		return s.GetAttr(cancel, in, out)
	}
	if r.ctl.owns(in.NodeId) {
		return r.ctl.getattr(in.NodeId, out)
	}
	ctx := contextOf(cancel)
	rec, err := r.fs.Stat(ctx, in.NodeId)
	if err != nil {
		return r.status(err)
	}
	out.AttrValid = lifetime
	r.fillAttr(ctx, &out.Attr, rec)
	return fuse.OK
}

func (r *raw) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	if s := r.ctl.snaps.below(&in.InHeader); s != nil {
		return s.Statx(cancel, in, out)
	}
	if r.ctl.owns(in.NodeId) {
		return fuse.Status(errNotHere)
	}
	ctx := contextOf(cancel)
	rec, err := r.fs.Stat(ctx, in.NodeId)
	if err != nil {
		return r.status(err)
	}
	out.AttrValid = lifetime
	r.fillStatx(ctx, &out.Statx, rec)
	return fuse.OK
}

func (r *raw) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if r.ctl.owns(in.NodeId) {
		return r.ctl.setattr(in, out)
	}
	ctx := contextOf(cancel)
	c := changeOf(in, r.fs.now())
	if c.KillPriv && c.Size != nil {
		if err := r.dropGroupBit(ctx, in.NodeId, &in.Caller); err != nil {
			return r.status(err)
		}
	}
	rec, err := r.fs.Setattr(ctx, in.NodeId, c)
	if err != nil {
		return r.status(err)
	}
	out.AttrValid = lifetime
	r.fillAttr(ctx, &out.Attr, rec)
	return fuse.OK
}

func (r *raw) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	t, ok := objType(in.Mode)
	if !ok || t == ondisk.ObjDir || t == ondisk.ObjSymlink {
		return fuse.EINVAL
	}
	what := NewNode{Type: t, Mode: in.Mode, Umask: in.Umask}
	if t == ondisk.ObjChar || t == ondisk.ObjBlock {
		what.Major, what.Minor = decodeDev(in.Rdev)
	}
	st := r.create(cancel, &in.InHeader, name, what, out)
	if st == fuse.Status(errExist) && t == ondisk.ObjFile {
		// It may be an open(2) that takes what is there, and the kernel remembers
		// that there was none, as before a rollback. It looks again, and then opens
		// it, or says that it exists.
		return fuse.Status(errStale)
	}
	return st
}

func (r *raw) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return r.create(cancel, &in.InHeader, name, NewNode{Type: ondisk.ObjDir, Mode: in.Mode, Umask: in.Umask}, out)
}

func (r *raw) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return r.create(cancel, h, name, NewNode{Type: ondisk.ObjSymlink, Target: target}, out)
}

func (r *raw) create(cancel <-chan struct{}, h *fuse.InHeader, name string, what NewNode, out *fuse.EntryOut) fuse.Status {
	if r.ctl.reserved(h.NodeId, name) {
		return r.ctl.refusal(h.NodeId)
	}
	ctx := contextOf(cancel)
	what.UID, what.GID = h.Uid, h.Gid
	rec, err := r.fs.Create(ctx, h.NodeId, name, what)
	if err != nil {
		return r.status(err)
	}
	r.fillEntry(ctx, out, rec)
	return fuse.OK
}

func (r *raw) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	if r.ctl.owns(in.NodeId) {
		return r.ctl.refusal(in.NodeId)
	}
	ctx := contextOf(cancel)
	what := NewNode{Type: ondisk.ObjFile, Mode: in.Mode, Umask: in.Umask, UID: in.Uid, GID: in.Gid}
	rec, err := r.fs.CreateUnnamed(ctx, in.NodeId, what)
	if err != nil {
		return r.status(err)
	}
	r.fillEntry(ctx, &out.EntryOut, rec)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

func (r *raw) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if r.ctl.owns(in.Oldnodeid) || r.ctl.reserved(in.NodeId, name) {
		return r.ctl.elsewhere(in.Oldnodeid, in.NodeId)
	}
	ctx := contextOf(cancel)
	rec, err := r.fs.Link(ctx, in.Oldnodeid, in.NodeId, name)
	if err != nil {
		return r.status(err)
	}
	r.fillEntry(ctx, out, rec)
	return fuse.OK
}

func (r *raw) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if r.ctl.reserved(h.NodeId, name) {
		return r.ctl.refusal(h.NodeId)
	}
	return r.status(r.fs.Unlink(contextOf(cancel), h.NodeId, name))
}

func (r *raw) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if r.ctl.reserved(h.NodeId, name) {
		return r.ctl.refusal(h.NodeId)
	}
	return r.status(r.fs.Rmdir(contextOf(cancel), h.NodeId, name))
}

func (r *raw) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	if r.ctl.reserved(in.NodeId, oldName) || r.ctl.reserved(in.Newdir, newName) {
		return r.ctl.elsewhere(in.NodeId, in.Newdir)
	}
	return r.status(r.fs.Rename(contextOf(cancel), in.NodeId, oldName, in.Newdir, newName, RenameFlags(in.Flags)))
}

func (r *raw) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	if s := r.ctl.snaps.below(h); s != nil {
		return s.Readlink(cancel, h)
	}
	target, err := r.fs.Readlink(contextOf(cancel), h.NodeId)
	return target, r.status(err)
}

func (r *raw) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	s := r.fs.statFS(contextOf(cancel), h.NodeId)
	out.Bsize, out.Frsize = spaceUnit, spaceUnit
	out.Blocks, out.Bfree, out.Bavail = s.Total/spaceUnit, s.Free/spaceUnit, s.Avail/spaceUnit
	out.Files, out.Ffree = s.Files, s.Files-min(s.Files, s.Inodes)
	out.NameLen = ondisk.NameMax
	return fuse.OK
}

func (r *raw) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if s := r.ctl.snaps.below(&in.InHeader); s != nil {
		return s.ReadDir(cancel, in, out)
	}
	return r.readdir(cancel, in, minEntry, func(pos uint64, d *ondisk.Dirent) bool {
		return out.AddDirEntry(fuse.DirEntry{Name: d.Name, Ino: r.base | d.Inum, Off: pos, Mode: typeMode(d.Type)})
	})
}

// ReadDirPlus also passes each entry's attributes and a reference.
func (r *raw) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if s := r.ctl.snaps.below(&in.InHeader); s != nil {
		return s.ReadDirPlus(cancel, in, out)
	}
	ctx := contextOf(cancel)
	return r.readdir(cancel, in, minEntryPlus, func(pos uint64, d *ondisk.Dirent) bool {
		entry := out.AddDirLookupEntry(fuse.DirEntry{Name: d.Name, Ino: r.base | d.Inum, Off: pos, Mode: typeMode(d.Type)})
		if entry == nil {
			return false
		}
		if pos <= posDotDot || r.ctl.owns(in.NodeId) {
			return true // the kernel does not look these up
		}
		if r.base != 0 && d.Inum > plainMask {
			return true // a number that cannot be shown here
		}
		if rec := r.fs.Peek(ctx, d.Inum); rec != nil {
			r.fillEntry(ctx, entry, rec)
		}
		return true
	})
}

// The least space an entry takes in a reply, without and with attributes.
const (
	minEntry     = 32
	minEntryPlus = minEntry + int(unsafe.Sizeof(fuse.EntryOut{}))
)

func (r *raw) readdir(cancel <-chan struct{}, in *fuse.ReadIn, least int, add func(uint64, *ondisk.Dirent) bool) fuse.Status {
	if r.ctl.owns(in.NodeId) {
		return r.ctl.readdir(contextOf(cancel), in.NodeId, in.Offset, add)
	}
	limit := int(in.Size)/least + 1
	return r.status(r.fs.readDir(contextOf(cancel), in.NodeId, in.Offset, limit, least == minEntryPlus, add))
}
