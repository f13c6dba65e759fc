package fsck

import (
	"math/rand/v2"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A segment compared 32 chunks at once is judged as chunk by chunk.
func TestCompareSegment(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	states := []uint8{ondisk.ChunkFree, ondisk.ChunkStaged, ondisk.ChunkAllocated, ondisk.ChunkAllocated}
	for round := range 2000 {
		var e ondisk.FreemapEntry
		reach := make([]uint64, ondisk.ChunksPerSegment/64)
		var want Counts
		bad, first := 0, uint64(0)
		const at = 8 << 20
		rare := rng.IntN(40) // from all at random to hardly anything that does not fit
		for i := range ondisk.ChunksPerSegment {
			state := states[rng.IntN(4)]
			reached := state == ondisk.ChunkAllocated
			if rng.IntN(rare+1) == 0 {
				reached = !reached
			}
			e.SetState(i, state)
			switch {
			case reached:
				reach[i/64] |= 1 << (i % 64)
				want.Reachable += ondisk.ChunkSize
				if state != ondisk.ChunkAllocated {
					if bad++; bad == 1 {
						first = at + uint64(i)*ondisk.ChunkSize
					}
				}
			case state == ondisk.ChunkAllocated:
				want.Unreachable += ondisk.ChunkSize
			case state == ondisk.ChunkStaged:
				want.Staged += ondisk.ChunkSize
			}
		}
		var got Counts
		gotBad, gotFirst := compare(&got, &e, at, reach)
		if got != want || gotBad != bad || bad > 0 && gotFirst != first {
			t.Fatalf("round %d: %+v, %d not marked from %#x on; want %+v, %d from %#x on", round, got, gotBad, gotFirst, want, bad, first)
		}
	}
}
