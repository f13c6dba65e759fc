package hostile

import (
	"encoding/binary"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Offsets in a blockref, as in package ondisk, which keeps them to itself.
const (
	refType    = 0x00
	refMethods = 0x01
	refKeyBits = 0x03
	refFlags   = 0x05
	refLeaves  = 0x06
	refKey     = 0x08
	refMirror  = 0x10
	refModify  = 0x18
	refDataOff = 0x20
	refEmbed   = 0x30
	refCheck   = 0x40
)

// A mutation is one kind of damage.
type mutation struct {
	name     string
	do       func(im *Image) string // says what was done, "" = nothing
	trusted  bool                   // our mark vouches against it
	flagrant bool                   // fsck must see it
}

// mutations lists all damages that are done.
var mutations = []mutation{
	{"self", aimAtParent, false, false},
	{"ancestor", aimAtAncestor, false, false},
	{"cross", aimAtOther, true, false},
	{"twin", copyElement, true, false},
	{"retype", aimAtOtherType, true, false},
	{"beyond", aimBeyond, false, true},
	{"reserved", aimAtReserved, true, true},
	{"misaligned", misalign, false, false},
	{"radix", changeRadix, true, false},
	{"type", changeType, true, false},
	{"methods", changeMethods, true, false},
	{"keys", changeKeys, true, false},
	{"order", swapElements, false, true},
	{"overlap", overlapElements, true, true},
	{"half-empty", halfEmpty, true, true},
	{"embed", changeEmbed, true, false},
	{"tids", changeTids, true, false},
	{"element", scribbleElement, true, false},
	{"no-code", wrongCode, true, true},
	{"laughs", laughs, true, true},
	{"self-inode", inodeInItself, true, false},
	{"size", changeSize, false, false},
	{"nlinks", changeNlinks, false, false},
	{"inode-field", changeInodeField, true, false},
	{"inode-name", changeInodeName, false, false},
	{"inode-bytes", scribbleInode, true, false},
	{"direct", toggleDirect, true, false},
	{"pfs-field", changePFSField, true, false},
	{"two-labels", sameLabel, false, true},
	{"entry-name", changeEntryName, false, true},
	{"entry-target", changeEntryTarget, false, false},
	{"loop", directoryLoop, false, false},
	{"bomb", bomb, false, true},
	{"compressed", scribbleCompressed, false, false},
	{"truncated", truncateCompressed, false, false},
	{"attributes", scribbleAttributes, false, false},
	{"charter", scribbleCharter, false, false},
	{"map-free", mapSaysFree, true, false},
	{"map-full", mapSaysFull, false, false},
	{"map-sums", mapSums, true, false},
	{"map-bytes", scribbleMap, true, false},
	{"map-ref", changeMapRef, true, false},
	{"header-size", headerSizes, true, false},
	{"header-alloc", headerAllocator, true, false},
	{"header-tids", headerTids, true, false},
	{"header-set", headerSet, true, false},
	{"header-sroot", headerSroot, true, false},
	{"header-states", headerStates, true, false},
	{"header-mark", headerMark, true, false},
	{"header-bytes", scribbleHeader, true, false},
	{"flips", flips, true, false},
	forgery,
}

// forgery came after seeds were kept that stand for their images: it is drawn
// apart from the others.
var forgery = mutation{"log-record", forgeLog, false, false}

// Mutations names all damages.
func Mutations() (names []string) {
	for i := range mutations {
		names = append(names, mutations[i].name)
	}
	return names
}

// pick chooses a site, -1 if none will do.
func (im *Image) pick(ok func(s *site) bool) int {
	n := len(im.p.sites)
	from := im.rnd.IntN(n)
	for i := range n {
		if s := (from + i) % n; ok(&im.p.sites[s]) && !im.aimed[s] {
			return s
		}
	}
	return -1
}

// pickTable prefers inodes and tables, of which there are fewer than leaves.
func (im *Image) pickTable() int {
	return im.pick(func(s *site) bool { return s.isTable() && s.in != header })
}

// pickAny chooses by type first.
func (im *Image) pickAny() int {
	t := []ondisk.BlockType{ondisk.TypeInode, ondisk.TypeIndirect, ondisk.TypeIndirect, ondisk.TypeData, ondisk.TypeDirent}[im.rnd.IntN(5)]
	return im.pick(func(s *site) bool { return s.ref.Type == t && s.in != header })
}

func (im *Image) pickType(t ondisk.BlockType) int {
	return im.pick(func(s *site) bool { return s.ref.Type == t && s.in != header })
}

func (s *site) isTable() bool {
	return s.ref.Type == ondisk.TypeInode || s.ref.Type == ondisk.TypeIndirect
}

// number is one that programs stumble over.
func (im *Image) number() uint64 {
	edges := []uint64{0, 1, 2, 255, 1 << 10, 1 << 14, 1 << 16, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 40,
		1<<62 - 1, 1 << 62, 1<<63 - 1, 1 << 63, 1<<63 + 1, ^uint64(0) - 1, ^uint64(0)}
	switch im.rnd.IntN(3) {
	case 0:
		return im.rnd.Uint64()
	case 1:
		return im.rnd.Uint64() >> im.rnd.IntN(64)
	}
	return edges[im.rnd.IntN(len(edges))]
}

// put64 stores a number and returns it.
func put64(b []byte, v uint64) uint64 {
	binary.LittleEndian.PutUint64(b, v)
	return v
}

func get64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// scribble changes a few bytes, or flips bits.
func (im *Image) scribble(b []byte) {
	for range 1 + im.rnd.IntN(4) {
		at := im.rnd.IntN(len(b))
		if im.rnd.IntN(2) == 0 {
			b[at] ^= 1 << im.rnd.IntN(8)
		} else {
			b[at] = byte(im.rnd.Uint32())
		}
	}
}
