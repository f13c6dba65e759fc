package ondisk

import (
	"encoding/hex"
	"math/bits"
	"sync"
)

// An EncodedBlock is a block of file data as every node stores it. It is
// immutable: many nodes write it at once.
type EncodedBlock struct {
	Bytes []byte // 1<<Radix bytes, padding included; whole pages are aligned for direct I/O
	Radix uint8  // MinRadix..MaxRadix
	Comp  CompMethod
	Check CheckMethod
	Code  [lenCheck]byte // check code of Bytes
}

// blockPools holds released blocks by radix, each with its buffer.
var blockPools [MaxRadix + 1]sync.Pool

// newBlock returns a block with a buffer of 1<<radix bytes of any content.
func newBlock(radix uint8) *EncodedBlock {
	if b, ok := blockPools[radix].Get().(*EncodedBlock); ok {
		return b
	}
	if 1<<radix < bufferAlign {
		// Aligned it would take a page, and txgs of small files hold many. It is
		// written together with its neighbours, by way of a buffer.
		return &EncodedBlock{Bytes: make([]byte, 1<<radix), Radix: radix}
	}
	return &EncodedBlock{Bytes: AlignedBuffer(1 << radix), Radix: radix}
}

// Release gives the buffer back for reuse. It is optional, and allowed only
// when nobody, no node included, will look at the block again.
func (b *EncodedBlock) Release() {
	if b.Radix >= MinRadix && b.Radix <= MaxRadix && len(b.Bytes) == 1<<b.Radix {
		blockPools[b.Radix].Put(b)
	}
}

// SetRef copies what b knows into a DATA blockref: type, key width, methods
// and check code. Key, tids and address are the caller's.
func (b *EncodedBlock) SetRef(r *Blockref) {
	r.Type, r.KeyBits = TypeData, LogicalBits
	r.SetMethods(b.Check, b.Comp)
	r.Check = b.Code
}

// Validate checks a block that came from elsewhere, its code included.
// Errors are ErrCorrupt.
func (b *EncodedBlock) Validate() error {
	if b.Radix < MinRadix || b.Radix > MaxRadix || len(b.Bytes) != 1<<b.Radix {
		return corruptf("encoded block of %d bytes with radix %d", len(b.Bytes), b.Radix)
	}
	if b.Comp == CompAutoZero || b.Comp > CompZlib || b.Check > CheckFreemap {
		return corruptf("encoded block with compression %d, check method %d", b.Comp, b.Check)
	}
	if want := checkCode(b.Check, b.Bytes); want != b.Code {
		n := codeLen(b.Check)
		return corruptf("encoded block: %v check code %s, want %s",
			b.Check, hex.EncodeToString(b.Code[:n]), hex.EncodeToString(want[:n]))
	}
	return nil
}

// DataRadix is the radix of a plain block of n bytes in [1, 65536].
func DataRadix(n int) uint8 {
	return uint8(max(MinRadix, bits.Len(uint(n-1))))
}

// EncodeData turns p, the valid bytes of one logical block (1..65536 of
// them), into what is stored, by the settings of its inode. hole says that p
// is all zero and the settings let that be a hole; blk is nil then. p is not
// kept. Errors come from wrong settings or lengths only.
func EncodeData(p []byte, comp, check uint8) (blk *EncodedBlock, hole bool, err error) {
	setting, method := CompMethod(comp&15), CheckMethod(check&15)
	if len(p) == 0 || len(p) > LogicalBlock || setting > CompZlib || method > CheckFreemap {
		return nil, false, corruptf("data block of %d bytes, compression %d, check method %d", len(p), setting, method)
	}
	if setting != CompNone && method != CheckNone && allZero(p) {
		return nil, true, nil
	}
	radix := DataRadix(len(p))
	var plain *EncodedBlock // p with its padding
	if len(p) < 1<<radix {
		plain = newBlock(radix)
		clear(plain.Bytes[copy(plain.Bytes, p):])
		p = plain.Bytes
	}
	// Half of the smallest block would still take the smallest block.
	if setting > CompAutoZero && radix > MinRadix {
		blk = compressData(p, radix, setting, int(comp>>4))
	}
	switch {
	case blk != nil && plain != nil:
		plain.Release()
	case blk == nil && plain != nil:
		blk = plain
		blk.Comp = CompNone
	case blk == nil:
		blk = newBlock(radix)
		blk.Comp = CompNone
		copy(blk.Bytes, p)
	}
	blk.Check = method
	blk.Code = checkCode(method, blk.Bytes)
	return blk, false, nil
}

// compressData returns the compressed form of p, 1<<radix bytes, or nil if it
// would not save half.
func compressData(p []byte, radix uint8, method CompMethod, level int) *EncodedBlock {
	half := len(p) / 2
	blk := newBlock(radix - 1)
	n := 0
	if method == CompLZ4 {
		n = compressLZ4(blk.Bytes, p, half-4)
	} else {
		n = compressZlib(blk.Bytes, p, half, level)
	}
	if n == 0 {
		blk.Release()
		return nil
	}
	if r := DataRadix(n); r < blk.Radix {
		small := newBlock(r)
		copy(small.Bytes, blk.Bytes[:n])
		blk.Release()
		blk = small
	}
	clear(blk.Bytes[n:])
	blk.Comp = method
	return blk
}

// scratchPool holds buffers for decoding into less than a logical block.
var scratchPool = sync.Pool{New: func() any { return new([LogicalBlock]byte) }}

// DecodeData decodes the stored bytes of the DATA block that ref points at,
// already verified, into dst, and returns how many bytes the block holds; the
// rest of dst is zeroed. dst is usually 65536 bytes; a shorter one gets the
// beginning, and n is at most its length. Errors are ErrCorrupt.
func DecodeData(ref *Blockref, stored []byte, dst []byte) (n int, err error) {
	if len(stored) != ref.Size() || len(stored) > MaxBlock || len(dst) > LogicalBlock {
		return 0, corruptf("%v: decoding %d bytes to %d", ref, len(stored), len(dst))
	}
	comp := ref.CompMethod()
	switch {
	case comp == CompNone:
		n = copy(dst, stored)
	case comp != CompLZ4 && comp != CompZlib:
		return 0, corruptf("%v: no block is stored with compression %d", ref, comp)
	case len(dst) == LogicalBlock:
		n, err = expand(comp, dst, stored)
	default:
		whole := scratchPool.Get().(*[LogicalBlock]byte)
		n, err = expand(comp, whole[:], stored)
		n = copy(dst, whole[:n])
		scratchPool.Put(whole)
	}
	if err != nil {
		return 0, corruptf("%v: %v", ref, err)
	}
	clear(dst[n:])
	return n, nil
}

// expand undoes the compression of stored, which is never AUTOZERO or none.
func expand(comp CompMethod, dst, stored []byte) (int, error) {
	if comp == CompLZ4 {
		return expandLZ4(dst, stored)
	}
	return expandZlib(dst, stored)
}
