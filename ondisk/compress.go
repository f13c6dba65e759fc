package ondisk

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"
	"github.com/pierrec/lz4/v4"
)

// lz4Prefix is the length field before an LZ4 block.
const lz4Prefix = 4

var lz4Pool = sync.Pool{New: func() any { return new(lz4.Compressor) }}

// compressLZ4 writes prefix and LZ4 block of src to dst and returns their
// length; 0 if that is more than limit.
func compressLZ4(dst, src []byte, limit int) int {
	c := lz4Pool.Get().(*lz4.Compressor)
	n, err := c.CompressBlock(src, dst[lz4Prefix:limit])
	lz4Pool.Put(c)
	if err != nil || n == 0 { // both mean: does not fit
		return 0
	}
	binary.LittleEndian.PutUint32(dst, uint32(n))
	return lz4Prefix + n
}

// expandLZ4 decodes stored, prefix first, to dst.
func expandLZ4(dst, stored []byte) (int, error) {
	if len(stored) < lz4Prefix {
		return 0, corruptf("LZ4 block of %d bytes", len(stored))
	}
	n := binary.LittleEndian.Uint32(stored)
	if n == 0 || uint64(n) > uint64(len(stored)-lz4Prefix) {
		return 0, corruptf("LZ4 length %d in a block of %d bytes", n, len(stored))
	}
	out, err := lz4.UncompressBlock(stored[lz4Prefix:lz4Prefix+n], dst)
	if err != nil {
		return 0, corruptf("LZ4 block does not decode to %d bytes or less", len(dst))
	}
	return out, nil
}

// Levels that a compression setting may ask for; 0 means the default.
const (
	zlibMinLevel     = 6
	zlibMaxLevel     = 9
	zlibDefaultLevel = 6
)

var zlibWriters [zlibMaxLevel + 1]sync.Pool // of *zlib.Writer

var errFull = errors.New("does not fit")

// A boundedWriter fills buf and fails on the byte after.
type boundedWriter struct {
	buf []byte
	n   int
}

func (w *boundedWriter) Write(p []byte) (int, error) {
	n := copy(w.buf[w.n:], p)
	w.n += n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// compressZlib writes the zlib stream of src to dst and returns its length;
// 0 if that is more than limit.
func compressZlib(dst, src []byte, limit, level int) int {
	if level < zlibMinLevel || level > zlibMaxLevel {
		level = zlibDefaultLevel
	}
	out := &boundedWriter{buf: dst[:limit]}
	z, ok := zlibWriters[level].Get().(*zlib.Writer)
	if ok {
		z.Reset(out)
	} else {
		z, _ = zlib.NewWriterLevel(out, level) // fails only on an unknown level
	}
	_, err := z.Write(src)
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	zlibWriters[level].Put(z)
	if err != nil {
		return 0
	}
	return out.n
}

var zlibReaders sync.Pool // of io.ReadCloser that are zlib.Resetter

// expandZlib decodes stored to dst. The stream must end within dst: reading
// up to its end is what verifies its own sum.
func expandZlib(dst, stored []byte) (int, error) {
	src := byteReader{b: stored}
	z, ok := zlibReaders.Get().(io.ReadCloser)
	var err error
	if ok {
		err = z.(zlib.Resetter).Reset(&src, nil)
	} else {
		z, err = zlib.NewReader(&src)
	}
	if err != nil {
		return 0, corruptf("zlib header: %v", err)
	}
	defer zlibReaders.Put(z)
	var beyond [1]byte
	n := 0
	for {
		into := dst[n:]
		if len(into) == 0 {
			into = beyond[:] // the end still has to come
		}
		m, err := z.Read(into)
		if n += m; n > len(dst) {
			return 0, corruptf("zlib stream of more than %d bytes", len(dst))
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return 0, corruptf("zlib stream: %v", err)
		}
	}
}

// A byteReader is a bytes.Reader without the rest; inflate wants ReadByte so
// as not to buffer.
type byteReader struct{ b []byte }

func (r *byteReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

func (r *byteReader) ReadByte() (byte, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c, nil
}
