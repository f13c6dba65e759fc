package hostile

import (
	"encoding/binary"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Offsets in a header, as in package ondisk.
const (
	volBootBeg   = 0x0008
	volSize      = 0x0028
	volVersion   = 0x0030
	volID        = 0x003B
	volCount     = 0x003C
	volFsid      = 0x0040
	volAllocSize = 0x0060
	volAllocFree = 0x0068
	volAllocBeg  = 0x0070
	volMirror    = 0x0078
	volFreemapT  = 0x0090
	volTotal     = 0x00C0
	volLoff      = 0x0E00
	markTid      = markAt + 0x08
	markSince    = markAt + 0x20
	lenState     = 128
)

// oneOf changes one of the numbers at these places of the header.
func (im *Image) oneOf(places ...int) string {
	h := im.content(header)
	at := places[im.rnd.IntN(len(places))]
	v := im.number()
	switch im.rnd.IntN(3) {
	case 0:
		v = get64(h[at:]) + ondisk.VolumeAlign*uint64(im.rnd.IntN(3)-1)
	case 1:
		v &^= ondisk.VolumeAlign - 1
	}
	return fmt.Sprintf("%#x at %#x", put64(h[at:], v), at)
}

func headerSizes(im *Image) string {
	what := im.oneOf(volSize, volTotal, volSize, volTotal, volBootBeg, volBootBeg+8, volBootBeg+16, volBootBeg+24)
	if h := im.content(header); im.rnd.IntN(2) == 0 {
		put64(h[volTotal:], get64(h[volSize:])) // so that they agree
	}
	return what
}

func headerAllocator(im *Image) string { return im.oneOf(volAllocSize, volAllocFree, volAllocBeg) }

func headerTids(im *Image) string {
	h := im.content(header)
	at := []int{volMirror, volMirror, volFreemapT, markSince}[im.rnd.IntN(4)]
	v := im.number()
	put64(h[at:], v)
	if at == volMirror && im.rnd.IntN(2) == 0 {
		put64(h[markTid:], v)
	}
	return fmt.Sprintf("%#x at %#x", v, at)
}

func headerSet(im *Image) string {
	h := im.content(header)
	switch im.rnd.IntN(5) {
	case 0:
		binary.LittleEndian.PutUint32(h[volVersion:], uint32(im.rnd.IntN(4)))
	case 1:
		h[volID] = byte(im.rnd.IntN(66))
	case 2:
		h[volCount] = byte(im.rnd.IntN(66))
	case 3:
		put64(h[volLoff+8*im.rnd.IntN(3):], im.number())
	default:
		im.scribble(h[volFsid : volFsid+32])
	}
	return "volumes"
}

func headerSroot(im *Image) string {
	h := im.content(header)
	i := im.rnd.IntN(4)
	im.scribble(h[srootAt+i*ondisk.BlockrefSize:][:ondisk.BlockrefSize])
	if im.rnd.IntN(2) == 0 {
		im.aimed[im.p.blocks[header].kids[0]] = true
	}
	return fmt.Sprintf("element %d", i)
}

// headerStates makes cluster states absurd, or makes some up.
func headerStates(im *Image) string {
	h := im.content(header)
	n := im.rnd.IntN(ondisk.MaxStates)
	if im.rnd.IntN(3) > 0 {
		n = 0
	}
	e := h[statesAt+n*lenState:][:lenState]
	at := []int{0x00, 0x10, 0x10, 0x14, 0x18, 0x20, 0x28, 0x38, 0x40, 0x48, 0x50, 0x60}[im.rnd.IntN(12)]
	if at == 0x10 || at == 0x14 || at == 0x38 {
		binary.LittleEndian.PutUint32(e[at:], uint32(im.number()))
	} else {
		put64(e[at:], im.number())
	}
	return fmt.Sprintf("entry %d at %#x", n, at)
}

func headerMark(im *Image) string {
	h := im.content(header)
	im.scribble(h[markAt : markAt+0x40]) // where the intent log goes on is in it
	return "mark"
}

func scribbleHeader(im *Image) string {
	h := im.content(header)
	for range 1 + im.rnd.IntN(3) {
		im.scribble(h[[]int{0, 0x200, 0x800, 0xE00, 0x9000}[im.rnd.IntN(5)]:][:0x100])
	}
	return "bytes"
}

// flips turns bits of any blocks.
func flips(im *Image) string {
	what := ""
	for range 1 + im.rnd.IntN(6) {
		n := im.rnd.IntN(len(im.p.blocks))
		raw := im.content(n)
		raw[im.rnd.IntN(min(len(raw), 4096))] ^= 1 << im.rnd.IntN(8)
		what += fmt.Sprintf("%#x ", im.p.blocks[n].ref.Off())
	}
	return what
}
