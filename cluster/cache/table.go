package cache

import (
	"encoding/binary"
	"errors"

	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	segmentSize = 1 << 20
	tableSize   = 8 << 10
	placeUnit   = 512 // blocks lie at multiples of it

	// The head of a table; numbers are little-endian.
	offMagic   = 0
	offCode    = 8 // XXH64 of what follows, up to the last slot
	offSalt    = 16
	offGen     = 32 // u64, rises with each segment that is begun
	offQueue   = 40 // u8
	offCount   = 44 // u32
	headSize   = 48
	slotSize   = 16 // key u64, place u32, length u32
	maxSlots   = (tableSize - headSize) / slotSize
	tableMagic = 0x31656863616c766e
)

// A queue is where a segment stands.
type queue uint8

// The queues.
const (
	small queue = iota
	main
	queues
)

// A slot is one block of a segment.
type slot struct {
	key uint64
	off uint32 // bytes from the begin of the segment
	n   uint32 // bytes
}

// A table says what is in a segment.
type table struct {
	gen   uint64
	queue queue
	slots []slot
}

// encode writes the table to b, of tableSize bytes.
func (t *table) encode(b []byte, salt ondisk.UUID) {
	le := binary.LittleEndian
	clear(b[:headSize])
	le.PutUint64(b[offMagic:], tableMagic)
	copy(b[offSalt:], salt[:])
	le.PutUint64(b[offGen:], t.gen)
	b[offQueue] = uint8(t.queue)
	le.PutUint32(b[offCount:], uint32(len(t.slots)))
	end := headSize
	for _, s := range t.slots {
		le.PutUint64(b[end:], s.key)
		le.PutUint32(b[end+8:], s.off)
		le.PutUint32(b[end+12:], s.n)
		end += slotSize
	}
	le.PutUint64(b[offCode:], ondisk.XXH64(b[offSalt:end]))
}

var errNoTable = errors.New("no table of this cache")

// decodeTable reads what encode wrote. Anything else is errNoTable.
func decodeTable(b []byte, salt ondisk.UUID) (t table, err error) {
	le := binary.LittleEndian
	if len(b) < tableSize || le.Uint64(b[offMagic:]) != tableMagic || ondisk.UUID(b[offSalt:]) != salt {
		return t, errNoTable
	}
	count := le.Uint32(b[offCount:])
	if count > maxSlots || queue(b[offQueue]) >= queues {
		return t, errNoTable
	}
	end := headSize + int(count)*slotSize
	if le.Uint64(b[offCode:]) != ondisk.XXH64(b[offSalt:end]) {
		return t, errNoTable
	}
	t.gen, t.queue, t.slots = le.Uint64(b[offGen:]), queue(b[offQueue]), make([]slot, count)
	for i := range t.slots {
		p := b[headSize+i*slotSize:]
		s := slot{le.Uint64(p), le.Uint32(p[8:]), le.Uint32(p[12:])}
		if s.off < tableSize || s.off%placeUnit != 0 || s.n == 0 || s.n > ondisk.LogicalBlock || s.off > segmentSize-s.n {
			return table{}, errNoTable
		}
		t.slots[i] = s
	}
	return t, nil
}
