package fs

import (
	"context"
	"encoding/binary"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/anvilfs/anvilfs/chain"
)

// The ioctls of chattr(1), lsattr(1), fstrim(8) and xfs_io(8) on 64-bit
// machines.
const (
	iocGetFlags  = 0x80086601
	iocSetFlags  = 0x40086602
	iocGetXattr  = 0x801c581f
	iocSetXattr  = 0x401c5820
	iocTrim      = 0xc0185879
	iocShutdown  = 0x8004587d
	lenTrim      = 24 // start, length, least length of a range
	lenFSXattr   = 28 // xflags, extent size, extents, project, CoW extent size, 8 unused
	lenLinuxFlag = 4
	lenIoctlIn   = 32 // of the request, before what the caller passes
)

// Ioctl serves file flags, trimming and shutting down.
func (r *raw) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, input []byte, _ *fuse.IoctlOut, output []byte) fuse.Status {
	if s := r.ctl.snaps.below(&in.InHeader); s != nil {
		return s.ioctlOfSnapshot(cancel, in, output)
	}
	if r.ctl.owns(in.NodeId) {
		return r.ctl.ioctl(cancel, in, input)
	}
	ctx := contextOf(cancel)
	switch in.Cmd {
	case iocGetFlags, iocGetXattr:
		rec, err := r.fs.Stat(ctx, in.NodeId)
		if err != nil {
			return r.status(err)
		}
		flags, xflags := linuxFlags(rec.Meta.UFlags)
		if in.Cmd == iocGetXattr {
			flags = xflags
		}
		if len(output) < lenLinuxFlag {
			return fuse.EINVAL
		}
		clear(output)
		binary.LittleEndian.PutUint32(output, flags)
		return fuse.OK
	case iocSetFlags, iocSetXattr:
		return r.setFlags(cancel, in, input)
	case iocTrim:
		return r.trim(ctx, in, input, output)
	case iocShutdown:
		// How the caller wants it is not passed on by the kernel: as a crash.
		if !administers(&in.Caller) {
			return fuse.EPERM
		}
		if !r.fs.Shutdown() {
			return fuse.Status(errNotHere)
		}
		return fuse.OK
	}
	return fuse.Status(errBadIoctl)
}

// freezes reports whether a request makes a file immutable, or append only. What
// programs changed through mappings until then would be refused when it is written.
func freezes(op uint32, in []byte) bool {
	if op != opIoctl || len(in) < lenInHeader+lenIoctlIn+lenLinuxFlag {
		return false
	}
	flags := binary.NativeEndian.Uint32(in[lenInHeader+lenIoctlIn:])
	switch binary.NativeEndian.Uint32(in[lenInHeader+12:]) {
	case iocSetFlags:
		return flags&(fsImmutable|fsAppend) != 0
	case iocSetXattr:
		return flags&(xfImmutable|xfAppend) != 0
	}
	return false
}

// ioctlOfSnapshot shows flags, and changes nothing.
func (r *raw) ioctlOfSnapshot(cancel <-chan struct{}, in *fuse.IoctlIn, output []byte) fuse.Status {
	switch in.Cmd {
	case iocGetFlags, iocGetXattr:
		return r.Ioctl(cancel, in, nil, nil, output)
	case iocSetFlags, iocSetXattr:
		return fuse.EROFS
	}
	return fuse.Status(errBadIoctl)
}

// trim is FITRIM; the length is replaced by how much was free.
func (r *raw) trim(ctx context.Context, in *fuse.IoctlIn, input, output []byte) fuse.Status {
	s, ok := r.fs.store.(interface {
		Trim(context.Context, chain.TrimOptions) (uint64, error)
	})
	switch {
	case !administers(&in.Caller):
		return fuse.EPERM
	case len(input) < lenTrim || len(output) < lenTrim:
		return fuse.EINVAL
	case !ok:
		return fuse.Status(errNotHere)
	}
	start, length := binary.NativeEndian.Uint64(input), binary.NativeEndian.Uint64(input[8:])
	o := chain.TrimOptions{Beg: start, End: start + length, Least: binary.NativeEndian.Uint64(input[16:])}
	if o.End < start {
		o.End = 0 // to the end
	}
	if total := r.fs.store.StatFS().Total; length < spaceUnit || start >= total {
		return fuse.EINVAL
	}
	n, err := s.Trim(ctx, o)
	if err != nil {
		return r.status(err)
	}
	copy(output, input[:lenTrim])
	binary.NativeEndian.PutUint64(output[8:], n)
	return fuse.OK
}

func (r *raw) setFlags(cancel <-chan struct{}, in *fuse.IoctlIn, input []byte) fuse.Status {
	if len(input) < lenLinuxFlag {
		return fuse.EINVAL
	}
	flags := binary.LittleEndian.Uint32(input)
	if in.Cmd == iocSetXattr {
		rest := input[lenLinuxFlag:min(len(input), lenFSXattr)]
		for _, b := range rest {
			if b != 0 {
				return fuse.Status(errNotHere) // extent sizes and projects
			}
		}
		var ok bool
		if flags, ok = flagsOfX(flags); !ok {
			return fuse.Status(errNotHere)
		}
	}
	if err := r.fs.SetFlags(contextOf(cancel), in.NodeId, flags); err != nil {
		return r.status(err)
	}
	// The kernel does not know that an ioctl changes attributes.
	r.invalidate(in.NodeId)
	return fuse.OK
}
