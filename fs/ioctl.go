package fs

import (
	"encoding/binary"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// The ioctls of chattr(1), lsattr(1) and xfs_io(8) on 64-bit machines.
const (
	iocGetFlags  = 0x80086601
	iocSetFlags  = 0x40086602
	iocGetXattr  = 0x801c581f
	iocSetXattr  = 0x401c5820
	lenFSXattr   = 28 // xflags, extent size, extents, project, CoW extent size, 8 unused
	lenLinuxFlag = 4
)

// Ioctl serves file flags.
func (r *raw) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, input []byte, _ *fuse.IoctlOut, output []byte) fuse.Status {
	if r.ctl.owns(in.NodeId) {
		return fuse.Status(errBadIoctl)
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
	}
	return fuse.Status(errBadIoctl)
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
