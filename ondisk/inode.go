package ondisk

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Offsets in an inode on media.
const (
	inoVersion    = 0x00
	inoRes02      = 0x02
	inoPFSSubtype = 0x03
	inoUFlags     = 0x04
	inoRMajor     = 0x08
	inoRMinor     = 0x0C
	inoCtime      = 0x10
	inoMtime      = 0x18
	inoAtime      = 0x20
	inoBtime      = 0x28
	inoUID        = 0x30
	inoGID        = 0x40
	inoType       = 0x50
	inoOpFlags    = 0x51
	inoCapFlags   = 0x52
	inoMode       = 0x54
	inoInum       = 0x58
	inoSize       = 0x60
	inoNlinks     = 0x68
	inoIparent    = 0x70
	inoNameKey    = 0x78
	inoNameLen    = 0x80
	inoNCopies    = 0x82
	inoCompAlgo   = 0x83
	inoAccountBit = 0x84
	inoCheckAlgo  = 0x85
	inoNMasters   = 0x86
	inoPFSType    = 0x87
	inoPFSInum    = 0x88
	inoPFSClid    = 0x90
	inoPFSFsid    = 0xA0
	inoDataQuota  = 0xB0
	inoCharge     = 0xB8
	inoInodeQuota = 0xC0
	inoChargeInos = 0xC8
	inoLsnapTid   = 0xD0
	inoAccount    = 0xD8
	inoDecrypt    = 0xE0
	inoNanos      = 0xE8
	inoSharedTid  = 0xF0
	inoAccountGen = 0xF8
	inoAccountIn  = 0xFC
	inoFilename   = 0x100
	inoUnion      = 0x200
	lenFilename   = 256
	lenID         = 12 // bytes of a uid or gid before its number
)

// Compile errors unless the two halves end where they must.
var (
	_ = [1]struct{}{}[inoFilename+lenFilename-InodeMetaSize]
	_ = [1]struct{}{}[inoUnion+InlineMax-InodeSize]
)

// Bits of InodeMeta.OpFlags.
const (
	OpDirectData = 1 // content is inline, there is no blockset
	OpPFSRoot    = 2
)

// inodeVersion is the only one there is.
const inodeVersion = 1

// An InodeMeta is the part of an inode that is the same on every node: all
// 512 bytes before the blockset. Every byte has a place, so that decoding and
// encoding lose nothing.
type InodeMeta struct {
	Version    uint16
	PFSSubtype uint8
	UFlags     uint32 // BSD file flags
	RMajor     uint32
	RMinor     uint32

	// Microseconds since 1970; use the methods, which know the nanoseconds.
	Ctime, Mtime, Atime, Btime uint64

	UID, GID uint32
	Type     ObjType
	OpFlags  uint8
	CapFlags uint16
	Mode     uint32 // permission bits including 07000, no type bits
	Inum     uint64
	Size     uint64 // of files and symlinks
	Nlinks   uint64
	Iparent  uint64 // directory it was last entered in
	NameKey  uint64
	NameLen  uint16

	CompAlgo    uint8 // setting in the low nibble, level in the high
	CheckAlgo   uint8 // setting in the low nibble
	PFSNMasters uint8 // 0 = not known
	PFSType     PFSType
	PFSInum     uint64 // highest number handed out
	PFSClid     UUID
	PFSFsid     UUID
	DataQuota   uint64 // most bytes of the directory's account; 0 = no limit
	InodeQuota  uint64 // most inodes of it
	PFSLsnapTid Tid
	Nanos       uint64 // see inodetime.go
	// SharedTid is each node's own: blocks that this node gave the inode up to
	// there may be somebody else's too. 0 = none is.
	SharedTid Tid
	Filename  string // the 256-byte area without trailing zeros

	// The account that the inode is charged to; see account.go.
	Charge       uint64
	ChargeInodes uint64
	Account      uint64
	AccountGen   uint32
	AccountFlags uint8
	AccountIn    uint32

	Reserved InodeReserved
}

// InodeReserved holds the bytes of an inode without a meaning to us.
type InodeReserved struct {
	B02              uint8
	UIDRest, GIDRest [lenID]byte
	NCopies          uint8
	DecryptCheck     uint64
}

// An Inode is the whole kilobyte. With DIRECTDATA the content is Inline and
// Blockset is nil; without it Inline is zero and Blockset holds the non-EMPTY
// blockrefs, at most 4, sorted.
type Inode struct {
	Meta     InodeMeta
	Blockset []Blockref
	Inline   [InlineMax]byte
}

// NewInodeMeta returns an ordinary inode: numbered, with the name that such
// inodes carry and nothing else set.
func NewInodeMeta(inum uint64, t ObjType) InodeMeta {
	name := fmt.Sprintf("0x%016x", inum)
	return InodeMeta{
		Version: inodeVersion, Inum: inum, Type: t,
		NameKey: inum, NameLen: uint16(len(name)), Filename: name,
	}
}

