package ondisk

import "math"

// Times on media are microseconds. The nanoseconds beyond are in the word
// Nanos: 16 bits for each of mtime, ctime, atime, btime in this order. Bits
// 0..9 are 0..999 ns; bits 10..15 repeat the low 6 bits of the microseconds
// they belong to, so that a time changed by a writer who does not know the
// word reads as 0 ns instead of stale ones.
const (
	nanosMtime = 16 * iota
	nanosCtime
	nanosAtime
	nanosBtime
)

const microsPerSecond = 1000000

// MtimeNs is the time of the last change of content.
func (m *InodeMeta) MtimeNs() (sec int64, nsec uint32) { return m.timeNs(m.Mtime, nanosMtime) }

// CtimeNs is the time of the last change of content or attributes.
func (m *InodeMeta) CtimeNs() (sec int64, nsec uint32) { return m.timeNs(m.Ctime, nanosCtime) }

// BtimeNs is the time of creation; 0 where the maker of the inode left it out.
func (m *InodeMeta) BtimeNs() (sec int64, nsec uint32) { return m.timeNs(m.Btime, nanosBtime) }

// AtimeNs is the time of the last read; that of the last change of content
// if none is stored.
func (m *InodeMeta) AtimeNs() (sec int64, nsec uint32) {
	if m.Atime == 0 {
		return m.MtimeNs()
	}
	return m.timeNs(m.Atime, nanosAtime)
}

// SetMtime stores a time. Dates before 1970 become 1970, as for all of these:
// the format has none.
func (m *InodeMeta) SetMtime(sec int64, nsec uint32) { m.setTime(&m.Mtime, nanosMtime, sec, nsec) }

// SetCtime stores a time; see SetMtime.
func (m *InodeMeta) SetCtime(sec int64, nsec uint32) { m.setTime(&m.Ctime, nanosCtime, sec, nsec) }

// SetBtime stores a time; see SetMtime.
func (m *InodeMeta) SetBtime(sec int64, nsec uint32) { m.setTime(&m.Btime, nanosBtime, sec, nsec) }

// SetAtime stores a time; see SetMtime. The first microsecond of 1970 becomes
// the second, since 0 means "same as mtime".
func (m *InodeMeta) SetAtime(sec int64, nsec uint32) {
	m.setTime(&m.Atime, nanosAtime, sec, nsec)
	if m.Atime == 0 {
		m.setTime(&m.Atime, nanosAtime, 0, 1000)
	}
}

func (m *InodeMeta) timeNs(micros uint64, shift uint) (sec int64, nsec uint32) {
	sec, nsec = int64(micros/microsPerSecond), uint32(micros%microsPerSecond)*1000
	word := m.Nanos >> shift
	if extra := uint32(word & 0x3ff); extra < 1000 && word>>10&0x3f == micros&0x3f {
		nsec += extra
	}
	return sec, nsec
}

func (m *InodeMeta) setTime(field *uint64, shift uint, sec int64, nsec uint32) {
	if sec < 0 {
		sec, nsec = 0, 0
	}
	sec = min(sec, math.MaxInt64/microsPerSecond-1)
	micros := uint64(sec)*microsPerSecond + uint64(nsec/1000)
	word := uint64(nsec % 1000)
	if word != 0 {
		word |= micros & 0x3f << 10
	}
	*field = micros
	m.Nanos = m.Nanos&^(0xffff<<shift) | word<<shift
}
