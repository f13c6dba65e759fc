package crashdev

import (
	"fmt"
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// headerStates counts the ways in which one write is torn.
func headerStates(d *Device) (torn, sums int) {
	seen := make(map[uint64]bool)
	d.Each(Options{}, func(s State) bool {
		if s.Torn {
			torn++
			seen[s.Sum] = true
		}
		return true
	})
	return torn, len(seen)
}

// A header is torn at each of its sectors, as a whole and in parts, in every
// slot of every device; nothing else is, though it has the same size.
func TestHeadersAreTornAtEachSector(t *testing.T) {
	const cuts, random = ondisk.HeaderSize/512 - 1, 32
	const big = 2*ondisk.HeaderZone + ondisk.VolumeAlign
	for _, c := range []struct {
		off, n int64
		want   int
	}{
		{0, ondisk.HeaderSize, cuts + random},
		{ondisk.HeaderZone, ondisk.HeaderSize, cuts + random},
		{spareSlot, ondisk.HeaderSize, cuts + random},
		{big, ondisk.HeaderSize, cuts + random}, // slot 0 of the second device
		{big + spareSlot, 8192, 15 + random},
		{4096, 8192, 15 + random},
		{0, 4096, 7 + random},
		{ondisk.HeaderSize, ondisk.HeaderSize, 4},
		{4096, ondisk.HeaderSize, 4}, // goes on behind the header
		{big / 2, ondisk.HeaderSize, 4},
	} {
		d := NewSet(memdev.New(2*big), big, big)
		p := make([]byte, c.n)
		for i := range p {
			p[i] = byte(i*i>>9) | 1
		}
		if _, err := d.WriteAt(p, c.off); err != nil {
			t.Fatal(err)
		}
		if torn, sums := headerStates(d); torn != c.want || sums > torn || sums < torn*3/4 {
			t.Errorf("%d bytes at %#x: torn in %d ways, %d of them different, want %d", c.n, c.off, torn, sums, c.want)
		}
	}
}

// A flush of one device says nothing about another, and what was written to
// both may be lost on either.
func TestSet(t *testing.T) {
	d := NewSet(memdev.New(1<<17), 1<<16, 1<<16)
	put(t, d, 'a', 0, 512)
	put(t, d, 'b', 1<<16, 512)
	if err := d.FlushPart(1); err != nil {
		t.Fatal(err)
	}
	put(t, d, 'c', 512, 512)
	got := make(map[string]bool)
	d.Each(Options{}, func(s State) bool {
		parts := Split(s.Image, 1<<16, 1<<16)
		got[fmt.Sprint(s.N, show(t, parts[0], 2), show(t, parts[1], 1))] = true
		return true
	})
	for _, want := range []string{"0...", "1a..", "2..b", "3..b", "3a.b", "4acb", "4.cb"} {
		if !got[want] {
			t.Errorf("%s is missing in %v", want, got)
		}
	}
	for have := range got {
		if have[0] >= '3' && have[len(have)-1] != 'b' {
			t.Errorf("%s: what was flushed is lost", have)
		}
	}
}

// Sums tell images apart, and recognize those that are the same.
func TestSum(t *testing.T) {
	d := New(memdev.New(1 << 20))
	for i := range 5 {
		put(t, d, byte(1+i%2), int64(i%3)*700, 1000)
		if i%2 == 1 {
			if err := d.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	bySum, byContent := make(map[uint64]string), make(map[string]uint64)
	n := d.Each(Options{}, func(s State) bool {
		p := make([]byte, 4096)
		if _, err := s.Image.ReadAt(p, 0); err != nil {
			t.Fatal(err)
		}
		if was, ok := bySum[s.Sum]; ok && was != string(p) {
			t.Errorf("%s: the sum of another image", s.Name)
		}
		if was, ok := byContent[string(p)]; ok && was != s.Sum {
			t.Errorf("%s: the same image with another sum", s.Name)
		}
		bySum[s.Sum], byContent[string(p)] = string(p), s.Sum
		return true
	})
	if len(bySum) == n || len(bySum) < 8 {
		t.Errorf("%d states, %d images: none is there twice, or few are", n, len(bySum))
	}
}

// Only finds one state again, with the same content.
func TestOnly(t *testing.T) {
	d := New(memdev.New(1 << 20))
	for i := range 12 {
		put(t, d, byte(i+1), int64(i)*8192, 4096)
	}
	d.Each(Options{Seed: 3, Max: 20}, func(s State) bool {
		n := d.Each(Options{Seed: 3, Only: s.Name}, func(again State) bool {
			if again.Sum != s.Sum || again.N != s.N {
				t.Errorf("%s: another image the second time", s.Name)
			}
			return true
		})
		if n != 1 {
			t.Errorf("%s: found %d times", s.Name, n)
		}
		return true
	})
}

// The windows of each start together are all windows, and none comes twice.
func TestEvery(t *testing.T) {
	d := New(memdev.New(1 << 16))
	for i := range 7 {
		put(t, d, byte('a'+i), int64(i)*512, 512)
		if err := d.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	names := func(o Options) (list []string) {
		d.Each(o, func(s State) bool {
			list = append(list, s.Name)
			return true
		})
		return list
	}
	var parts []string
	for first := range 3 {
		part := names(Options{Every: 3, First: first})
		if len(part) == 0 {
			t.Errorf("nothing from window %d on", first)
		}
		parts = append(parts, part...)
	}
	all := names(Options{})
	slices.Sort(all)
	slices.Sort(parts)
	if !slices.Equal(all, parts) {
		t.Errorf("every third window:\n%q\neach:\n%q", parts, all)
	}
}
