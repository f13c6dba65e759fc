package ondisk

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"unsafe"
)

// Directory entries. A name of at most NameInRef bytes lies in the blockref,
// a longer one in a block of NameBlock bytes.
const (
	NameMax   = 255
	NameInRef = lenCheck
	NameBlock = MinBlock
)

// A Dirent is a directory entry.
type Dirent struct {
	Key  uint64 // NameHash(Name), plus a collision number in CollisionMask
	Inum uint64
	Type ObjType // copy of the inode's
	Name string  // 1..255 bytes without NUL and '/'
}

// NameHash is the key of name before collisions are resolved: bits 0..14
// zero, bits 15 and 63 set. The same hash keys PFS roots by their label.
func NameHash(name string) uint64 {
	b := unsafe.Slice(unsafe.StringData(name), len(name)) // only read, so no copy
	var sum uint32
	start := 0
	for i := 0; i <= len(b); i++ {
		if i < len(b) && !isSeparator(b[i]) {
			continue
		}
		if i > start {
			sum += crc32.Checksum(b[start:i], castagnoli)
		}
		start = i + 1
	}
	c := crc32.Checksum(b, castagnoli)
	return uint64(sum|0x80000000)<<32 | uint64((c^c<<16)&0xFFFF0000) | 0x8000
}

func isSeparator(c byte) bool { return c == '.' || c == '-' || c == '_' || c == '~' }

// Blockref returns the reference to d with Type, Key, Embed and, for a short
// name, Check set; methods, tids and, for a long name, DataOff and check code
// are the caller's. block is the zero-padded block of a long name, nil for a
// short one. It panics on an invalid entry.
func (d *Dirent) Blockref() (ref Blockref, block []byte) {
	mustBeValid("directory entry", d.Validate())
	ref.Type, ref.Key = TypeDirent, d.Key
	binary.LittleEndian.PutUint64(ref.Embed[0:], d.Inum)
	binary.LittleEndian.PutUint16(ref.Embed[8:], uint16(len(d.Name)))
	ref.Embed[10] = uint8(d.Type)
	if len(d.Name) <= NameInRef {
		copy(ref.Check[:], d.Name)
		return ref, nil
	}
	block = make([]byte, NameBlock)
	copy(block, d.Name)
	return ref, block
}

// DecodeDirent reads the entry in r; block is needed if and only if r has
// one, and must have been verified. Errors are ErrCorrupt.
func DecodeDirent(r *Blockref, block []byte) (Dirent, error) {
	if r.Type != TypeDirent {
		return Dirent{}, corruptf("%v: not a directory entry", r)
	}
	n := int(binary.LittleEndian.Uint16(r.Embed[8:]))
	if n > NameMax || (n > NameInRef) != (r.DataOff != 0) {
		return Dirent{}, corruptf("%v: name of %d bytes in the wrong place", r, n)
	}
	area := r.Check[:]
	if n > NameInRef {
		if len(block) != NameBlock {
			return Dirent{}, corruptf("%v: name block of %d bytes", r, len(block))
		}
		area = block
	}
	if !allZero(area[n:]) || !allZero(r.Embed[11:]) {
		return Dirent{}, corruptf("%v: padding is not zero", r)
	}
	d := Dirent{
		Key:  r.Key,
		Inum: binary.LittleEndian.Uint64(r.Embed[0:]),
		Type: ObjType(r.Embed[10]),
		Name: string(area[:n]),
	}
	return d, d.Validate()
}

// Validate checks name, type, number and key against each other.
func (d *Dirent) Validate() error {
	switch {
	case len(d.Name) == 0 || len(d.Name) > NameMax:
		return corruptf("directory entry %016x: name of %d bytes", d.Key, len(d.Name))
	case strings.IndexByte(d.Name, 0) >= 0 || strings.IndexByte(d.Name, '/') >= 0 || d.Name == "." || d.Name == "..":
		return corruptf("directory entry %016x: impossible name %q", d.Key, d.Name)
	case d.Key&^CollisionMask != NameHash(d.Name):
		return corruptf("directory entry %016x: not the hash of %q", d.Key, d.Name)
	case !known(objTypeNames, uint8(d.Type)):
		return corruptf("directory entry %q: unknown object type %d", d.Name, d.Type)
	case d.Inum == 0:
		return corruptf("directory entry %q: inode number 0", d.Name)
	}
	return nil
}
