package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

var errWrong = errors.New("wrong bytes")

// A rig is a store over one device. All runs in a bubble of synctest, so that
// settle knows when the filler has nothing to do.
type rig struct {
	t *testing.T
	*Store
	failed error
}

const rigSegments = 32

func newRig(t *testing.T, dev ondisk.Device, o Options) *rig {
	t.Helper()
	r := &rig{t: t}
	o.Failed = func(err error) { r.failed = err }
	if o.Salt.IsZero() {
		o.Salt[0] = 1
	}
	s, err := New([]chain.FreeRange{{Dev: dev, Off: 300, Len: dev.Size() - 300}}, o)
	if err != nil {
		t.Fatal(err)
	}
	r.Store = s
	r.settle()
	return r
}

func (r *rig) settle() { synctest.Wait() }

func (r *rig) close() {
	r.t.Helper()
	if err := r.Close(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// block is number n: any size up to that of a block, full of n.
func block(n int) []byte {
	b := make([]byte, 1024<<rand.New(rand.NewPCG(uint64(n), 1)).IntN(7))
	binary.LittleEndian.PutUint64(b, uint64(n)+1)
	for have := 8; have < len(b); have *= 2 {
		copy(b[have:], b[:have])
	}
	return b
}

func idOf(n int) *chain.BlockID {
	var id chain.BlockID
	binary.LittleEndian.PutUint64(id[24:], uint64(n))
	return &id
}

// read is what a reader does: from the cache, or made and offered to it.
func (r *rig) read(n int) (hit bool) {
	r.t.Helper()
	want := block(n)
	got, hit := r.Get(context.Background(), idOf(n), len(want), func(b []byte) error {
		if !bytes.Equal(b, want) {
			return errWrong
		}
		return nil
	})
	if hit && !bytes.Equal(got, want) {
		r.t.Fatalf("block %d: wrong bytes were served", n)
	}
	if !hit {
		r.Put(idOf(n), want)
		r.settle()
	}
	return hit
}

func (r *rig) hits(from, to int) (n int) {
	for i := from; i < to; i++ {
		if r.read(i) {
			n++
		}
	}
	return n
}

// sound checks the index against the segments.
func (s *Store) sound() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	places := len(s.free)
	for q := range s.fifo {
		places += len(s.fifo[q])
		if s.open[q] >= 0 {
			places++
		}
	}
	if places != len(s.segs) {
		return fmt.Errorf("%d of %d segments have a place", places, len(s.segs))
	}
	if len(s.free) == 0 {
		return errors.New("no segment is free")
	}
	var sum int64
	for key, e := range s.index {
		sum += int64(e.n)
		found := false
		for _, sl := range s.segs[e.seg].slots {
			found = found || sl.key == key && sl.off == e.off && sl.n == e.n
		}
		if !found {
			return fmt.Errorf("entry %x points to nothing", key)
		}
	}
	if sum != s.bytes {
		return fmt.Errorf("%d bytes are kept, %d are counted", sum, s.bytes)
	}
	return nil
}

func TestHitsAndWarmRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := memdev.New(rigSegments * segmentSize)
		r := newRig(t, dev, Options{})
		if n := r.hits(0, 200); n != 0 {
			t.Fatalf("%d hits in an empty cache", n)
		}
		if n := r.hits(0, 200); n != 200 {
			t.Fatalf("%d of 200 blocks are there", n)
		}
		if err := r.sound(); err != nil {
			t.Fatal(err)
		}
		r.close()
		r = newRig(t, dev, Options{})
		if n := r.hits(0, 200); n != 200 || !r.Report().Warm {
			t.Fatalf("%d of 200 blocks are there after a restart", n)
		}
		rep := r.Report()
		if rep.Hits != 200 || rep.Misses != 0 || rep.Bad != 0 || rep.Entries != 200 || rep.Used == 0 || rep.Used > rep.Size {
			t.Errorf("%+v", rep)
		}
		if r.Open(); r.failed != nil {
			t.Errorf("closing is no failure: %v", r.failed)
		}
		r.close()
		r = newRig(t, dev, Options{Salt: ondisk.UUID{2}})
		if n := r.hits(0, 1); n != 0 {
			t.Error("a cache of another format finds blocks")
		}
		r.close()
	})
}

