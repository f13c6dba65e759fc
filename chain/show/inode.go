package show

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Inode prints an inode of a PFS with what is directly below it: entries,
// data blocks, attributes. which is a number, or a path that begins with '/'.
func Inode(ctx context.Context, w io.Writer, devs []ondisk.Device, label, which string) error {
	p, err := open(w, devs)
	if err != nil {
		return err
	}
	f, err := p.pfs(ctx, label)
	if err != nil {
		return err
	}
	inum, err := p.resolve(ctx, f, which)
	if err != nil {
		return err
	}
	ref, err := p.find(ctx, f, inum)
	if err != nil {
		return fmt.Errorf("inode %d: %w", inum, err)
	}
	p.inode(ctx, f, &ref)
	return p.done(ctx)
}

// find returns the blockref of an inode.
func (p *printer) find(ctx context.Context, f *media.PFS, inum uint64) (ondisk.Blockref, error) {
	if inum == ondisk.InumRoot {
		return f.Ref, nil
	}
	return p.set.Find(ctx, f.Set, inum)
}

// resolve turns a number or path into a number.
func (p *printer) resolve(ctx context.Context, f *media.PFS, which string) (uint64, error) {
	if !strings.HasPrefix(which, "/") {
		inum, err := strconv.ParseUint(which, 0, 63)
		if err != nil {
			return 0, fmt.Errorf("%q is neither a number nor a path that begins with a slash", which)
		}
		return inum, nil
	}
	inum, refs, at := uint64(ondisk.InumRoot), f.Set, ""
	for name := range strings.SplitSeq(which, "/") {
		if name == "" {
			continue
		}
		if at != "" {
			ref, err := p.find(ctx, f, inum)
			if err == nil {
				_, _, refs, err = p.set.Inode(&ref)
			}
			if err != nil {
				return 0, fmt.Errorf("%s: %w", at, err)
			}
		}
		at += "/" + name
		d, err := p.lookup(ctx, refs, name)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", at, err)
		}
		inum = d.Inum
	}
	return inum, nil
}

func (p *printer) lookup(ctx context.Context, refs []ondisk.Blockref, name string) (found ondisk.Dirent, err error) {
	hash := ondisk.NameHash(name)
	err = media.ErrNotFound
	serr := p.set.Scan(ctx, refs, hash, hash|ondisk.CollisionMask, func(r *ondisk.Blockref, rerr error) bool {
		var d ondisk.Dirent
		if rerr == nil {
			d, rerr = p.set.Dirent(r)
		}
		switch {
		case rerr != nil:
			err = rerr
		case d.Name == name:
			found, err = d, nil
			return false
		}
		return true
	})
	if serr != nil {
		err = serr
	}
	return found, err
}

func (p *printer) inode(ctx context.Context, f *media.PFS, ref *ondisk.Blockref) {
	p.ref(0, ref)
	m, block, refs, err := p.set.Inode(ref)
	p.bad(1, err)
	if len(block) < ondisk.InodeSize {
		return
	}
	p.fields(&m)
	if m.DirectData() {
		p.line(1, "200 inline content")
		p.dump(block[ondisk.InodeMetaSize:][:min(m.Size, ondisk.InlineMax)])
	}
	_ = p.set.Scan(ctx, refs, 0, ^uint64(0), func(r *ondisk.Blockref, err error) bool {
		// Inodes below the root of a PFS are as many as there are files.
		if err != nil || r.Type != ondisk.TypeInode {
			p.ref(1, r)
		}
		p.bad(2, err)
		if r.Type == ondisk.TypeData && err == nil {
			_, err := p.set.Read(r)
			p.bad(2, err)
		}
		return p.err == nil
	})
	if ref.Key < ondisk.AttrBit || ref.Key == f.Ref.Key {
		p.attributes(ctx, f, m.Inum)
	}
}

