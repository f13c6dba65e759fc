package ondisk

import (
	"fmt"
	"slices"
)

// Sizes fixed by the media format, in bytes unless the name says otherwise.
const (
	BlockrefSize  = 128
	InodeSize     = 1024
	InodeMetaSize = 512 // everything before the blockset: metadata and filename
	InlineMax     = 512 // content kept inside an inode
	InodeRefs     = 4   // blockrefs in an inode
	HeaderSize    = 65536
	LogicalBlock  = 65536 // of file data, whatever its size on media
	MinRadix      = 10    // log2 of the smallest block
	MaxRadix      = 16    // log2 of the largest block
	LogicalBits   = 16    // keybits of a DATA blockref
	MinBlock      = 1 << MinRadix
	MaxBlock      = 1 << MaxRadix

	ChunkRadix   = 14
	ChunkSize    = 1 << ChunkRadix // freemap granule
	SegmentRadix = 22
	SegmentSize  = 1 << SegmentRadix // one freemap entry
	ZoneRadix    = 30
	ZoneSize     = 1 << ZoneRadix // one freemap leaf; its first segment is reserved
	ReservedSize = SegmentSize    // head of each zone
	HeaderZone   = 2 * ZoneSize   // distance of header slots
	HeaderSlots  = 4
	SpareHeader  = 63 * 65536 // offset of a second header on volumes with one slot
	VolumeAlign  = 8 << 20    // volume sizes are multiples of this
	MaxVolumes   = 64

	FreemapBlockSize  = 32768
	FreemapBlockRadix = 15
	FreemapCopies     = 8
	FreemapRefs       = 256 // blockrefs of a node, entries of a leaf
)

// Numbers with a meaning of their own in key spaces.
const (
	DirBit        = 1 << 63 // set in the keys of directory entries
	AttrBit       = 1 << 62 // inode AttrBit|N holds the attributes of inode N
	CollisionMask = 0x7FFF  // room for names with one hash
	InumRoot      = 1       // root directory of a PFS
	InumCluster   = 2       // cluster configuration, named by no entry
	InumSnapshots = 3       // list of snapshots, named by no entry
	InumBranch    = 8       // where a branch comes from, named by no entry
	InumMerge     = 9       // how far a merge has come, likewise
	InumConflicts = 10      // what merges left to be decided, likewise
	InumFirst     = 1024    // lowest number handed out to files
)

// BlockType says what a blockref points at.
type BlockType uint8

// The block types of the format.
const (
	TypeEmpty BlockType = iota
	TypeInode
	TypeIndirect
	TypeData
	TypeDirent
	TypeFreemapNode
	TypeFreemapLeaf
	TypeInvalid // fills the unused sroot blockset of secondary volumes
)

// ObjType is the kind of file an inode or directory entry describes.
type ObjType uint8

// The object types of the format; 3 and 8 are not in use.
const (
	ObjUnknown  ObjType = 0
	ObjDir      ObjType = 1
	ObjFile     ObjType = 2
	ObjFIFO     ObjType = 4
	ObjChar     ObjType = 5
	ObjBlock    ObjType = 6
	ObjSymlink  ObjType = 7
	ObjSocket   ObjType = 9
	ObjWhiteout ObjType = 10
)

// PFSType is the role of a PFS in its cluster.
type PFSType uint8

// The roles of the format.
const (
	PFSNone       PFSType = 0
	PFSCache      PFSType = 1
	PFSSlave      PFSType = 3
	PFSSoftSlave  PFSType = 4
	PFSSoftMaster PFSType = 5
	PFSMaster     PFSType = 6
	PFSSuperRoot  PFSType = 8
	PFSDummy      PFSType = 9
)

// Unnamed reports whether anvilfs keeps an inode under that number that no
// entry names.
func Unnamed(inum uint64) bool {
	return inum == InumCluster || inum == InumSnapshots || inum >= InumBranch && inum <= InumConflicts
}

// Soft reports whether copies of that role may be away for long: they follow
// what is committed, and nobody waits for them.
func (t PFSType) Soft() bool { return t == PFSSoftSlave || t == PFSSoftMaster }

// PFS subtypes.
const (
	PFSSubNone         = 0
	PFSSubSnapshot     = 1
	PFSSubAutoSnapshot = 2
)

// CheckMethod says how a block's check code is computed.
type CheckMethod uint8

// The check methods of the format.
const (
	CheckNone CheckMethod = iota
	CheckDisabled
	CheckISCSI32
	CheckXXHash64 // the default
	CheckSHA192
	CheckFreemap
)

// CompMethod is a compression setting, or how a data block is stored.
type CompMethod uint8

// The compression methods of the format. AutoZero is a setting only: no block
// is stored that way.
const (
	CompNone CompMethod = iota
	CompAutoZero
	CompLZ4
	CompZlib
)

var (
	blockTypeNames = []string{"empty", "inode", "indirect", "data", "dirent", "freemap-node", "freemap-leaf", "invalid"}
	objTypeNames   = []string{"unknown", "dir", "file", "", "fifo", "char", "block", "symlink", "", "socket", "whiteout"}
	pfsTypeNames   = []string{"none", "cache", "", "slave", "soft-slave", "soft-master", "master", "", "superroot", "dummy"}
	checkNames     = []string{"none", "disabled", "iscsi32", "xxhash64", "sha192", "freemap"}
	compNames      = []string{"none", "autozero", "lz4", "zlib"}
)

func nameOf(names []string, v uint8) string {
	if int(v) < len(names) && names[v] != "" {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", v)
}

func parseName(what string, names []string, s string) (uint8, error) {
	if i := slices.Index(names, s); i >= 0 && s != "" {
		return uint8(i), nil
	}
	known := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "" })
	return 0, fmt.Errorf("%s %q: want one of %v", what, s, known)
}

func known(names []string, v uint8) bool { return int(v) < len(names) && names[v] != "" }

// String returns the lower-case name that ParseBlockType reads.
func (t BlockType) String() string { return nameOf(blockTypeNames, uint8(t)) }

// String returns the lower-case name that ParseObjType reads.
func (t ObjType) String() string { return nameOf(objTypeNames, uint8(t)) }

// String returns the lower-case name that ParsePFSType reads.
func (t PFSType) String() string { return nameOf(pfsTypeNames, uint8(t)) }

// String returns the lower-case name that ParseCheckMethod reads.
func (m CheckMethod) String() string { return nameOf(checkNames, uint8(m)) }

// String returns the lower-case name that ParseCompMethod reads.
func (m CompMethod) String() string { return nameOf(compNames, uint8(m)) }

// ParseBlockType is the inverse of BlockType.String.
func ParseBlockType(s string) (BlockType, error) {
	v, err := parseName("block type", blockTypeNames, s)
	return BlockType(v), err
}

// ParseObjType is the inverse of ObjType.String.
func ParseObjType(s string) (ObjType, error) {
	v, err := parseName("object type", objTypeNames, s)
	return ObjType(v), err
}

// ParsePFSType is the inverse of PFSType.String.
func ParsePFSType(s string) (PFSType, error) {
	v, err := parseName("PFS type", pfsTypeNames, s)
	return PFSType(v), err
}

// ParseCheckMethod is the inverse of CheckMethod.String.
func ParseCheckMethod(s string) (CheckMethod, error) {
	v, err := parseName("check method", checkNames, s)
	return CheckMethod(v), err
}

// ParseCompMethod is the inverse of CompMethod.String.
func ParseCompMethod(s string) (CompMethod, error) {
	v, err := parseName("compression", compNames, s)
	return CompMethod(v), err
}
