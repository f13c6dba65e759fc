package fs

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/anvilfs/anvilfs/ondisk"
)

// lifetime is how long the kernel may trust what it was told: as long as it
// likes, since every change comes through it, or is pushed.
const lifetime = 24 * 3600 // s

const (
	sectorSize = 512   // unit of st_blocks
	spaceUnit  = 4096  // of statfs(2)
	blockSize  = 65536 // preferred I/O, the logical block
)

// typeModes are the type bits of a mode.
var typeModes = [...]uint32{
	ondisk.ObjDir:      syscall.S_IFDIR,
	ondisk.ObjFile:     syscall.S_IFREG,
	ondisk.ObjFIFO:     syscall.S_IFIFO,
	ondisk.ObjChar:     syscall.S_IFCHR,
	ondisk.ObjBlock:    syscall.S_IFBLK,
	ondisk.ObjSymlink:  syscall.S_IFLNK,
	ondisk.ObjSocket:   syscall.S_IFSOCK,
	ondisk.ObjWhiteout: syscall.S_IFCHR,
}

func typeMode(t ondisk.ObjType) uint32 {
	if int(t) < len(typeModes) && typeModes[t] != 0 {
		return typeModes[t]
	}
	return syscall.S_IFREG
}

// objType is the inverse of typeMode.
func objType(mode uint32) (ondisk.ObjType, bool) {
	mode &= syscall.S_IFMT
	if mode == 0 {
		return ondisk.ObjFile, true
	}
	for t := ondisk.ObjDir; t < ondisk.ObjWhiteout; t++ {
		if typeModes[t] == mode {
			return t, true
		}
	}
	return 0, false
}

// Device numbers as FUSE sends them: 12 bits of major, 20 of minor.
func encodeDev(major, minor uint32) uint32 {
	return minor&0xff | major&0xfff<<8 | minor&^0xff<<12
}

func decodeDev(dev uint32) (major, minor uint32) {
	return dev >> 8 & 0xfff, dev&0xff | dev>>12&0xfff00
}

// fillAttr translates a record.
func (r *raw) fillAttr(ctx context.Context, out *fuse.Attr, rec *Record) {
	m := &rec.Meta
	r.fs.told(m.Inum)
	out.Ino = r.base | m.Inum
	out.Size = m.Size
	out.Blocks = r.blocks(ctx, rec)
	out.Mode = typeMode(m.Type) | m.Mode&modeBits
	out.Nlink = uint32(min(m.Nlinks, linkMax))
	out.Uid, out.Gid = m.UID, m.GID
	out.Rdev = encodeDev(m.RMajor, m.RMinor)
	out.Blksize = blockSize
	out.Mtime, out.Mtimensec = unsigned(m.MtimeNs())
	out.Ctime, out.Ctimensec = unsigned(m.CtimeNs())
	out.Atime, out.Atimensec = unsigned(m.AtimeNs())
}

func unsigned(sec int64, nsec uint32) (uint64, uint32) { return uint64(sec), nsec }

// blocks is the space of a file in sectors.
func (r *raw) blocks(ctx context.Context, rec *Record) uint64 {
	m := &rec.Meta
	if m.DirectData() || spaceOf(m, 1) == 0 {
		return spaceOf(m, 0) / sectorSize
	}
	bytes, known := rec.Space()
	var err error
	if !known {
		changes := r.recount.pending(m.Inum)
		bytes, err = r.fs.store.Blocks(ctx, m.Inum)
		if changes && err == nil && !r.recount.pending(m.Inum) { // committed since
			bytes, err = r.fs.store.Blocks(ctx, m.Inum)
		}
	}
	if err != nil {
		r.log.Warn("space of a file unknown", "inode", m.Inum, "error", err)
		return (m.Size + sectorSize - 1) / sectorSize
	}
	return (bytes + sectorSize - 1) / sectorSize
}

// fillEntry answers with a record that the kernel got a reference to.
func (r *raw) fillEntry(ctx context.Context, out *fuse.EntryOut, rec *Record) {
	out.NodeId = r.base | rec.Meta.Inum
	out.Generation = 1 // numbers are never used again
	if r.fs.rolled.Load() {
		out.Generation = r.fs.table.generation(rec.Meta.Inum)
	}
	out.EntryValid, out.AttrValid = lifetime, lifetime
	r.fillAttr(ctx, &out.Attr, rec)
}

// Attributes of statx(2).
const (
	statxCompressed = 0x4
	statxImmutable  = 0x10
	statxAppend     = 0x20
	statxNodump     = 0x40
	statxBasic      = 0x7ff
	statxBtime      = 0x800
)

// fillStatx translates a record, time of creation and flags included.
func (r *raw) fillStatx(ctx context.Context, out *fuse.Statx, rec *Record) {
	var a fuse.Attr
	r.fillAttr(ctx, &a, rec)
	out.Mask = statxBasic
	out.Blksize, out.Nlink, out.Uid, out.Gid = a.Blksize, a.Nlink, a.Uid, a.Gid
	out.Mode = uint16(a.Mode)
	out.Ino, out.Size, out.Blocks = a.Ino, a.Size, a.Blocks
	out.Atime = fuse.SxTime{Sec: a.Atime, Nsec: a.Atimensec}
	out.Mtime = fuse.SxTime{Sec: a.Mtime, Nsec: a.Mtimensec}
	out.Ctime = fuse.SxTime{Sec: a.Ctime, Nsec: a.Ctimensec}
	if sec, nsec := rec.Meta.BtimeNs(); sec != 0 || nsec != 0 {
		out.Mask |= statxBtime
		out.Btime = fuse.SxTime{Sec: uint64(sec), Nsec: nsec}
	}
	out.RdevMajor, out.RdevMinor = rec.Meta.RMajor, rec.Meta.RMinor
	out.AttributesMask = statxImmutable | statxAppend | statxNodump
	flags := rec.Meta.UFlags
	if flags&flagsImmutable != 0 {
		out.Attributes |= statxImmutable
	}
	if flags&flagsAppend != 0 {
		out.Attributes |= statxAppend
	}
	if flags&ufNodump != 0 {
		out.Attributes |= statxNodump
	}
}

// changeOf translates a SETATTR request.
func changeOf(in *fuse.SetAttrIn, now time.Time) Change {
	var c Change
	if in.Valid&fuse.FATTR_MODE != 0 {
		c.Mode = &in.Mode
	}
	if in.Valid&fuse.FATTR_UID != 0 {
		c.UID = &in.Uid
	}
	if in.Valid&fuse.FATTR_GID != 0 {
		c.GID = &in.Gid
	}
	if in.Valid&fuse.FATTR_SIZE != 0 {
		c.Size = &in.Size
	}
	stamp := func(set, setNow uint32, sec uint64, nsec uint32) *Stamp {
		switch {
		case in.Valid&setNow != 0:
			return &Stamp{now.Unix(), uint32(now.Nanosecond())}
		case in.Valid&set != 0:
			c.Exact = true
			return &Stamp{int64(sec), nsec}
		}
		return nil
	}
	c.Atime = stamp(fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec)
	c.Mtime = stamp(fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec)
	c.Ctime = stamp(fuse.FATTR_CTIME, 0, in.Ctime, in.Ctimensec)
	c.KillPriv = in.Valid&fuse.FATTR_KILL_SUIDGID != 0
	return c
}
