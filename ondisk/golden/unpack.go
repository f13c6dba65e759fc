package golden

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/anvilfs/anvilfs/ondisk/memdev"
	"github.com/klauspost/compress/zstd"
)

// The images are gigabytes of zeros around a few megabytes. Decompressing all
// of that would take most of the time of a test, so the long runs of zero
// blocks are taken out of the compressed stream first. A frame is (RFC 8878)
//
//	magic, descriptor, window size, content size | block header, block | ... | sum
//
// and a block of zeros is both output and history for the matches behind it.
// A run keeps as much as matches can reach back, the window; what is left out
// becomes a marker in the output, which says how much it stands for:
//
//	0 0 0 0 0 0 0 0  ->  marker(5) 0 0 0

// marker is random: no image contains it by chance.
var marker = []byte("\x9d\x11\xe7\x5b\x02\xc4\x8f\x6a\xd3\x90\x3e\x71\xab\x4c\xf8\x25")

const (
	blockRaw    = 0
	blockRun    = 1 // one byte, repeated
	blockHeader = 3
	maxBlock    = 128 << 10 // decoded
	markerSize  = 16 + 8    // with the length of the hole
)

var errFrame = errors.New("not a frame that zstd makes from a large file")

// squeeze returns the frame with long runs of zeros replaced by markers.
func squeeze(frame []byte) (pieces, error) {
	const sizeFlag, single, dictionary = 0xC0, 0x20, 0x03
	if len(frame) < 16 || frame[4]&(single|dictionary) != 0 || frame[4]&sizeFlag == 0 {
		return nil, errFrame
	}
	window := int64(1) << (10 + frame[5]>>3) * int64(8+frame[5]&7) / 8
	out := pieces{frame[:4], {0, frame[5]}} // neither size nor sum: both would be wrong
	rest := frame[6+1<<(frame[4]>>6):]
	var run [][]byte // blocks of zeros not yet written out
	for {
		if len(rest) <= blockHeader {
			return nil, errFrame
		}
		last, kind, size := blockFields(rest)
		n := blockHeader + size
		if kind == blockRun {
			n = blockHeader + 1
		}
		if n > len(rest) || size > maxBlock {
			return nil, errFrame
		}
		block := rest[:n]
		rest = rest[n:]
		if kind == blockRun && block[blockHeader] == 0 && !last {
			run = append(run, block)
			continue
		}
		out = append(appendRun(out, run, window), block)
		if last {
			return out, nil
		}
		run = run[:0]
	}
}

func blockFields(b []byte) (last bool, kind, size int) {
	h := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	return h&1 != 0, h >> 1 & 3, h >> 3
}

// appendRun writes out a run of zero blocks, or a marker and its end.
func appendRun(out pieces, run [][]byte, window int64) pieces {
	keep, kept := len(run), int64(0)
	for keep > 0 && kept < window {
		keep--
		_, _, size := blockFields(run[keep])
		kept += int64(size)
	}
	hole := uint64(0)
	for _, b := range run[:keep] {
		_, _, size := blockFields(b)
		hole += uint64(size)
	}
	if hole > 0 {
		const header = markerSize<<3 | blockRaw<<1
		out = append(out, []byte{header, header >> 8, header >> 16}, marker,
			binary.LittleEndian.AppendUint64(nil, hole))
	}
	for _, b := range run[keep:] {
		_, _, size := blockFields(b)
		out = append(out, []byte{byte(size << 3), byte(size << 3 >> 8), byte(size << 3 >> 16)}, zeros[:size])
	}
	return out
}

// pieces is a reader of byte slices one after the other. Zeros that stay are
// plain blocks in it, all sharing one array: the decoder copies these faster
// than it repeats a byte.
type pieces [][]byte

// Read implements io.Reader.
func (r *pieces) Read(p []byte) (int, error) {
	for len(*r) > 0 && len((*r)[0]) == 0 {
		*r = (*r)[1:]
	}
	if len(*r) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*r)[0])
	(*r)[0] = (*r)[0][n:]
	return n, nil
}

// An expander writes a squeezed image to a device, zeros left out.
type expander struct {
	dev  *memdev.Device
	off  int64
	held []byte // not yet written: the beginning of a marker may be at its end
}

// Write implements io.Writer.
func (x *expander) Write(p []byte) (int, error) {
	x.held = append(x.held, p...)
	rest := x.held
	for {
		i := bytes.Index(rest, marker)
		if i < 0 || len(rest) < i+markerSize {
			break
		}
		if err := x.put(rest[:i]); err != nil {
			return 0, err
		}
		x.off += int64(binary.LittleEndian.Uint64(rest[i+len(marker):]))
		rest = rest[i+markerSize:]
	}
	if n := len(rest) - 2*markerSize; n > 0 && bytes.Index(rest, marker) < 0 {
		if err := x.put(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	x.held = append(x.held[:0], rest...)
	return len(p), nil
}

var zeros [maxBlock]byte

func (x *expander) put(p []byte) error {
	const page = 65536 // of the device: what is zero in it costs nothing
	for len(p) > 0 {
		part := p[:min(len(p), int(page-x.off%page))]
		if !bytes.Equal(part, zeros[:len(part)]) {
			if _, err := x.dev.WriteAt(part, x.off); err != nil {
				return err
			}
		}
		x.off += int64(len(part))
		p = p[len(part):]
	}
	return nil
}

// unpack returns a device with the image in frame.
func unpack(frame []byte) (*memdev.Device, error) {
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return nil, err
	}
	squeezed, err := squeeze(frame)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(&squeezed, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	x := &expander{dev: memdev.New(int64(h.FrameContentSize))}
	if _, err := io.Copy(x, z); err != nil {
		return nil, err
	}
	if err := x.put(x.held); err != nil {
		return nil, err
	}
	if x.off != x.dev.Size() {
		return nil, errFrame
	}
	return x.dev, nil
}
