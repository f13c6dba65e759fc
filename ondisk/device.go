package ondisk

import "unsafe"

// A Device is storage for a volume. Its methods may be called from many
// goroutines at once, except Close, which waits until the others are done.
type Device interface {
	// ReadAt and WriteAt follow io.ReaderAt and io.WriterAt. Neither extends
	// the device. Any offset and length works; multiples of BlockSize in
	// 4096-aligned memory are fastest.
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)

	// Flush makes durable every write that returned before Flush was called.
	// After an error, no unflushed write may be assumed durable.
	Flush() error

	// Discard says that the bytes [off, off+n) are no longer needed; they may
	// read as anything until written again. errors.ErrUnsupported is allowed.
	Discard(off, n int64) error

	// Measure looks how many bytes the device has by now. If those are more than
	// before, Size says so from then on; what is behind an end that came nearer
	// fails to be read and written, and Size stays as it was.
	Measure() (int64, error)

	Size() int64    // in bytes; only Measure changes it
	BlockSize() int // logical block in bytes, 512..4096: what reaches media together
	Name() string   // for messages
	Close() error
}

// bufferAlign suits direct I/O on every device.
const bufferAlign = 4096

// AlignedBuffer returns n zero bytes in memory aligned for direct I/O.
func AlignedBuffer(n int) []byte {
	// Allocations of whole pages are nearly always aligned already.
	b := make([]byte, (n+bufferAlign-1)&^(bufferAlign-1))
	if !Aligned(b) {
		b = make([]byte, n+bufferAlign)
		skip := bufferAlign - int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))%bufferAlign)
		b = b[skip:]
	}
	return b[:n:n]
}

// Aligned reports whether b starts where AlignedBuffer would put it.
func Aligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%bufferAlign == 0
}
