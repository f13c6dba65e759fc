// Package devicetest is what every ondisk.Device must pass.
package devicetest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Size of the devices that Run asks for.
const Size = 4 << 20

// Run runs the suite. open returns a fresh device of Size zero bytes and, if
// content outlives Close, a function that opens it again.
func Run(t *testing.T, open func(t *testing.T) (dev ondisk.Device, reopen func() ondisk.Device)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, d ondisk.Device)
	}{
		{"describes itself", testSelf},
		{"reads zeros, then what was written", testReadBack},
		{"ends where it ends", testEnd},
		{"any alignment", testRandom},
		{"neighbours in parallel", testNeighbours},
		{"discard spares the rest", testDiscard},
		{"nothing is where it says so", testNextData},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := open(t)
			c.test(t, d)
			if err := d.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	t.Run("closed", func(t *testing.T) { testClosed(t, open) })
}

func testSelf(t *testing.T, d ondisk.Device) {
	if d.Size() != Size {
		t.Errorf("size %d, want %d", d.Size(), Size)
	}
	if bs := d.BlockSize(); bs < 512 || bs > 4096 || bs&(bs-1) != 0 {
		t.Errorf("block size %d", bs)
	}
	if d.Name() == "" {
		t.Error("no name")
	}
	if err := d.Flush(); err != nil {
		t.Errorf("flush: %v", err)
	}
}

func testReadBack(t *testing.T, d ondisk.Device) {
	got := ondisk.AlignedBuffer(65536)
	got[0] = 1
	must(t, read(d, got, 65536))
	if !bytes.Equal(got, make([]byte, len(got))) {
		t.Error("a fresh device is not zero")
	}
	want := ondisk.AlignedBuffer(65536)
	fill(want, 1)
	must(t, write(d, want, 65536))
	must(t, d.Flush())
	must(t, read(d, got, 65536))
	if !bytes.Equal(got, want) {
		t.Error("reads back as something else")
	}
	if n, err := d.ReadAt(nil, 0); n != 0 || err != nil {
		t.Errorf("empty read: %d, %v", n, err)
	}
	if n, err := d.WriteAt(nil, 0); n != 0 || err != nil {
		t.Errorf("empty write: %d, %v", n, err)
	}
}

func testEnd(t *testing.T, d ondisk.Device) {
	p := make([]byte, 1024)
	if n, err := d.ReadAt(p, Size-512); n != 512 || err != io.EOF {
		t.Errorf("read across the end: %d, %v, want 512, EOF", n, err)
	}
	if n, err := d.ReadAt(p, Size+4096); n != 0 || err != io.EOF {
		t.Errorf("read beyond the end: %d, %v, want 0, EOF", n, err)
	}
	if err := read(d, p, Size-1024); err != nil {
		t.Errorf("read up to the end: %v", err)
	}
	for _, off := range []int64{Size - 512, Size, Size + 4096, -512} {
		if n, err := d.WriteAt(p, off); err == nil || n != 0 {
			t.Errorf("write at %d: %d, %v, want an error", off, n, err)
		}
	}
	if _, err := d.ReadAt(p, -1); err == nil || err == io.EOF {
		t.Errorf("read at -1: %v", err)
	}
	if d.Size() != Size {
		t.Errorf("size became %d", d.Size())
	}
}

// testRandom writes and reads at odd places and compares with plain memory.
func testRandom(t *testing.T, d ondisk.Device) {
	const seed, span = 1, 1 << 20
	rng := rand.New(rand.NewPCG(seed, 0))
	model := make([]byte, span)
	for i := range 200 {
		n := 1 + rng.IntN(1<<rng.IntN(19))
		off := rng.IntN(span - n + 1)
		skew := rng.IntN(3) // memory as odd as the rest
		if rng.IntN(2) == 0 {
			p := make([]byte, n+skew)[skew:]
			fill(p, byte(i))
			copy(model[off:], p)
			must(t, write(d, p, int64(off)))
			continue
		}
		p := make([]byte, n+skew)[skew:]
		must(t, read(d, p, int64(off)))
		if !bytes.Equal(p, model[off:off+n]) {
			t.Fatalf("step %d: [%d, %d) differs", i, off, off+n)
		}
	}
	all := make([]byte, span)
	must(t, read(d, all, 0))
	if !bytes.Equal(all, model) {
		t.Error("differs at the end")
	}
}

