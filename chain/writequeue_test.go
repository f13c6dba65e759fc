package chain

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// Symptom: of thousands of small files written within seconds a few were zeros
// on all members, where a run of blocks reached its bound within a page.
func TestNeighboursThatShareAPage(t *testing.T) {
	dev := memdev.New(64 << 20)
	v := newVolume(t, dev)
	rng := rand.New(rand.NewPCG(1, 2))
	const from = uint64(16 << 20)
	for round := range 20 {
		q := newWriteQueue(v)
		want := make(map[uint64][]byte)
		// Chunks beside each other, filled as open ones are, from some page on.
		for pos := from + rng.Uint64N(4)*pageLen; pos < from+(5<<20); {
			size := uint64(1) << (10 + rng.Uint64N(4))
			for pos%ondisk.ChunkSize+size > ondisk.ChunkSize {
				size /= 2
			}
			want[pos] = bytes.Repeat([]byte{byte(1 + rng.Uint64N(255))}, int(size))
			q.add(pos, want[pos])
			pos += size
		}
		q.submit()
		q.wait()
		if err := v.Failed(); err != nil {
			t.Fatal(err)
		}
		bad := 0
		for off, block := range want {
			got := make([]byte, len(block))
			if _, err := dev.ReadAt(got, int64(off)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, block) {
				bad++
			}
		}
		if bad > 0 {
			t.Fatalf("round %d: %d of %d blocks are not on the device as written", round, bad, len(want))
		}
	}
}