// What the index points to is right after any sequence, with rooms that are too
// small for what comes.
func TestEvictionKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := memdev.New(12 * segmentSize)
		r := newRig(t, dev, Options{Entries: 1100})
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range 6000 {
			n := rng.IntN(3000)
			if rng.IntN(3) == 0 {
				n = rng.IntN(60)
			}
			r.read(n)
			if i%500 == 0 {
				if err := r.sound(); err != nil {
					t.Fatalf("after %d: %v", i, err)
				}
			}
		}
		if rep := r.Report(); rep.Err != nil || rep.Evicted == 0 || rep.Entries > 1100 || rep.Bad != 0 {
			t.Errorf("%+v", rep)
		}
		r.close()
		r = newRig(t, dev, Options{Entries: 1100}) // more segments are full than may be
		if n := r.hits(3000, 3400); n != 0 || r.Report().Err != nil {
			t.Errorf("%d hits of what was never there; %v", n, r.Report().Err)
		}
		if err := r.sound(); err != nil {
			t.Error(err)
		}
		r.close()
	})
}

// A scan of many times the space leaves what is read again and again.
func TestScanResistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memdev.New(rigSegments*segmentSize), Options{})
		const hot = 300 // about 5 MiB of 32
		for range 3 {
			r.hits(0, hot)
		}
		r.hits(1000, 9000)
		if n := r.hits(0, hot); n < hot*9/10 {
			t.Errorf("after a scan %d of %d blocks are left", n, hot)
		}
		if err := r.sound(); err != nil {
			t.Error(err)
		}
		r.close()
	})
}

// What asks for a block that left not long ago is heard: it goes to the main queue.
func TestGhosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memdev.New(rigSegments*segmentSize), Options{})
		r.hits(0, 4000)
		if r.read(0) {
			t.Fatal("the first of a long scan is still there")
		}
		r.hits(10_000, 12_500)
		if !r.read(0) {
			t.Error("a block that came back was taken by a scan")
		}
		r.close()
	})
}

// Devices that damage what they hold: never a wrong byte, and a miss is filled anew.
func TestFlippedBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := memdev.New(rigSegments * segmentSize)
		var bad uint64
		for seed := range uint64(20) {
			r := newRig(t, dev, Options{})
			r.hits(0, 300)
			rng := rand.New(rand.NewPCG(seed, 3))
			for range 2000 { // anywhere: tables are damaged, too
				b := []byte{byte(rng.Uint32())}
				if _, err := dev.WriteAt(b, rng.Int64N(dev.Size())); err != nil {
					t.Fatal(err)
				}
			}
			r.hits(0, 300)
			bad += r.Report().Bad
			r.close()
			r = newRig(t, dev, Options{})
			r.hits(0, 300)
			bad += r.Report().Bad
			if n := r.hits(0, 300); n != 300 {
				t.Fatalf("seed %d: %d of 300 came back", seed, n)
			}
			if err := r.sound(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			r.close()
		}
		if bad < 100 {
			t.Errorf("only %d blocks were found damaged: this shows little", bad)
		}
	})
}

// An old image of the device under the index of a new one, and the other way.
func TestStaleImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := memdev.New(10 * segmentSize)
		r := newRig(t, dev, Options{})
		r.hits(0, 700)
		r.close()
		old := dev.Clone()
		r = newRig(t, dev, Options{})
		r.hits(700, 1500)
		b := make([]byte, 10*segmentSize)
		if _, err := old.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := dev.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		r.hits(1300, 1500)
		r.hits(0, 1500)
		if r.Report().Bad == 0 {
			t.Error("nothing was found to be stale: this shows nothing")
		}
		r.close()
		r = newRig(t, old, Options{})
		r.hits(0, 1500)
		r.close()
	})
}

// A power cut at each write, with sectors of the last ones lost and kept.
func TestPowerCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := crashdev.New(memdev.New(10 * segmentSize))
		r := newRig(t, rec, Options{})
		for round := range 3 {
			r.hits(round*150, round*150+300)
		}
		r.close()
		if rec.Events() < 20 {
			t.Fatalf("%d writes", rec.Events())
		}
		for n := range rec.Events() + 1 {
			for seed := range uint64(2) {
				rng := rand.New(rand.NewPCG(uint64(n), seed))
				img := rec.Image(n, func(event, _ int) bool { return event < n-4 || rng.IntN(2) == 0 })
				r := newRig(t, img, Options{})
				r.hits(0, 250)
				if err := r.sound(); err != nil || r.Report().Err != nil {
					t.Fatalf("cut %d, seed %d: %v, %v", n, seed, err, r.Report().Err)
				}
				r.close()
			}
		}
	})
}

func TestWriteErrorEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := faultdev.New(memdev.New(10 * segmentSize))
		r := newRig(t, dev, Options{})
		r.hits(0, 100)
		dev.Add(faultdev.Rule{On: faultdev.Write})
		r.hits(100, 500)
		if !errors.Is(r.failed, faultdev.ErrFault) || r.Open() || r.Report().Err == nil {
			t.Fatalf("failed %v, report %+v", r.failed, r.Report())
		}
		if n := r.hits(0, 500); n != 0 {
			t.Errorf("%d hits on a device that was given up", n)
		}
		<-r.Ended()
	})
}

func TestReadErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := faultdev.New(memdev.New(10 * segmentSize))
		r := newRig(t, dev, Options{})
		r.hits(0, 300)
		r.close()
		r = newRig(t, dev, Options{})
		dev.Add(faultdev.Rule{On: faultdev.Read, Times: maxBadReads - 1})
		if n := r.hits(0, 300); n != 300-maxBadReads+1 || r.failed != nil {
			t.Errorf("%d hits, %v", n, r.failed)
		}
		dev.Add(faultdev.Rule{On: faultdev.Read, Times: maxBadReads})
		if n := r.hits(0, 300); n != 0 || !errors.Is(r.failed, faultdev.ErrFault) {
			t.Errorf("%d hits, %v", n, r.failed)
		}
		<-r.Ended()
	})
}

// A read that hangs is waited for once, and nobody asks again until it is over.
func TestHungRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := faultdev.New(memdev.New(10 * segmentSize))
		r := newRig(t, dev, Options{})
		r.hits(0, 300)
		r.close()
		r = newRig(t, dev, Options{})
		dev.Add(faultdev.Rule{On: faultdev.Read, Do: faultdev.Hang})
		began := time.Now()
		if n := r.hits(0, 100); n != 0 {
			t.Errorf("%d hits", n)
		}
		if took := time.Since(began); took != r.o.Patience {
			t.Errorf("a hundred reads waited for %v", took)
		}
		dev.Release()
		r.settle()
		if r.read(0) {
			t.Error("asked at once after a hang")
		}
		<-time.After(2 * r.o.Patience)
		if n := r.hits(0, 300); n != 300 {
			t.Errorf("%d of 300 after the hang", n)
		}
		r.close()
	})
}

// Offers are forgotten, not waited for, while the device writes nothing.
func TestHungWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := faultdev.New(memdev.New(10 * segmentSize))
		r := newRig(t, dev, Options{})
		dev.Add(faultdev.Rule{On: faultdev.Write, Do: faultdev.Hang})
		began := time.Now()
		r.hits(0, 2000)
		if time.Since(began) != 0 || r.Report().Refused == 0 {
			t.Errorf("waited for %v, %d refused", time.Since(began), r.Report().Refused)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closed on a device that hangs: %v", err)
		}
		dev.Release()
		<-r.Ended()
	})
}

func TestTooSmall(t *testing.T) {
	dev := memdev.New(4 * segmentSize)
	if _, err := New([]chain.FreeRange{{Dev: dev, Len: dev.Size()}}, Options{}); !errors.Is(err, errTooSmall) {
		t.Errorf("%v", err)
	}
}

// A table of which a part is of another write is none.
func TestTable(t *testing.T) {
	salt := ondisk.UUID{1}
	old, now := make([]byte, tableSize), make([]byte, tableSize)
	tab := table{gen: 8, queue: main}
	for i := range maxSlots {
		tab.slots = append(tab.slots, slot{uint64(i), uint32(tableSize + 1024*i), 1024})
	}
	tab.encode(now, salt)
	tab = table{gen: 7, slots: slices.Clone(tab.slots)}
	for i := range tab.slots {
		tab.slots[i].key += 1000
	}
	tab.encode(old, salt)
	if got, err := decodeTable(now, salt); err != nil || len(got.slots) != maxSlots || got.slots[7].key != 7 || got.gen != 8 || got.queue != main {
		t.Fatal(err)
	}
	for cut := 512; cut < tableSize; cut += 512 {
		torn := append(append([]byte(nil), now[:cut]...), old[cut:]...)
		if _, err := decodeTable(torn, salt); err == nil {
			t.Errorf("torn at %d, and taken", cut)
		}
	}
	if _, err := decodeTable(now, ondisk.UUID{2}); err == nil {
		t.Error("the table of another cache was taken")
	}
}

func FuzzDecodeTable(f *testing.F) {
	b := make([]byte, tableSize)
	salt := ondisk.UUID{1}
	(&table{gen: 7, queue: main, slots: []slot{{1, tableSize, 1024}, {2, 2 * tableSize, 65536}}}).encode(b, salt)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headSize && len(b) <= tableSize {
			count := int(binary.LittleEndian.Uint32(b[offCount:]))
			if end := headSize + count*slotSize; count <= maxSlots && end <= len(b) {
				binary.LittleEndian.PutUint64(b[offCode:], ondisk.XXH64(b[offSalt:end]))
			}
		}
		tab, err := decodeTable(b, salt)
		if err != nil {
			return
		}
		again := make([]byte, tableSize)
		tab.encode(again, salt)
		if back, err := decodeTable(again, salt); err != nil || len(back.slots) != len(tab.slots) || back.gen != tab.gen {
			t.Fatalf("%v: %+v became %+v", err, tab, back)
		}
	})
}
