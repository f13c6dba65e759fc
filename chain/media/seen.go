package media

import "github.com/anvilfs/anvilfs/ondisk"

// A Seen remembers blocks by place, type and size: what is met again need not
// be entered again, and must not be where references go round in circles. Two
// blocks of another size or type at one place are not the same: they have
// other elements. It takes a bit for each KiB of the segments that blocks lie
// in. It is not safe for concurrent use.
type Seen struct {
	maps map[seenKey]*[ondisk.SegmentSize / ondisk.MinBlock / 64]uint64
}

type seenKey struct {
	segment uint64
	typ     ondisk.BlockType
	radix   uint8
}

// Has reports whether the block of ref was added.
func (s *Seen) Has(ref *ondisk.Blockref) bool {
	key, word, mask := s.place(ref)
	m := s.maps[key]
	return m != nil && m[word]&mask != 0
}

// Add adds the block of ref, and reports whether that is new.
func (s *Seen) Add(ref *ondisk.Blockref) bool {
	key, word, mask := s.place(ref)
	m := s.maps[key]
	if m == nil {
		if s.maps == nil {
			s.maps = make(map[seenKey]*[ondisk.SegmentSize / ondisk.MinBlock / 64]uint64)
		}
		m = new([ondisk.SegmentSize / ondisk.MinBlock / 64]uint64)
		s.maps[key] = m
	}
	old := m[word]
	m[word] |= mask
	return old&mask == 0
}

func (s *Seen) place(ref *ondisk.Blockref) (key seenKey, word, mask uint64) {
	off := ref.Off()
	bit := off % ondisk.SegmentSize / ondisk.MinBlock
	return seenKey{off / ondisk.SegmentSize, ref.Type, ref.Radix()}, bit / 64, 1 << (bit % 64)
}
