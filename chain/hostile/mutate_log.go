package hostile

import (
	"encoding/binary"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Offsets in a record of the intent log, as in package chain, which keeps them
// to itself, and of what a header and a state entry say of it.
const (
	volAuxEnd = 0x0020
	markLog   = markAt + 0x30
	markSeed  = markAt + 0x38
	stateTid  = 0x20
	stateHash = 0x28

	recMagic  = 0x00
	recSeed   = 0x08
	recNumber = 0x10
	recSize   = 0x18
	recFsid   = 0x20
	recPrev   = 0x30
	recPos    = 0x48
	recBody   = 0x60
	recFlags  = 0x68
	recEntry  = 0x70
	recCheck  = 0xF8
	recHead   = 0x100

	recPage = 4096
)

// forgeLog puts a record into the intent log that nobody acknowledged: it
// continues the position of a clustered PFS, under the seed of the header.
func forgeLog(im *Image) string {
	above := im.above
	h := im.content(header)
	im.above = above
	e := h[statesAt:][:lenState]
	pfs := im.p.pfsOf(im, ondisk.UUID(e[:16]))
	if at := get64(h[markLog:]); !im.Ours || pfs < 0 || get64(h[markSeed:]) == 0 || at+16*recPage > get64(h[volAuxEnd:]) {
		return ""
	}
	im.harmed[pfs] = true
	T := get64(e[stateTid:]) + 1
	body := binary.LittleEndian.AppendUint64(nil, T)
	n := im.rnd.IntN(4)
	body = binary.LittleEndian.AppendUint32(body, uint32(n))
	for range n {
		body = im.appendChange(body, T)
	}
	what := fmt.Sprintf("txg %#x of %d changes", T, n)
	if im.rnd.IntN(3) == 0 {
		im.scribble(body)
		what += ", scribbled"
	}
	rec := make([]byte, (recHead+len(body)+recPage-1)/recPage*recPage)
	copy(rec[recMagic:], "ANVLOG01")
	put64(rec[recSeed:], get64(h[markSeed:]))
	put64(rec[recSize:], uint64(len(rec)))
	copy(rec[recFsid:], e[:16])
	copy(rec[recPrev:], e[stateTid:stateHash+16])
	put64(rec[recPos:], T)
	im.scribble(rec[recPos+8 : recPos+24])
	put64(rec[recBody:], uint64(len(body)))
	rec[recFlags] = 1
	copy(rec[recEntry:], e)
	copy(rec[recEntry+stateTid:], rec[recPos:recPos+24])
	copy(rec[recHead:], body)
	if im.rnd.IntN(3) == 0 {
		at := []int{recNumber, recSize, recFsid, recPrev, recPos, recBody, recFlags, recEntry, recEntry + 8*im.rnd.IntN(lenState/8)}[im.rnd.IntN(9)]
		put64(rec[at:], im.number())
		what += fmt.Sprintf(", another number at %#x", at)
	}
	put64(rec[recCheck:], ondisk.XXH64(rec))
	im.write(get64(h[markLog:]), rec)
	return what
}

// appendChange appends a change of a leaf that may or may not be there.
func (im *Image) appendChange(body []byte, T uint64) []byte {
	le := binary.LittleEndian
	ref := im.p.sites[im.rnd.IntN(len(im.p.sites))].ref
	inum := []uint64{1, 2, 3, ref.Key &^ ondisk.DirBit, im.number()}[im.rnd.IntN(5)]
	kind, gone := im.rnd.IntN(3), im.rnd.IntN(3)/2
	body = append(body, byte(kind), byte(gone))
	key := ref.Key
	if kind == 0 {
		key = inum
	}
	for _, v := range []uint64{inum, key, key + uint64(gone), T} {
		body = le.AppendUint64(body, v)
	}
	switch {
	case gone == 1:
	case kind == 0:
		raw := make([]byte, ondisk.InodeMetaSize)
		if n := im.pickType(ondisk.TypeInode); n >= 0 {
			im.read(im.p.sites[n].ref.Off(), raw)
		}
		put64(raw[inoInum:], inum)
		if im.rnd.IntN(2) == 0 {
			im.scribble(raw)
		}
		body = append(body, raw...)
		body = le.AppendUint16(body, 0)
	case kind == 1:
		body = le.AppendUint64(body, inum)
		body = append(body, byte(im.rnd.IntN(10)), 5)
		body = append(body, "names"...)
	default:
		block := make([]byte, 1<<ondisk.MinRadix)
		im.scribble(block)
		b := ondisk.Blockref{Type: ondisk.TypeData, Methods: byte(ondisk.CheckXXHash64) << 4}
		b.SetCheck(block)
		body = append(body, ondisk.MinRadix, byte(im.rnd.IntN(4)), byte(ondisk.CheckXXHash64))
		body = append(body, b.Check[:]...)
		body = append(body, block...)
	}
	return body
}

// pfsOf is the number of the PFS with that fsid, -1 if there is none.
func (p *Plan) pfsOf(im *Image, fsid ondisk.UUID) int {
	n := 0
	for i := range p.sites {
		ref := &p.sites[i].ref
		if ref.Type != ondisk.TypeInode || ref.Flags&ondisk.FlagPFSRoot == 0 {
			continue
		}
		raw := make([]byte, ondisk.InodeSize)
		im.read(ref.Off(), raw)
		if ondisk.UUID(raw[inoPFSFsid:][:16]) == fsid {
			return n
		}
		n++
	}
	return -1
}
