package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Before a volume is opened the world looks at its headers and freemap itself,
// by what the format says of their codes and by none of the product's code. Then
// the volume must open at the newest header that is whole, or not at all; a
// member with a damaged slot that no crash leaves has no vote; and nothing is
// written where the freemap that was read cannot be trusted.

// Where a header and a blockref have what is looked at.
const (
	headTid, headFreemap = 0x78, 0x800
	headLog              = 0x9030 // where the intent log goes on, and its seed
	refOff, refCheck     = 0x20, 0x40
	lastBlock            = 63 * ondisk.MaxBlock // the copy of a single header
)

// headCodes are the ranges of a header that have codes, and where these are.
var headCodes = [...]struct{ beg, end, at int }{
	{0x200, 0x400, 0x1f8}, {0, 0x1fc, 0x1fc}, {0, 0xfffc, 0xfffc},
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func codeOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// A sight is what the world sees on a disk.
type sight struct {
	single bool       // there is one slot
	tid    ondisk.Tid // of the newest whole one; 0: there is none
	marred int        // slots that a crash cannot have left as they are
	lost   []span     // where blocks are of which no readable freemap tells
	logged bool       // the intent log has a txg that the newest header does not

	freemap []int64 // the places of its blocks
}

// A span is the addresses [beg, end).
type span struct{ beg, end int64 }

func (s span) holds(off int64) bool { return off >= s.beg && off < s.end }

// lookAt reads headers and freemap.
func (p *platter) lookAt() sight { return p.lookUpTo(^ondisk.Tid(0)) }

// lookUpTo is lookAt of who does not see the headers above that tid.
func (p *platter) lookUpTo(tid ondisk.Tid) sight {
	offs := ondisk.SlotOffsets(uint64(p.cache.Size()))
	h := sight{single: len(offs) == 1}
	slots := make([][]byte, len(offs))
	cur := -1
	for i, off := range offs {
		slots[i] = p.look(off, ondisk.HeaderSize)
		if wholeHead(slots[i]) && tidOf(slots[i]) <= tid && (cur < 0 || tidOf(slots[i]) > tidOf(slots[cur])) {
			cur = i
		}
	}
	if cur < 0 {
		if b := p.look(lastBlock, ondisk.HeaderSize); h.single && wholeHead(b) {
			h.tid, h.logged = tidOf(b), p.logs(b)
		}
		return h
	}
	h.tid = tidOf(slots[cur])
	for i, b := range slots {
		due := i == (cur+1)%len(slots)
		if b == nil || !wholeHead(b) && !due && len(bytes.Trim(b, "\x00")) > 0 {
			h.marred++
		}
	}
	p.lookAtFreemap(&h, slots[cur][headFreemap:][:ondisk.InodeRefs*ondisk.BlockrefSize])
	h.logged = p.logs(slots[cur])
	return h
}

// logs reports whether the intent log behind a header begins with a whole record.
func (p *platter) logs(head []byte) bool {
	le := binary.LittleEndian
	seed := le.Uint64(head[headLog+8:])
	for _, off := range []int64{int64(le.Uint64(head[headLog:])), p.auxBeg} {
		b := p.look(off, 0x100)
		if seed == 0 || b == nil || string(b[:8]) != "ANVLOG01" || le.Uint64(b[8:]) != seed || le.Uint64(b[0x10:]) != 0 {
			continue
		}
		size := int64(le.Uint64(b[0x18:]))
		if size < 0x100 || off+size > p.auxEnd {
			continue
		}
		b = p.look(off, int(size))
		if b == nil {
			continue
		}
		code := le.Uint64(b[0xf8:])
		le.PutUint64(b[0xf8:], 0)
		if ondisk.XXH64(b) == code {
			return true
		}
	}
	return false
}

// look is a read that finds nothing where the disk gives nothing.
func (p *platter) look(off int64, n int) []byte {
	b := make([]byte, n)
	if _, err := p.cache.ReadAt(b, off); err != nil || p.unreadable(off, n) {
		return nil
	}
	return b
}

func tidOf(head []byte) ondisk.Tid { return ondisk.Tid(binary.LittleEndian.Uint64(head[headTid:])) }

func wholeHead(b []byte) bool {
	if len(b) < ondisk.HeaderSize || binary.LittleEndian.Uint64(b) != 0x48414d3205172011 {
		return false
	}
	for _, c := range headCodes {
		if codeOf(b[c.beg:c.end]) != binary.LittleEndian.Uint32(b[c.at:]) {
			return false
		}
	}
	return true
}

// lookAtFreemap reads what refs refer to.
func (p *platter) lookAtFreemap(h *sight, refs []byte) {
	for ; len(refs) >= ondisk.BlockrefSize; refs = refs[ondisk.BlockrefSize:] {
		typ := ondisk.BlockType(refs[0])
		if typ != ondisk.TypeFreemapNode && typ != ondisk.TypeFreemapLeaf {
			continue
		}
		at := binary.LittleEndian.Uint64(refs[refOff:])
		b := p.look(int64(at&^63), 1<<(at&63))
		h.freemap = append(h.freemap, int64(at&^63))
		switch {
		case b == nil || codeOf(b) != binary.LittleEndian.Uint32(refs[refCheck:]):
			key := int64(binary.LittleEndian.Uint64(refs[8:]))
			h.lost = append(h.lost, span{key, key + 1<<refs[3]})
		case typ == ondisk.TypeFreemapNode:
			p.lookAtFreemap(h, b)
		}
	}
}

// opensAt compares what an open made of the headers with what is there.
func (v *volume) opensAt(h sight, d core.Durable, err error) {
	n, w := v.n, v.n.w
	if len(h.lost) > 0 {
		w.stats.Blind++
	}
	if h.marred > 0 {
		w.stats.Marred++
	}
	if len(h.lost) > 0 || h.marred > 0 || h.tid == 0 {
		w.logf("%s: headers are at %v, %d bad ones; no freemap for %v", nodeName(n.id), h.tid, h.marred, h.lost)
	}
	if v.session == nil || err != nil {
		return // refused
	}
	at := v.media.Volume().Header().MirrorTid
	if v.session.fault == failRead {
		if at < h.tid { // it did not get to see the newest header, and goes by the freemap of its own
			v.session.lost = v.platter.lookUpTo(at).lost
		}
		return
	}
	switch {
	case at > h.tid && (h.logged || d.Flags != 0):
		// Opening brought the log into the tree, or gave it up, and the vote with it.
	case at != h.tid:
		w.fail("I10: %s opens at the header of %v, the newest whole one is of %v", nodeName(n.id), at, h.tid)
	case h.marred > 0 && d.Flags == 0:
		w.fail("I8: %s has %d damaged headers, and a vote", nodeName(n.id), h.marred)
	}
}

// trespasses notes a write where the freemap is not known.
func (s *session) trespasses(off int64) {
	for _, lost := range s.lost {
		if lost.holds(off) && s.trespass == nil {
			s.trespass = fmt.Errorf("a block at %#x, where the freemap was not readable", off)
		}
	}
}

// lawful checks where blocks were written: I14.
func (v *volume) lawful() {
	v.session.mu.Lock()
	err := v.session.trespass
	v.session.mu.Unlock()
	if err != nil {
		v.n.w.fail("I14: %s writes %v", v.session.name, err)
	}
}
