package chain

import (
	"encoding/binary"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A record of the intent log begins on a page. All integers are little-endian.
const (
	recMagicOff = 0x00 // 8: recMagic
	recSeed     = 0x08 // 8: LogSeed of the header it follows
	recNumber   = 0x10 // 8: of the record since that header, from 0
	recSize     = 0x18 // 8: bytes of the record, whole pages
	recFsid     = 0x20 // 16: the PFS
	recPrevT    = 0x30 // 8: position of the PFS before
	recPrevH    = 0x38 // 16
	recT        = 0x48 // 8: and after
	recH        = 0x50 // 16
	recBody     = 0x60 // 8: bytes of the batch
	recFlags    = 0x68 // 4: 1 = recEntry is in use
	recZero     = 0x6C // 4
	recEntry    = 0x70 // 128: state entry after
	recPad      = 0xF0 // 8: zero
	recCheck    = 0xF8 // 8: XXH64 of the record with this field zero
	recHead     = 0x100

	recMagic = "ANVLOG01"

	// maxRecord is more than any batch that is logged.
	maxRecord = 4 << 20
)

// A LogPos is a position of a PFS: the last txg, and the hash of the history.
type LogPos struct {
	T ondisk.Tid
	H [16]byte
}

// A LogTxg is a txg as the intent log keeps it.
type LogTxg struct {
	Label     string // of the PFS; not on media
	Fsid      ondisk.UUID
	Prev, Pos LogPos
	Entry     *ondisk.StateEntry // of the PFS, after the txg; nil: it is not clustered
	Batch     *Batch             // immutable
}

// recordSize is how many bytes a record of that batch takes on media.
func recordSize(b *Batch) int {
	return (recHead + b.encodedSize() + pageLen - 1) &^ (pageLen - 1)
}

// encodeRecord makes the bytes of a record in buf, which has the right size.
func encodeRecord(buf []byte, x *LogTxg, seed, number uint64) {
	le := binary.LittleEndian
	clear(buf[:recHead])
	copy(buf[recMagicOff:], recMagic)
	le.PutUint64(buf[recSeed:], seed)
	le.PutUint64(buf[recNumber:], number)
	le.PutUint64(buf[recSize:], uint64(len(buf)))
	copy(buf[recFsid:], x.Fsid[:])
	le.PutUint64(buf[recPrevT:], uint64(x.Prev.T))
	copy(buf[recPrevH:], x.Prev.H[:])
	le.PutUint64(buf[recT:], uint64(x.Pos.T))
	copy(buf[recH:], x.Pos.H[:])
	if x.Entry != nil {
		le.PutUint32(buf[recFlags:], 1)
		x.Entry.Encode(buf[recEntry:])
	}
	body := appendBatch(buf[recHead:recHead], x.Batch)
	le.PutUint64(buf[recBody:], uint64(len(body)))
	clear(buf[recHead+len(body):])
	le.PutUint64(buf[recCheck:], ondisk.XXH64(buf))
}

// recordLen is the size that the first page of a record states; 0: it is none
// of that seed and number.
func recordLen(page []byte, seed, number uint64) int {
	le := binary.LittleEndian
	size := le.Uint64(page[recSize:])
	if string(page[:len(recMagic)]) != recMagic || le.Uint64(page[recSeed:]) != seed ||
		le.Uint64(page[recNumber:]) != number || size < pageLen || size > maxRecord || size%pageLen != 0 {
		return 0
	}
	return int(size)
}

// decodeRecord reads a record whose first page recordLen accepted. ok is false
// if the check code does not fit: it was never written to its end. An error
// says that it was, and what is wrong with it; it is ErrCorrupt or ErrBadBatch.
func decodeRecord(buf []byte) (x *LogTxg, ok bool, err error) {
	le := binary.LittleEndian
	if len(buf) < pageLen || string(buf[:len(recMagic)]) != recMagic {
		return nil, false, nil
	}
	want := le.Uint64(buf[recCheck:])
	le.PutUint64(buf[recCheck:], 0)
	got := ondisk.XXH64(buf)
	le.PutUint64(buf[recCheck:], want)
	if got != want {
		return nil, false, nil
	}
	x = &LogTxg{
		Fsid: ondisk.UUID(buf[recFsid:]),
		Prev: LogPos{ondisk.Tid(le.Uint64(buf[recPrevT:])), [16]byte(buf[recPrevH:])},
		Pos:  LogPos{ondisk.Tid(le.Uint64(buf[recT:])), [16]byte(buf[recH:])},
	}
	body, flags := le.Uint64(buf[recBody:]), le.Uint32(buf[recFlags:])
	switch {
	case le.Uint64(buf[recSize:]) != uint64(len(buf)) || body > uint64(len(buf)-recHead) || flags > 1:
		return nil, true, damaged("log record of %d bytes: body of %d, flags %#x", len(buf), body, flags)
	case x.Pos.T <= x.Prev.T:
		return nil, true, damaged("log record: txg %v follows %v", x.Pos.T, x.Prev.T)
	}
	if flags == 1 {
		e := ondisk.DecodeStateEntry(buf[recEntry:])
		if e.Fsid != x.Fsid || e.T != x.Pos.T || e.H != x.Pos.H {
			return nil, true, damaged("log record: state entry at %v, record at %v", e.T, x.Pos.T)
		}
		x.Entry = &e
	}
	if x.Batch, err = decodeBatch(buf[recHead : recHead+body]); err != nil {
		return nil, true, err
	}
	if x.Batch.T != x.Pos.T {
		return nil, true, damaged("log record: batch of %v, record at %v", x.Batch.T, x.Pos.T)
	}
	return x, true, nil
}
