package chain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// FuzzLogRecord decodes records of any bytes under right codes: they are refused
// as damage, or encode to themselves again.
func FuzzLogRecord(f *testing.F) {
	m := newMaker(f, 1)
	for n := range 4 {
		b := m.batch(ondisk.MakeTid(1, uint32(2+n)), 12)
		x := &LogTxg{Fsid: ondisk.UUID{1}, Prev: LogPos{T: b.T - 1}, Pos: LogPos{T: b.T, H: [16]byte{9}}, Batch: b}
		if n%2 == 0 {
			x.Entry = &ondisk.StateEntry{Fsid: x.Fsid, T: b.T, H: x.Pos.H}
		}
		buf := make([]byte, recordSize(b))
		encodeRecord(buf, x, 7, 3)
		f.Add(buf)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		buf := make([]byte, min(max((len(in)+pageLen-1)&^(pageLen-1), pageLen), 1<<20))
		copy(buf, in)
		le := binary.LittleEndian
		copy(buf, recMagic)
		le.PutUint64(buf[recSize:], uint64(len(buf)))
		le.PutUint64(buf[recCheck:], 0)
		le.PutUint64(buf[recCheck:], ondisk.XXH64(buf))
		x, ok, err := decodeRecord(buf)
		switch {
		case !ok:
			t.Fatal("a right code was refused")
		case err != nil:
			if !errors.Is(err, ondisk.ErrCorrupt) && !errors.Is(err, ErrBadBatch) {
				t.Fatal(err)
			}
			return
		}
		again := make([]byte, recordSize(x.Batch))
		encodeRecord(again, x, le.Uint64(buf[recSeed:]), le.Uint64(buf[recNumber:]))
		y, ok, err := decodeRecord(again)
		if !ok || err != nil || !bytes.Equal(appendBatch(nil, x.Batch), appendBatch(nil, y.Batch)) {
			t.Fatalf("encoded again it is another: %v", err)
		}
	})
}
