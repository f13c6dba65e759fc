package crashdev

import (
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

const sumUnit = 4096 // bytes

// A summer has what is sure at the start of a window, and tells images apart by
// what they have in its place. Only what the window wrote is looked at.
type summer struct {
	dev   *memdev.Device
	total uint64  // of dev, as the difference from how the recording began
	units []int64 // that the open writes touch
	here  uint64  // of these units in dev
	buf   []byte
}

func newSummer(base *memdev.Device) *summer { return &summer{dev: base.Clone()} }

// window is called when the open writes are known.
func (s *summer) window(d *Device, open []int) {
	s.units = s.units[:0]
	for _, w := range open {
		ev := &d.events[w]
		for u := ev.off / sumUnit; u*sumUnit < ev.off+int64(len(ev.data)); u++ {
			s.units = append(s.units, u)
		}
	}
	slices.Sort(s.units)
	s.units = slices.Compact(s.units)
	s.here = s.sum(s.dev)
}

// of is the sum of an image of this window.
func (s *summer) of(img *memdev.Device) uint64 { return s.total + s.sum(img) - s.here }

// settle is called when writes of the window went to dev.
func (s *summer) settle() { s.total += s.sum(s.dev) - s.here }

// sum adds up the units in dev, wherever they lie.
func (s *summer) sum(dev *memdev.Device) (total uint64) {
	for units := s.units; len(units) > 0; {
		n := 1
		for n < len(units) && n < 256 && units[n] == units[0]+int64(n) {
			n++
		}
		if len(s.buf) < n*sumUnit {
			s.buf = make([]byte, n*sumUnit)
		}
		got, _ := dev.ReadAt(s.buf[:n*sumUnit], units[0]*sumUnit) // short at the end only
		clear(s.buf[got : n*sumUnit])
		for k := range n {
			total += mix(ondisk.XXH64(s.buf[k*sumUnit:][:sumUnit]) ^ mix(uint64(units[k])))
		}
		units = units[n:]
	}
	return total
}

// mix spreads the bits of x, so that sums of it do not cancel out.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
