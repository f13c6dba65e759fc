package ondisk

import (
	"encoding/binary"
	"math/bits"
)

// States of a chunk in the freemap. State 1 is not in use.
const (
	ChunkFree      uint8 = 0
	ChunkStaged    uint8 = 2 // unreachable at the last bulkfree, not yet free
	ChunkAllocated uint8 = 3 // wholly or partly
)

// ChunksPerSegment is the number of chunks one entry describes.
const ChunksPerSegment = SegmentSize / ChunkSize

// Offsets in a freemap entry on media.
const (
	fmeLinear  = 0x00
	fmeClass   = 0x04
	fmeRest1   = 0x06
	fmeAvail   = 0x1C
	fmeRest2   = 0x20
	fmeBitmap  = 0x40
	entrySize  = 128
	bitmapLen  = 8
	wordChunks = 32 // chunks in one word of the bitmap
)

// Compile error unless the last field ends exactly at entrySize.
var _ = [1]struct{}{}[fmeBitmap+bitmapLen*8-entrySize]

// A FreemapEntry describes one 4 MiB segment.
type FreemapEntry struct {
	Linear   int32             // offset in the segment of room inside a used chunk, unless a multiple of 16 KiB
	Class    uint16            // 0 = any; else what small blocks it holds: type<<8 | 16
	Avail    uint32            // free bytes: ChunkSize * number of free chunks
	Bitmap   [bitmapLen]uint64 // two bits a chunk, lowest first
	Reserved [54]byte          // bytes without a meaning, kept
}

// State is the state of chunk n in [0, 256).
func (e *FreemapEntry) State(n int) uint8 {
	return uint8(e.Bitmap[n/wordChunks] >> (2 * uint(n%wordChunks)) & 3)
}

// SetState changes the state of chunk n in [0, 256); Avail is the caller's.
func (e *FreemapEntry) SetState(n int, s uint8) {
	w, shift := n/wordChunks, 2*uint(n%wordChunks)
	e.Bitmap[w] = e.Bitmap[w]&^(3<<shift) | uint64(s&3)<<shift
}

// FreeChunks counts the chunks in state ChunkFree.
func (e *FreemapEntry) FreeChunks() int {
	const low = 0x5555555555555555 // the lower bit of each chunk's two
	used := 0
	for _, w := range e.Bitmap {
		used += bits.OnesCount64((w | w>>1) & low)
	}
	return ChunksPerSegment - used
}

// Validate checks ranges. Whether Avail is the exact sum is for a checker to
// say: a wrong sum can be put right, and must not make a volume unreadable.
func (e *FreemapEntry) Validate() error {
	switch {
	case e.Linear < 0 || e.Linear > SegmentSize:
		return corruptf("linear %#x outside the segment", e.Linear)
	case e.Avail > SegmentSize || e.Avail%ChunkSize != 0:
		return corruptf("avail %#x is no number of chunks", e.Avail)
	}
	for _, w := range e.Bitmap {
		if const01 := uint64(0x5555555555555555); w&const01&^(w>>1) != 0 {
			return corruptf("chunk in state 1")
		}
	}
	return nil
}

func (e *FreemapEntry) get(b []byte) {
	le := binary.LittleEndian
	e.Linear = int32(le.Uint32(b[fmeLinear:]))
	e.Class = le.Uint16(b[fmeClass:])
	e.Avail = le.Uint32(b[fmeAvail:])
	n := copy(e.Reserved[:], b[fmeRest1:fmeAvail])
	copy(e.Reserved[n:], b[fmeRest2:fmeBitmap])
	for i := range e.Bitmap {
		e.Bitmap[i] = le.Uint64(b[fmeBitmap+8*i:])
	}
}

func (e *FreemapEntry) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[fmeLinear:], uint32(e.Linear))
	le.PutUint16(b[fmeClass:], e.Class)
	le.PutUint32(b[fmeAvail:], e.Avail)
	n := copy(b[fmeRest1:fmeAvail], e.Reserved[:])
	copy(b[fmeRest2:fmeBitmap], e.Reserved[n:])
	for i, w := range e.Bitmap {
		le.PutUint64(b[fmeBitmap+8*i:], w)
	}
}

// DecodeFreemapLeaf reads the 32 KiB of a leaf. Errors are ErrCorrupt and
// name the entry.
func DecodeFreemapLeaf(b []byte) (*[FreemapRefs]FreemapEntry, error) {
	if len(b) != FreemapBlockSize {
		return nil, corruptf("freemap leaf of %d bytes, want %d", len(b), FreemapBlockSize)
	}
	leaf := new([FreemapRefs]FreemapEntry)
	for i := range leaf {
		leaf[i].get(b[i*entrySize:])
		if err := leaf[i].Validate(); err != nil {
			return nil, corruptf("freemap entry %d: %v", i, err)
		}
	}
	return leaf, nil
}

// EncodeFreemapLeaf writes leaf to the 32 KiB of b. It panics on an entry
// that Validate rejects.
func EncodeFreemapLeaf(b []byte, leaf *[FreemapRefs]FreemapEntry) {
	_ = b[FreemapBlockSize-1]
	for i := range leaf {
		mustBeValid("freemap entry", leaf[i].Validate())
		leaf[i].put(b[i*entrySize:])
	}
}
