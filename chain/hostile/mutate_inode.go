package hostile

import (
	"encoding/binary"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Offsets in an inode, as in package ondisk.
const (
	inoVersion  = 0x00
	inoUFlags   = 0x04
	inoType     = 0x50
	inoOpFlags  = 0x51
	inoMode     = 0x54
	inoInum     = 0x58
	inoSize     = 0x60
	inoNlinks   = 0x68
	inoIparent  = 0x70
	inoNameKey  = 0x78
	inoNameLen  = 0x80
	inoCompAlgo = 0x83
	inoChkAlgo  = 0x85
	inoPFSType  = 0x87
	inoPFSInum  = 0x88
	inoPFSClid  = 0x90
	inoPFSFsid  = 0xA0
	inoLsnapTid = 0xD0
	inoFilename = 0x100
)

// pickInode chooses an inode of a PFS, root inodes among them.
func (im *Image) pickInode() (n int, raw []byte) {
	s := im.pick(func(s *site) bool { return s.ref.Type == ondisk.TypeInode && s.in != header })
	if s < 0 {
		return -1, nil
	}
	n = im.p.sites[s].to
	return n, im.content(n)
}

func (im *Image) pickRoot() (n int, raw []byte) {
	s := im.pick(func(s *site) bool { return s.ref.Type == ondisk.TypeInode && s.ref.Flags&ondisk.FlagPFSRoot != 0 })
	if s < 0 {
		return -1, nil
	}
	n = im.p.sites[s].to
	return n, im.content(n)
}

// inode names the inode in block n.
func (im *Image) inode(n int) string {
	r := &im.p.blocks[n].ref
	if r.Flags&ondisk.FlagPFSRoot != 0 {
		return fmt.Sprintf("PFS root at %#x", r.Off())
	}
	return fmt.Sprintf("inode %d at %#x", r.Key, r.Off())
}

func changeSize(im *Image) string {
	n, raw := im.pickInode()
	if n < 0 {
		return ""
	}
	return fmt.Sprintf("%s to %#x", im.inode(n), put64(raw[inoSize:], im.number()))
}

func changeNlinks(im *Image) string {
	n, raw := im.pickInode()
	if n < 0 {
		return ""
	}
	return fmt.Sprintf("%s to %#x", im.inode(n), put64(raw[inoNlinks:], im.number()))
}

func changeInodeField(im *Image) string {
	n, raw := im.pickInode()
	if n < 0 {
		return ""
	}
	at := []int{inoVersion, inoUFlags, inoType, inoOpFlags, inoMode, inoInum, inoIparent, inoCompAlgo, inoChkAlgo}[im.rnd.IntN(9)]
	switch at {
	case inoInum, inoIparent:
		put64(raw[at:], im.number())
	case inoUFlags, inoMode:
		binary.LittleEndian.PutUint32(raw[at:], uint32(im.number()))
	default:
		raw[at] = byte(im.rnd.IntN(16))
		if im.rnd.IntN(3) == 0 {
			raw[at] = byte(im.rnd.Uint32())
		}
	}
	return fmt.Sprintf("%s at %#x", im.inode(n), at)
}

func changeInodeName(im *Image) string {
	n, raw := im.pickInode()
	if n < 0 {
		return ""
	}
	switch im.rnd.IntN(3) {
	case 0:
		binary.LittleEndian.PutUint16(raw[inoNameLen:], uint16(im.number()))
	case 1:
		put64(raw[inoNameKey:], im.number())
	default:
		im.scribble(raw[inoFilename : inoFilename+256])
	}
	return im.inode(n)
}

func scribbleInode(im *Image) string {
	n, raw := im.pickInode()
	if n < 0 {
		return ""
	}
	im.scribble(raw[:ondisk.InodeMetaSize])
	return im.inode(n)
}

// toggleDirect takes inline content for blockrefs, or the other way round.
func toggleDirect(im *Image) string {
	n, raw := im.pickInode()
	if n < 0 {
		return ""
	}
	if raw[inoOpFlags] ^= ondisk.OpDirectData; raw[inoOpFlags]&ondisk.OpDirectData != 0 && im.rnd.IntN(2) == 0 {
		raw[inoType] = byte(ondisk.ObjFile)
		put64(raw[inoSize:], uint64(im.rnd.IntN(600)))
	}
	return im.inode(n)
}

func changePFSField(im *Image) string {
	n, raw := im.pickRoot()
	if n < 0 {
		return ""
	}
	at := []int{inoPFSType, inoPFSInum, inoPFSInum, inoPFSClid, inoPFSFsid, inoLsnapTid, inoLsnapTid}[im.rnd.IntN(7)]
	if at == inoPFSType {
		raw[at] = byte(im.rnd.IntN(12))
	} else {
		put64(raw[at:], im.number())
	}
	return fmt.Sprintf("%s at %#x", im.inode(n), at)
}

// sameLabel gives a PFS the label of another.
func sameLabel(im *Image) string {
	var roots []int
	for _, s := range im.p.sites {
		if s.ref.Type == ondisk.TypeInode && s.ref.Flags&ondisk.FlagPFSRoot != 0 {
			roots = append(roots, s.to)
		}
	}
	if len(roots) < 2 {
		return ""
	}
	a, b := im.rnd.IntN(len(roots)), im.rnd.IntN(len(roots)-1)
	if b >= a {
		b++
	}
	from, to := im.content(roots[a]), im.content(roots[b])
	copy(to[inoNameLen:inoNameLen+2], from[inoNameLen:])
	copy(to[inoFilename:inoFilename+256], from[inoFilename:])
	return fmt.Sprintf("%s as %s", im.inode(roots[b]), im.inode(roots[a]))
}

// changeEntryName makes impossible names.
func changeEntryName(im *Image) string {
	s := im.pick(func(s *site) bool { return s.ref.Type == ondisk.TypeDirent && s.to < 0 })
	if s < 0 {
		return ""
	}
	raw := im.element(s)
	name := []string{"", ".", "..", "a/b", "nul\x00nul", "something else", "/"}[im.rnd.IntN(7)]
	clear(raw[refCheck:])
	copy(raw[refCheck:], name)
	binary.LittleEndian.PutUint16(raw[refEmbed+8:], uint16(len(name)))
	if im.rnd.IntN(4) == 0 {
		binary.LittleEndian.PutUint16(raw[refEmbed+8:], []uint16{255, 256, 65535, 65, 64}[im.rnd.IntN(5)])
	}
	return fmt.Sprintf("%s: %q", im.where(s), name)
}

func changeEntryTarget(im *Image) string {
	s := im.pickType(ondisk.TypeDirent)
	if s < 0 {
		return ""
	}
	raw := im.element(s)
	if im.rnd.IntN(3) == 0 {
		raw[refEmbed+10] = byte(im.rnd.IntN(12))
	}
	if im.rnd.IntN(2) == 0 {
		return fmt.Sprintf("%s: %#x", im.where(s), put64(raw[refEmbed:], im.number()))
	}
	o := im.pickType(ondisk.TypeInode)
	if o < 0 {
		o = s
	}
	return fmt.Sprintf("%s: %#x", im.where(s), put64(raw[refEmbed:], im.p.sites[o].ref.Key))
}

// directoryLoop puts a directory into itself, or the root into a directory.
func directoryLoop(im *Image) string {
	s := im.pickType(ondisk.TypeDirent)
	if s < 0 {
		return ""
	}
	in := im.p.sites[s].in
	for im.p.blocks[in].ref.Type == ondisk.TypeIndirect {
		in = im.p.sites[im.p.blocks[in].sites[0]].in
	}
	to := im.p.blocks[in].ref.Key
	if im.p.blocks[in].ref.Flags&ondisk.FlagPFSRoot != 0 {
		to = ondisk.InumRoot
	}
	raw := im.element(s)
	put64(raw[refEmbed:], to)
	raw[refEmbed+10] = byte(ondisk.ObjDir)
	return fmt.Sprintf("%s: %d", im.where(s), to)
}
