package fsck

import (
	"encoding/binary"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

const chunksPerZone = ondisk.ZoneSize / ondisk.ChunkSize

// A reachMap has a bit for each chunk that the tree reaches, 8 KiB a zone.
type reachMap struct {
	mu    sync.Mutex // guards zones
	zones map[uint64]*[chunksPerZone / 64]uint64
}

// mark sets the chunks of a block.
func (m *reachMap) mark(off uint64, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at := off &^ (ondisk.ChunkSize - 1); at < off+uint64(size); at += ondisk.ChunkSize {
		z := m.zones[at/ondisk.ZoneSize]
		if z == nil {
			if m.zones == nil {
				m.zones = make(map[uint64]*[chunksPerZone / 64]uint64)
			}
			z = new([chunksPerZone / 64]uint64)
			m.zones[at/ondisk.ZoneSize] = z
		}
		n := at % ondisk.ZoneSize / ondisk.ChunkSize
		z[n/64] |= 1 << (n % 64)
	}
}

// zone returns the bits of a zone; all zero if nothing is reached there.
func (m *reachMap) zone(n uint64) *[chunksPerZone / 64]uint64 {
	if z := m.zones[n]; z != nil {
		return z
	}
	return new([chunksPerZone / 64]uint64)
}

const (
	seenShards = 64
	// seenMax bounds the entries of a shard, and so all of them to 128 MiB.
	// What does not fit any more is checked again when it is met again.
	seenMax = 1 << 17
)

// A seenSet remembers which blocks were judged, by a hash of what refers to
// them: the same address with another check code is another block.
type seenSet struct {
	shards [seenShards]seenShard
}

type seenShard struct {
	mu    sync.Mutex
	slots []uint64 // open addressing, 0 = free; the length is a power of two
	used  int
}

// add reports whether the block of r was there before, and adds it.
func (s *seenSet) add(r *ondisk.Blockref) (seen bool) {
	var b [56]byte
	binary.LittleEndian.PutUint64(b[0:], r.DataOff)
	binary.LittleEndian.PutUint64(b[8:], r.Key)
	b[16], b[17], b[18] = byte(r.Type), r.Methods, r.KeyBits
	copy(b[24:], r.Check[:24])
	if r.Type == ondisk.TypeInode || r.Type == ondisk.TypeIndirect {
		// The counts and tids in the reference are judged with the block.
		binary.LittleEndian.PutUint64(b[48:], uint64(r.MirrorTid)^uint64(r.LeafCount)<<48)
	}
	h := ondisk.XXH64(b[:]) | 1
	sh := &s.shards[h>>58]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i, found := sh.find(h)
	switch {
	case found:
		return true
	case sh.used*2 < len(sh.slots):
	case len(sh.slots) >= 2*seenMax:
		return false
	default:
		sh.grow()
		i, _ = sh.find(h)
	}
	sh.slots[i] = h
	sh.used++
	return false
}

// find returns the place of h, or the free one that it would get.
func (sh *seenShard) find(h uint64) (i uint64, found bool) {
	mask := uint64(len(sh.slots) - 1)
	if len(sh.slots) == 0 {
		return 0, false
	}
	for i = h >> 8 & mask; sh.slots[i] != 0; i = (i + 1) & mask {
		if sh.slots[i] == h {
			return i, true
		}
	}
	return i, false
}

func (sh *seenShard) grow() {
	old := sh.slots
	sh.slots = make([]uint64, max(256, 2*len(old)))
	for _, h := range old {
		if h != 0 {
			i, _ := sh.find(h)
			sh.slots[i] = h
		}
	}
}
