package ondisk

import (
	"encoding/binary"
	"fmt"
)

// Offsets in a blockref on media.
const (
	refType    = 0x00
	refMethods = 0x01
	refCopyID  = 0x02
	refKeyBits = 0x03
	refVRadix  = 0x04
	refFlags   = 0x05
	refLeaves  = 0x06
	refKey     = 0x08
	refMirror  = 0x10
	refModify  = 0x18
	refDataOff = 0x20
	refUpdate  = 0x28
	refEmbed   = 0x30
	refCheck   = 0x40
	lenCheck   = 64
)

// Compile error unless the last field ends exactly at BlockrefSize.
var _ = [1]struct{}{}[refCheck+lenCheck-BlockrefSize]

// FlagPFSRoot in Blockref.Flags marks the root inode of a PFS.
const FlagPFSRoot = 1

// radixMask selects the size in a data_off; the rest is the address.
const radixMask = 0x3f

// A Blockref is a parent's reference to one child block. All 128 bytes of the
// media form are in it, so that decoding and encoding lose nothing.
//
// Invariants, checked by Validate on both encode and decode:
//   - it covers keys [Key, Key+1<<KeyBits), so Key's low KeyBits bits are 0;
//   - DataOff 0 means "no block on media"; else its block is 1 KiB aligned,
//     aligned to its size from 16 KiB on, and inside one 16 KiB chunk below;
//   - size and key width fit the type;
//   - an EMPTY one is all zero.
type Blockref struct {
	Type      BlockType
	Methods   uint8 // check method in the high nibble, compression in the low
	CopyID    uint8
	KeyBits   uint8 // log2 of the number of keys covered, 0..64
	VRadix    uint8
	Flags     uint8
	LeafCount uint16 // capped
	Key       uint64
	MirrorTid Tid
	ModifyTid Tid
	DataOff   uint64 // address | radix; 0 = no block
	UpdateTid Tid
	Embed     [16]byte // head of a directory entry, or counts
	Check     [64]byte // check code of the block, or the name of an entry
}

// MakeDataOff joins an address and a radix; radix 0 gives 0, "no block".
func MakeDataOff(off uint64, radix uint8) uint64 {
	if radix == 0 {
		return 0
	}
	return off&^radixMask | uint64(radix&radixMask)
}

// Off is the logical byte address of the block; 0 if there is none.
func (r *Blockref) Off() uint64 { return r.DataOff &^ radixMask }

// Radix is log2 of the block's size; 0 if there is no block.
func (r *Blockref) Radix() uint8 { return uint8(r.DataOff & radixMask) }

// Size is the block's size on media in bytes; 0 if there is no block.
func (r *Blockref) Size() int {
	if r.Radix() == 0 {
		return 0
	}
	return 1 << r.Radix()
}

// LastKey is the highest key covered.
func (r *Blockref) LastKey() uint64 { return r.Key + (1<<r.KeyBits - 1) }

// CheckMethod is the high nibble of Methods.
func (r *Blockref) CheckMethod() CheckMethod { return CheckMethod(r.Methods >> 4) }

// CompMethod is the low nibble of Methods. It describes the block only on
// DATA blockrefs.
func (r *Blockref) CompMethod() CompMethod { return CompMethod(r.Methods & 15) }

// SetMethods sets both nibbles of Methods.
func (r *Blockref) SetMethods(check CheckMethod, comp CompMethod) {
	r.Methods = uint8(check)<<4 | uint8(comp)&15
}

// DataCount is the sum of the sizes of all blocks below, in bytes. INODE and
// INDIRECT only.
func (r *Blockref) DataCount() uint64 { return binary.LittleEndian.Uint64(r.Embed[:]) }

// InodeCount is the number of inodes below. INODE and INDIRECT only.
func (r *Blockref) InodeCount() uint64 { return binary.LittleEndian.Uint64(r.Embed[8:]) }

// SetCounts stores DataCount and InodeCount.
func (r *Blockref) SetCounts(data, inodes uint64) {
	binary.LittleEndian.PutUint64(r.Embed[:], data)
	binary.LittleEndian.PutUint64(r.Embed[8:], inodes)
}

// String names the reference for messages.
func (r *Blockref) String() string {
	if r.DataOff == 0 {
		return fmt.Sprintf("%v %016x/%d", r.Type, r.Key, r.KeyBits)
	}
	return fmt.Sprintf("%v %016x/%d at %#x.%d", r.Type, r.Key, r.KeyBits, r.Off(), r.Radix())
}

// Encode writes the 128 bytes of r to b. It panics on a blockref that
// Validate rejects.
func (r *Blockref) Encode(b []byte) {
	mustBeValid("blockref", r.Validate())
	r.put(b)
}