// Name is the name the inode carries: the label of a PFS root, the number in
// text of others.
func (m *InodeMeta) Name() string {
	if n := int(m.NameLen); n > len(m.Filename) {
		return m.Filename + strings.Repeat("\x00", n-len(m.Filename))
	}
	return m.Filename[:m.NameLen]
}

// DirectData reports whether the content is inline. Only the flag says so,
// never the size.
func (m *InodeMeta) DirectData() bool { return m.OpFlags&OpDirectData != 0 }

// Validate checks ranges and that flags, type and size agree.
func (m *InodeMeta) Validate() error {
	switch {
	case m.Version != inodeVersion:
		return corruptf("inode %d: version %d, want %d", m.Inum, m.Version, inodeVersion)
	case m.NameLen > lenFilename || len(m.Filename) > lenFilename:
		return corruptf("inode %d: name of %d bytes", m.Inum, max(int(m.NameLen), len(m.Filename)))
	case strings.HasSuffix(m.Filename, "\x00"):
		return corruptf("inode %d: filename with its padding", m.Inum)
	case !known(objTypeNames, uint8(m.Type)):
		return corruptf("inode %d: unknown object type %d", m.Inum, m.Type)
	case m.DirectData() && m.Type != ObjFile && m.Type != ObjSymlink:
		return corruptf("inode %d: inline content in a %v", m.Inum, m.Type)
	case m.DirectData() && m.Size > InlineMax:
		return corruptf("inode %d: %d bytes of inline content", m.Inum, m.Size)
	case m.Size>>63 != 0:
		return corruptf("inode %d: size %#x", m.Inum, m.Size)
	}
	return nil
}

// Encode writes the first 512 bytes of an inode to b. It panics on what
// Validate rejects.
func (m *InodeMeta) Encode(b []byte) {
	mustBeValid("inode", m.Validate())
	_ = b[InodeMetaSize-1]
	le := binary.LittleEndian
	le.PutUint16(b[inoVersion:], m.Version)
	b[inoRes02], b[inoPFSSubtype] = m.Reserved.B02, m.PFSSubtype
	le.PutUint32(b[inoUFlags:], m.UFlags)
	le.PutUint32(b[inoRMajor:], m.RMajor)
	le.PutUint32(b[inoRMinor:], m.RMinor)
	le.PutUint64(b[inoCtime:], m.Ctime)
	le.PutUint64(b[inoMtime:], m.Mtime)
	le.PutUint64(b[inoAtime:], m.Atime)
	le.PutUint64(b[inoBtime:], m.Btime)
	copy(b[inoUID:], m.Reserved.UIDRest[:])
	le.PutUint32(b[inoUID+lenID:], m.UID)
	copy(b[inoGID:], m.Reserved.GIDRest[:])
	le.PutUint32(b[inoGID+lenID:], m.GID)
	b[inoType], b[inoOpFlags] = uint8(m.Type), m.OpFlags
	le.PutUint16(b[inoCapFlags:], m.CapFlags)
	le.PutUint32(b[inoMode:], m.Mode)
	le.PutUint64(b[inoInum:], m.Inum)
	le.PutUint64(b[inoSize:], m.Size)
	le.PutUint64(b[inoNlinks:], m.Nlinks)
	le.PutUint64(b[inoIparent:], m.Iparent)
	le.PutUint64(b[inoNameKey:], m.NameKey)
	le.PutUint16(b[inoNameLen:], m.NameLen)
	b[inoNCopies], b[inoCompAlgo] = m.Reserved.NCopies, m.CompAlgo
	b[inoAccountBit], b[inoCheckAlgo] = m.AccountFlags, m.CheckAlgo
	b[inoNMasters], b[inoPFSType] = m.PFSNMasters, uint8(m.PFSType)
	le.PutUint64(b[inoPFSInum:], m.PFSInum)
	copy(b[inoPFSClid:], m.PFSClid[:])
	copy(b[inoPFSFsid:], m.PFSFsid[:])
	le.PutUint64(b[inoDataQuota:], m.DataQuota)
	le.PutUint64(b[inoCharge:], m.Charge)
	le.PutUint64(b[inoInodeQuota:], m.InodeQuota)
	le.PutUint64(b[inoChargeInos:], m.ChargeInodes)
	le.PutUint64(b[inoLsnapTid:], uint64(m.PFSLsnapTid))
	le.PutUint64(b[inoAccount:], m.Account)
	le.PutUint64(b[inoDecrypt:], m.Reserved.DecryptCheck)
	le.PutUint64(b[inoNanos:], m.Nanos)
	le.PutUint64(b[inoSharedTid:], uint64(m.SharedTid))
	le.PutUint32(b[inoAccountGen:], m.AccountGen)
	le.PutUint32(b[inoAccountIn:], m.AccountIn)
	clear(b[inoFilename+copy(b[inoFilename:inoUnion], m.Filename) : inoUnion])
}

