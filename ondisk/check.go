package ondisk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"

	"github.com/cespare/xxhash/v2"
)

// xxSeed is the format's seed for XXH64.
const xxSeed = 0x4D617474446C6C6E

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC32C is the format's 32-bit code, also used for headers and name hashes.
func CRC32C(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// XXH64 is the format's default check code.
func XXH64(b []byte) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(xxSeed)
	d.Write(b)
	return d.Sum64()
}

// codeLen is the number of bytes that a method uses of the check field.
func codeLen(m CheckMethod) int {
	switch m {
	case CheckISCSI32, CheckFreemap:
		return 4
	case CheckXXHash64:
		return 8
	case CheckSHA192:
		return 24
	}
	return 0
}

// Code is what r holds of its block's check code; empty without one.
func (r *Blockref) Code() []byte { return r.Check[:codeLen(r.CheckMethod())] }

// checkCode computes the code of a whole stored block; bytes that the method
// does not use are zero.
func checkCode(m CheckMethod, block []byte) (code [lenCheck]byte) {
	switch m {
	case CheckISCSI32, CheckFreemap:
		binary.LittleEndian.PutUint32(code[:], CRC32C(block))
	case CheckXXHash64:
		binary.LittleEndian.PutUint64(code[:], XXH64(block))
	case CheckSHA192:
		d := sha256.Sum256(block)
		copy(code[:16], d[:16])
		for i := range 8 {
			code[16+i] = d[16+i] ^ d[24+i]
		}
	}
	return code
}

// SetCheck computes the code of block, which is the whole stored block, by
// r.CheckMethod() into r.Check. The hints that a freemap blockref has behind
// its code are kept.
func (r *Blockref) SetCheck(block []byte) {
	code := checkCode(r.CheckMethod(), block)
	if r.CheckMethod() == CheckFreemap && (r.Type == TypeFreemapLeaf || r.Type == TypeFreemapNode) {
		copy(code[4:], r.Check[4:])
	}
	r.Check = code
}

// VerifyCheck compares the code of block, the whole stored block, with
// r.Check. The error is a *CheckError. Methods without a code verify nothing,
// and neither does a directory entry without a block.
func (r *Blockref) VerifyCheck(block []byte) error {
	if len(block) != r.Size() {
		return corruptf("%v: %d bytes read", r, len(block))
	}
	if r.DataOff == 0 {
		return nil
	}
	m := r.CheckMethod()
	n := codeLen(m)
	code := checkCode(m, block)
	if string(code[:n]) == string(r.Check[:n]) {
		return nil
	}
	return &CheckError{Ref: *r, Want: hex.EncodeToString(r.Check[:n]), Got: hex.EncodeToString(code[:n])}
}