func (r *Blockref) put(b []byte) {
	_ = b[BlockrefSize-1]
	b[refType], b[refMethods], b[refCopyID], b[refKeyBits] = uint8(r.Type), r.Methods, r.CopyID, r.KeyBits
	b[refVRadix], b[refFlags] = r.VRadix, r.Flags
	le := binary.LittleEndian
	le.PutUint16(b[refLeaves:], r.LeafCount)
	le.PutUint64(b[refKey:], r.Key)
	le.PutUint64(b[refMirror:], uint64(r.MirrorTid))
	le.PutUint64(b[refModify:], uint64(r.ModifyTid))
	le.PutUint64(b[refDataOff:], r.DataOff)
	le.PutUint64(b[refUpdate:], uint64(r.UpdateTid))
	copy(b[refEmbed:refCheck], r.Embed[:])
	copy(b[refCheck:BlockrefSize], r.Check[:])
}

func (r *Blockref) get(b []byte) {
	_ = b[BlockrefSize-1]
	le := binary.LittleEndian
	r.Type, r.Methods, r.CopyID, r.KeyBits = BlockType(b[refType]), b[refMethods], b[refCopyID], b[refKeyBits]
	r.VRadix, r.Flags = b[refVRadix], b[refFlags]
	r.LeafCount = le.Uint16(b[refLeaves:])
	r.Key = le.Uint64(b[refKey:])
	r.MirrorTid = Tid(le.Uint64(b[refMirror:]))
	r.ModifyTid = Tid(le.Uint64(b[refModify:]))
	r.DataOff = le.Uint64(b[refDataOff:])
	r.UpdateTid = Tid(le.Uint64(b[refUpdate:]))
	copy(r.Embed[:], b[refEmbed:refCheck])
	copy(r.Check[:], b[refCheck:BlockrefSize])
}

// DecodeBlockref reads the first 128 bytes of b. Errors are ErrCorrupt.
func DecodeBlockref(b []byte) (Blockref, error) {
	if len(b) < BlockrefSize {
		return Blockref{}, corruptf("blockref of %d bytes, want %d", len(b), BlockrefSize)
	}
	var r Blockref
	r.get(b)
	if err := r.Validate(); err != nil {
		return Blockref{}, err
	}
	return r, nil
}

// Validate checks the invariants of the type. Errors are ErrCorrupt.
func (r *Blockref) Validate() error {
	if r.Type == TypeEmpty || r.Type == TypeInvalid {
		if *r != (Blockref{Type: r.Type}) {
			return corruptf("%v blockref is not zero", r.Type)
		}
		return nil
	}
	if r.Type > TypeInvalid {
		return corruptf("blockref of unknown type %d", r.Type)
	}
	if r.KeyBits > 64 || r.Key&(1<<r.KeyBits-1) != 0 {
		return corruptf("%v: key has bits below its keybits", r)
	}
	if r.CheckMethod() > CheckFreemap {
		return corruptf("%v: unknown check method %d", r, r.CheckMethod())
	}
	if err := r.validateBlock(); err != nil {
		return err
	}
	return r.validateType()
}

// validateBlock checks address and size.
func (r *Blockref) validateBlock() error {
	if r.DataOff == 0 {
		return nil
	}
	radix, off := r.Radix(), r.Off()
	if radix < MinRadix || radix > MaxRadix {
		return corruptf("%v: no block has radix %d", r, radix)
	}
	size := uint64(1) << radix
	switch {
	case off%MinBlock != 0:
		return corruptf("%v: not on a 1 KiB boundary", r)
	case off > 1<<63-size:
		return corruptf("%v: beyond any volume", r)
	case size >= ChunkSize && off%size != 0:
		return corruptf("%v: not on a multiple of its size", r)
	case size < ChunkSize && off%ChunkSize+size > ChunkSize:
		return corruptf("%v: crosses a 16 KiB boundary", r)
	}
	return nil
}

// validateType checks what the type allows: [lo, hi] of the radix (0 = no
// block), keybits, and how data is stored.
func (r *Blockref) validateType() error {
	radix := r.Radix()
	var sizeOK, keyOK bool
	switch r.Type {
	case TypeInode:
		sizeOK, keyOK = radix == MinRadix, r.KeyBits == 0
	case TypeIndirect:
		// Smaller than 32 elements is never made.
		sizeOK, keyOK = radix >= 12, true
	case TypeData:
		sizeOK, keyOK = radix != 0, r.KeyBits == LogicalBits
		if c := r.CompMethod(); c == CompAutoZero || c > CompZlib {
			return corruptf("%v: no block is stored with compression %d", r, c)
		}
	case TypeDirent:
		sizeOK, keyOK = radix == 0 || radix == MinRadix, r.KeyBits == 0 && r.Key&DirBit != 0
	case TypeFreemapNode:
		sizeOK = radix == FreemapBlockRadix
		keyOK = r.KeyBits > ZoneRadix && r.KeyBits <= 62 && (r.KeyBits-ZoneRadix)%8 == 0
	case TypeFreemapLeaf:
		sizeOK, keyOK = radix == FreemapBlockRadix, r.KeyBits == ZoneRadix
	}
	if !sizeOK {
		return corruptf("%v: no %v has radix %d", r, r.Type, radix)
	}
	if !keyOK {
		return corruptf("%v: no %v has such a key", r, r.Type)
	}
	return nil
}
