package chain

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

func cacheRef(off, code uint64) *ondisk.Blockref {
	r := &ondisk.Blockref{Type: ondisk.TypeIndirect, DataOff: ondisk.MakeDataOff(off<<14, 14)}
	r.SetMethods(ondisk.CheckXXHash64, ondisk.CompNone)
	for i := range 8 {
		r.Check[i] = byte(code >> (8 * i))
	}
	return r
}

func TestTableCacheBound(t *testing.T) {
	const limit = 64 << 10
	c := newTableCache(limit)
	hot := cacheRef(1, 1)
	want := &table{}
	c.put(hot, want, 1000)
	for i := range uint64(1000) {
		c.put(cacheRef(i+2, i), &table{}, 1000)
		if c.get(hot) != want {
			t.Fatalf("entry in use left after %d others", i)
		}
		if n := c.bytes(); n > limit {
			t.Fatalf("%d bytes in a cache of %d", n, limit)
		}
	}
	if c.get(cacheRef(1, 2)) != nil {
		t.Error("found by address alone")
	}
	if n := testing.AllocsPerRun(100, func() { c.get(hot) }); n > 0 {
		t.Errorf("%v allocations to find an entry", n)
	}
}

// Without a check code, a block at a reused address looks like the old one.
func TestTableCacheNoCode(t *testing.T) {
	c := newTableCache(1 << 20)
	r := cacheRef(1, 0)
	r.SetMethods(ondisk.CheckDisabled, ondisk.CompNone)
	c.put(r, &table{}, 100)
	if c.get(r) != nil {
		t.Error("cached a block that has no check code")
	}
}

func TestTableCacheConcurrent(t *testing.T) {
	c := newTableCache(20 << 10)
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(g, 1))
			for range 5000 {
				off := rnd.Uint64N(100)
				if got, ok := c.get(cacheRef(off, off)).(*table); ok && uint64(len(got.refs)) != off {
					t.Errorf("found %d at %d", len(got.refs), off)
				}
				c.put(cacheRef(off, off), &table{refs: make([]ondisk.Blockref, off)}, 500)
			}
		})
	}
	wg.Wait()
}

func TestSearch(t *testing.T) {
	refs := []ondisk.Blockref{{Key: 16, KeyBits: 4}, {Key: 40}, {Key: 64, KeyBits: 6}}
	for k, want := range map[uint64]int{0: 0, 16: 0, 31: 0, 32: 1, 40: 1, 41: 2, 127: 2, 128: 3, ^uint64(0): 3} {
		if got := search(refs, k); got != want {
			t.Errorf("first element that ends at %d or above: %d, want %d", k, got, want)
		}
	}
}