// testNeighbours writes 1 KiB blocks that share larger blocks of the device
// from several goroutines: none may undo another's.
func testNeighbours(t *testing.T, d ondisk.Device) {
	const workers, each = 4, 32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				p := make([]byte, 1000)
				fill(p, byte(w+1))
				if err := write(d, p, int64((i*workers+w)*1000)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := make([]byte, workers*each*1000)
	must(t, read(d, got, 0))
	want := make([]byte, 1000)
	for i := range workers * each {
		fill(want, byte(i%workers+1))
		if !bytes.Equal(got[i*1000:(i+1)*1000], want) {
			t.Fatalf("block %d was undone", i)
		}
	}
}

func testDiscard(t *testing.T, d ondisk.Device) {
	p := make([]byte, 1<<18)
	fill(p, 7)
	must(t, write(d, p, 0))
	const beg, end = 65536 + 100, 131072 + 300
	err := d.Discard(beg, end-beg)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no discard here")
	}
	must(t, err)
	got := make([]byte, len(p))
	must(t, read(d, got, 0))
	if !bytes.Equal(got[:beg], p[:beg]) || !bytes.Equal(got[end:], p[end:]) {
		t.Error("bytes around the range changed")
	}
	must(t, write(d, p[beg:end], beg))
	must(t, read(d, got, 0))
	if !bytes.Equal(got, p) {
		t.Error("the range does not take writes")
	}
}

func testClosed(t *testing.T, open func(t *testing.T) (ondisk.Device, func() ondisk.Device)) {
	d, reopen := open(t)
	p := make([]byte, 4096)
	fill(p, 3)
	must(t, write(d, p, 8192))
	must(t, d.Flush())
	must(t, d.Close())
	if _, err := d.ReadAt(p, 0); err == nil || err == io.EOF {
		t.Errorf("read after close: %v", err)
	}
	if _, err := d.WriteAt(p, 0); err == nil {
		t.Error("write after close")
	}
	if err := d.Flush(); err == nil {
		t.Error("flush after close")
	}
	if err := d.Close(); err == nil {
		t.Error("closed twice")
	}
	if reopen == nil {
		return
	}
	d = reopen()
	got := make([]byte, len(p))
	must(t, read(d, got, 8192))
	if !bytes.Equal(got, p) {
		t.Error("content did not outlive close")
	}
	must(t, d.Close())
}

// fill makes p different at every place and for every seed.
func fill(p []byte, seed byte) {
	for i := range p {
		p[i] = seed ^ byte(i) ^ byte(i>>8)
	}
}

func read(d ondisk.Device, p []byte, off int64) error {
	n, err := d.ReadAt(p, off)
	if err == io.EOF && n == len(p) {
		err = nil // io.ReaderAt leaves both open at the very end
	}
	return err
}

func write(d ondisk.Device, p []byte, off int64) error {
	_, err := d.WriteAt(p, off)
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What a device calls empty reads as zeros, whatever it was written.
func testNextData(t *testing.T, d ondisk.Device) {
	s, ok := d.(interface {
		NextData(off int64) (int64, error)
	})
	if !ok {
		return
	}
	next := func(off int64) int64 {
		t.Helper()
		at, err := s.NextData(off)
		if err != nil || at < off || at > max(off, d.Size()) {
			t.Fatalf("from %#x on there is data at %#x, %v", off, at, err)
		}
		return at
	}
	written := []int64{0, 300 << 10, 1<<20 + 512, Size - 4096}
	for _, off := range written {
		if _, err := d.WriteAt(bytes.Repeat([]byte{7}, 512), off); err != nil {
			t.Fatal(err)
		}
	}
	for _, off := range written {
		if at := next(off); at != off {
			t.Errorf("written at %#x, data is told to be at %#x", off, at)
		}
	}
	buf := ondisk.AlignedBuffer(Size)
	for off := int64(0); off < Size; {
		at := next(off)
		if _, err := d.ReadAt(buf[:at-off], off); err != nil || bytes.Count(buf[:at-off], []byte{0}) != int(at-off) {
			t.Errorf("[%#x, %#x) is told to be empty, and is not: %v", off, at, err)
		}
		off = at + 4096
	}
	if at := next(Size); at != Size {
		t.Errorf("behind the end there is data at %#x", at)
	}
}