// DecodeInodeMeta reads the first 512 bytes of b. Errors are ErrCorrupt.
func DecodeInodeMeta(b []byte) (InodeMeta, error) {
	if len(b) < InodeMetaSize {
		return InodeMeta{}, corruptf("inode of %d bytes, want at least %d", len(b), InodeMetaSize)
	}
	var m InodeMeta
	m.get(b)
	return m, m.Validate()
}

func (m *InodeMeta) get(b []byte) {
	le := binary.LittleEndian
	m.Version = le.Uint16(b[inoVersion:])
	m.Reserved.B02, m.PFSSubtype = b[inoRes02], b[inoPFSSubtype]
	m.UFlags = le.Uint32(b[inoUFlags:])
	m.RMajor = le.Uint32(b[inoRMajor:])
	m.RMinor = le.Uint32(b[inoRMinor:])
	m.Ctime = le.Uint64(b[inoCtime:])
	m.Mtime = le.Uint64(b[inoMtime:])
	m.Atime = le.Uint64(b[inoAtime:])
	m.Btime = le.Uint64(b[inoBtime:])
	m.Reserved.UIDRest = [lenID]byte(b[inoUID:])
	m.UID = le.Uint32(b[inoUID+lenID:])
	m.Reserved.GIDRest = [lenID]byte(b[inoGID:])
	m.GID = le.Uint32(b[inoGID+lenID:])
	m.Type, m.OpFlags = ObjType(b[inoType]), b[inoOpFlags]
	m.CapFlags = le.Uint16(b[inoCapFlags:])
	m.Mode = le.Uint32(b[inoMode:])
	m.Inum = le.Uint64(b[inoInum:])
	m.Size = le.Uint64(b[inoSize:])
	m.Nlinks = le.Uint64(b[inoNlinks:])
	m.Iparent = le.Uint64(b[inoIparent:])
	m.NameKey = le.Uint64(b[inoNameKey:])
	m.NameLen = le.Uint16(b[inoNameLen:])
	m.Reserved.NCopies, m.CompAlgo = b[inoNCopies], b[inoCompAlgo]
	m.AccountFlags, m.CheckAlgo = b[inoAccountBit], b[inoCheckAlgo]
	m.PFSNMasters, m.PFSType = b[inoNMasters], PFSType(b[inoPFSType])
	m.PFSInum = le.Uint64(b[inoPFSInum:])
	m.PFSClid = UUID(b[inoPFSClid:])
	m.PFSFsid = UUID(b[inoPFSFsid:])
	m.DataQuota = le.Uint64(b[inoDataQuota:])
	m.Charge = le.Uint64(b[inoCharge:])
	m.InodeQuota = le.Uint64(b[inoInodeQuota:])
	m.ChargeInodes = le.Uint64(b[inoChargeInos:])
	m.PFSLsnapTid = Tid(le.Uint64(b[inoLsnapTid:]))
	m.Account = le.Uint64(b[inoAccount:])
	m.Reserved.DecryptCheck = le.Uint64(b[inoDecrypt:])
	m.Nanos = le.Uint64(b[inoNanos:])
	m.SharedTid = Tid(le.Uint64(b[inoSharedTid:]))
	m.AccountGen = le.Uint32(b[inoAccountGen:])
	m.AccountIn = le.Uint32(b[inoAccountIn:])
	name := b[inoFilename:inoUnion]
	end := len(name)
	for end > 0 && name[end-1] == 0 {
		end--
	}
	m.Filename = string(name[:end])
}

// DecodeInode reads the 1 KiB of an inode. Errors are ErrCorrupt.
func DecodeInode(b []byte) (Inode, error) {
	if len(b) != InodeSize {
		return Inode{}, corruptf("inode of %d bytes, want %d", len(b), InodeSize)
	}
	var i Inode
	i.Meta.get(b)
	if err := i.Meta.Validate(); err != nil {
		return Inode{}, err
	}
	if i.Meta.DirectData() {
		i.Inline = [InlineMax]byte(b[inoUnion:])
		return i, nil
	}
	refs, err := DecodeBlockrefs(b[inoUnion:])
	if err != nil {
		return Inode{}, corruptf("inode %d: %v", i.Meta.Inum, err)
	}
	i.Blockset = refs
	return i, nil
}

// Encode writes the 1 KiB of the inode to b. It panics on an invalid inode,
// and on one with both inline content and a blockset.
func (i *Inode) Encode(b []byte) {
	i.Meta.Encode(b)
	if !i.Meta.DirectData() {
		EncodeBlockrefs(b[inoUnion:InodeSize], i.Blockset)
		return
	}
	if len(i.Blockset) != 0 {
		panic(fmt.Sprintf("ondisk: inode %d with inline content and a blockset", i.Meta.Inum))
	}
	copy(b[inoUnion:InodeSize], i.Inline[:])
}
