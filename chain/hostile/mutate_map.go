package hostile

import (
	"encoding/binary"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Offsets in a freemap entry, and its size.
const (
	fmeLinear = 0x00
	fmeClass  = 0x04
	fmeAvail  = 0x1C
	fmeBitmap = 0x40
	fmeSize   = 128
)

// leafEntry is the freemap's entry of the segment at a logical address, nil
// if there is no leaf.
func (im *Image) leafEntry(off uint64) []byte {
	for i := range im.p.sites {
		s := &im.p.sites[i]
		if s.ref.Type == ondisk.TypeFreemapLeaf && off >= s.ref.Key && off <= s.ref.LastKey() {
			return im.content(s.to)[off%ondisk.ZoneSize/ondisk.SegmentSize*fmeSize:][:fmeSize]
		}
	}
	return nil
}

// setChunks marks [off, off+n) in the freemap, sums included.
func (im *Image) setChunks(off, n uint64, state uint8) bool {
	for at := off &^ (ondisk.ChunkSize - 1); at < off+n; at += ondisk.ChunkSize {
		e := im.leafEntry(at)
		if e == nil {
			return false
		}
		c := at % ondisk.SegmentSize / ondisk.ChunkSize
		word := e[fmeBitmap+c/32*8:]
		was := get64(word) >> (2 * (c % 32)) & 3
		put64(word, get64(word)&^(3<<(2*(c%32)))|uint64(state)<<(2*(c%32)))
		avail := binary.LittleEndian.Uint32(e[fmeAvail:])
		switch {
		case was == 0 && state != 0:
			avail -= ondisk.ChunkSize
		case was != 0 && state == 0:
			avail += ondisk.ChunkSize
		}
		binary.LittleEndian.PutUint32(e[fmeAvail:], avail)
	}
	return true
}

// mapSaysFree calls blocks free that are in use.
func mapSaysFree(im *Image) string {
	done := ""
	for range 1 + im.rnd.IntN(8) {
		s := im.pick(func(s *site) bool { return s.to >= 0 && s.ref.Type < ondisk.TypeFreemapNode })
		if s < 0 {
			break
		}
		r := &im.p.sites[s].ref
		if im.setChunks(r.Off(), uint64(r.Size()), uint8(im.rnd.IntN(2)*2)) {
			done += fmt.Sprintf("%#x ", r.Off())
		}
	}
	return done
}

// mapSaysFull calls everything allocated.
func mapSaysFull(im *Image) string {
	done := ""
	for i := range im.p.sites {
		if s := &im.p.sites[i]; s.ref.Type == ondisk.TypeFreemapLeaf {
			raw := im.content(s.to)
			for e := 0; e < len(raw); e += fmeSize {
				for b := fmeBitmap; b < fmeSize; b++ {
					raw[e+b] = 0xFF
				}
				binary.LittleEndian.PutUint32(raw[e+fmeAvail:], 0)
			}
			done += fmt.Sprintf("%#x ", s.ref.Key)
		}
	}
	return done
}

func (im *Image) pickLeaf() (s int, raw []byte) {
	s = im.pick(func(s *site) bool { return s.ref.Type == ondisk.TypeFreemapLeaf })
	if s < 0 {
		return -1, nil
	}
	return s, im.content(im.p.sites[s].to)
}

func mapSums(im *Image) string {
	s, raw := im.pickLeaf()
	if s < 0 {
		return ""
	}
	for range 1 + im.rnd.IntN(6) {
		e := raw[im.rnd.IntN(ondisk.FreemapRefs)*fmeSize:]
		switch im.rnd.IntN(3) {
		case 0:
			binary.LittleEndian.PutUint32(e[fmeAvail:], uint32(im.rnd.IntN(257))*ondisk.ChunkSize)
		case 1:
			binary.LittleEndian.PutUint32(e[fmeLinear:], uint32(im.number()))
		default:
			binary.LittleEndian.PutUint16(e[fmeClass:], uint16(im.number()))
		}
	}
	return im.where(s)
}

func scribbleMap(im *Image) string {
	s, raw := im.pickLeaf()
	if s < 0 {
		return ""
	}
	for range 1 + im.rnd.IntN(8) {
		im.scribble(raw[im.rnd.IntN(ondisk.FreemapRefs)*fmeSize:][:fmeSize])
	}
	return im.where(s)
}

// changeMapRef turns to the blockrefs of the freemap.
func changeMapRef(im *Image) string {
	s := im.pick(func(s *site) bool {
		return s.ref.Type == ondisk.TypeFreemapLeaf || s.ref.Type == ondisk.TypeFreemapNode
	})
	if s < 0 {
		return ""
	}
	raw := im.element(s)
	switch im.rnd.IntN(6) {
	case 0: // a node that is its own leaf's block, or the other way round
		raw[refType] ^= byte(ondisk.TypeFreemapNode ^ ondisk.TypeFreemapLeaf)
		raw[refKeyBits] = []byte{30, 38, 46, 54, 62}[im.rnd.IntN(5)]
	case 1:
		put64(raw[refKey:], uint64(im.rnd.IntN(1<<12))*ondisk.ZoneSize)
	case 2:
		put64(raw[refDataOff:], uint64(im.rnd.IntN(1<<16))<<15|ondisk.FreemapBlockRadix)
		im.aimed[s] = true
	case 3:
		raw[refMethods] = byte(im.rnd.IntN(8)) << 4
		im.aimed[s] = true
	case 4:
		clear(raw) // the leaf is gone
	default:
		im.scribble(raw)
	}
	return im.where(s)
}
