package cluster

import (
	"context"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Lend returns n bytes of an inode from off on, as ReadData reads them, in a
// buffer that the caller gives back with Return, or forgets.
func (p *Pool) Lend(ctx context.Context, inum, off uint64, n int) ([]byte, error) {
	s := p.acquire()
	defer s.release()
	if s.inTreeOnly(inum) {
		return p.lendTree(ctx, s, inum, off, n)
	}
	b := getLarge(n)
	return b, p.ReadData(ctx, inum, off, b)
}

// Return takes back a buffer of Lend.
func (p *Pool) Return(b []byte) { putLarge(b) }

// Buffers of reads, of two sizes: for a block, and for what kernels ask for at
// most. Whole pages let a device fill them by itself.
const (
	blockRead = ondisk.LogicalBlock
	largeRead = 1 << 20
)

var blockBuffers, largeBuffers sync.Pool

func getLarge(n int) []byte {
	pool, size := &largeBuffers, max(n, largeRead)
	if n <= blockRead {
		pool, size = &blockBuffers, blockRead
	}
	if b, ok := pool.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:n]
	}
	return ondisk.AlignedBuffer(size)[:n]
}

func putLarge(b []byte) {
	switch {
	case cap(b) >= largeRead:
		largeBuffers.Put(&b)
	case cap(b) >= blockRead:
		blockBuffers.Put(&b)
	}
}