func (p *printer) fields(m *ondisk.InodeMeta) {
	field := func(at int, name, format string, args ...any) {
		p.line(1, "%03x %-12s %s", at, name, fmt.Sprintf(format, args...))
	}
	field(0x00, "version", "%d", m.Version)
	field(0x04, "uflags", "%#x", m.UFlags)
	if m.Type == ondisk.ObjChar || m.Type == ondisk.ObjBlock {
		field(0x08, "device", "%d, %d", m.RMajor, m.RMinor)
	}
	field(0x10, "ctime", "%s", when(m.CtimeNs()))
	field(0x18, "mtime", "%s", when(m.MtimeNs()))
	field(0x20, "atime", "%s", when(m.AtimeNs()))
	field(0x28, "btime", "%s", when(m.BtimeNs()))
	field(0x3C, "uid, gid", "%d, %d", m.UID, m.GID)
	field(0x50, "type", "%v", m.Type)
	field(0x51, "op_flags", "%#x", m.OpFlags)
	field(0x54, "mode", "%04o", m.Mode)
	field(0x58, "inum", "%d", m.Inum)
	field(0x60, "size", "%s", size(m.Size))
	field(0x68, "nlinks", "%d", m.Nlinks)
	field(0x70, "iparent", "%d", m.Iparent)
	field(0x78, "name_key", "%016x", m.NameKey)
	field(0x83, "comp, check", "%v level %d, %v", ondisk.CompMethod(m.CompAlgo&15), m.CompAlgo>>4, ondisk.CheckMethod(m.CheckAlgo&15))
	if m.OpFlags&ondisk.OpPFSRoot != 0 {
		field(0x87, "pfs_type", "%v, subtype %d, masters %d", m.PFSType, m.PFSSubtype, m.PFSNMasters)
		field(0x88, "pfs_inum", "%d", m.PFSInum)
		field(0x90, "pfs_clid", "%v", m.PFSClid)
		field(0xA0, "pfs_fsid", "%v", m.PFSFsid)
		field(0xD0, "pfs_lsnap", "%s", tid(m.PFSLsnapTid))
	}
	if m.SharedTid != 0 {
		field(0xF0, "shared", "blocks up to %s may be in other places too", tid(m.SharedTid))
	}
	field(0x100, "filename", "%q", m.Name())
}

func (p *printer) dump(b []byte) {
	for line := range strings.SplitSeq(strings.TrimRight(hex.Dump(b), "\n"), "\n") {
		p.line(2, "%s", line)
	}
}

// attributes prints the extended attributes of an inode.
func (p *printer) attributes(ctx context.Context, f *media.PFS, inum uint64) {
	ref, err := p.set.Find(ctx, f.Set, ondisk.AttrBit|inum)
	if err == media.ErrNotFound {
		return
	}
	var content []byte
	if err == nil {
		content, err = p.content(ctx, &ref)
	}
	var attrs []ondisk.Xattr
	if err == nil {
		attrs, err = ondisk.DecodeXattrs(content)
	}
	p.line(1, "attributes, in inode %d:", uint64(ondisk.AttrBit|inum))
	p.bad(2, err)
	for _, a := range attrs {
		p.line(2, "%s, %d bytes", a.Name, len(a.Value))
		p.dump(a.Value)
	}
}

// content reads a small file.
func (p *printer) content(ctx context.Context, ref *ondisk.Blockref) ([]byte, error) {
	m, block, refs, err := p.set.Inode(ref)
	if err != nil {
		return nil, err
	}
	if m.Size > ondisk.XattrTotalMax {
		return nil, fmt.Errorf("%d bytes: too many for attributes: %w", m.Size, ondisk.ErrCorrupt)
	}
	content := make([]byte, m.Size)
	if m.DirectData() {
		copy(content, block[ondisk.InodeMetaSize:])
		return content, nil
	}
	var damage error
	err = p.set.Scan(ctx, refs, 0, m.Size, func(r *ondisk.Blockref, err error) bool {
		var stored []byte
		if err == nil && r.Key < m.Size {
			if stored, err = p.set.Read(r); err == nil {
				_, err = ondisk.DecodeData(r, stored, content[r.Key:min(r.Key+ondisk.LogicalBlock, m.Size)])
			}
		}
		damage = err
		return err == nil
	})
	if err == nil {
		err = damage
	}
	return content, err
}
