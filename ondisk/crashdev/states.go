package crashdev

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A State is one thing that a cut can leave.
type State struct {
	Name  string // what was kept; the same for the same recording and seed
	N     int    // events before the cut: what was acknowledged by then must be there
	Torn  bool   // some write is there in part
	Sum   uint64 // the same for two states of a recording whose images are the same
	Image *memdev.Device
}

// Options of Each. The zero value is a thorough run.
type Options struct {
	Seed       uint64
	Exhaustive int    // windows of up to this many writes get every subset; 0 means 10
	Max        int    // states of one window, chosen by the seed; 0 means all
	Only       string // the state of that name; "" means all
	Every      int    // only every so many windows; 0 and 1 mean each
	First      int    // which of the first Every windows is the first, from 0
}

// A plan says which sectors of which writes of a window are kept; nil keeps a
// whole write.
type plan struct {
	name string
	n    int
	torn bool
	keep map[int]func(sector int) bool
}

var nothing = func(int) bool { return false }

// Each calls fn with the states of the recording, window by window, until it
// returns false; a window is what lies between two flushes. Of each window:
//
//   - every prefix, and every write torn after a prefix;
//   - every subset if it is small; else one write dropped, one write kept,
//     and 64 random subsets;
//   - all writes but a part of one.
//
// Headers, and parts of them, are torn at every sector and in 32 random ways,
// other writes in a few. States that are the same as a later one with more
// acknowledged are left out. It returns how many there were.
func (d *Device) Each(opt Options, fn func(State) bool) int {
	d.mu.Lock()
	rec := &Device{dev: d.dev, base: d.base, parts: d.parts, events: slices.Clone(d.events)}
	d.mu.Unlock()
	return rec.each(opt, fn) // without the lock: fn may ask d for more
}

func (d *Device) each(opt Options, fn func(State) bool) int {
	w := window{d: d, opt: opt, fn: fn, sum: newSummer(d.base)}
	for i, ev := range d.events {
		if ev.data != nil {
			w.open = append(w.open, i)
			continue
		}
		if !w.run(i, true) {
			return w.count
		}
		w.flush(i)
	}
	w.run(len(d.events), false)
	return w.count
}

// A window goes over a recording.
type window struct {
	d     *Device
	opt   Options
	fn    func(State) bool
	sum   *summer // of what is sure at the start of the window
	start int
	open  []int // writes that are not
	past  int   // windows before this one
	count int
}

// run hands out the states of the window up to event end.
func (w *window) run(end int, closed bool) bool {
	d := w.d
	if w.past++; w.opt.Every > 1 && (w.past-1)%w.opt.Every != w.opt.First {
		return true
	}
	plans := d.plans(w.open, w.start, end, closed, w.opt)
	if w.opt.Max > 0 && len(plans) > w.opt.Max && w.opt.Only == "" {
		rng := rand.New(rand.NewPCG(w.opt.Seed, 1<<32+uint64(w.start)))
		plans = draw(plans, w.opt.Max, rng)
	}
	w.sum.window(d, w.open)
	for _, p := range plans {
		if w.opt.Only != "" && p.name != w.opt.Only {
			continue
		}
		img := w.sum.dev.Clone()
		for _, i := range w.open {
			d.apply(img, i, p.pick(i))
		}
		w.count++
		if !w.fn(State{Name: p.name, N: p.n, Torn: p.torn, Sum: w.sum.of(img), Image: img}) {
			return false
		}
	}
	return true
}

// draw chooses n plans at random, half of them with whole writes only: there
// are many more of the others.
func draw(plans []plan, n int, rng *rand.Rand) []plan {
	var kinds [2][]plan
	for _, i := range rng.Perm(len(plans)) {
		k := 0
		if plans[i].torn {
			k = 1
		}
		kinds[k] = append(kinds[k], plans[i])
	}
	var list []plan
	for k := rng.IntN(2); len(list) < n; k = 1 - k {
		if len(kinds[k]) > 0 {
			list = append(list, kinds[k][0])
			kinds[k] = kinds[k][1:]
		}
	}
	return list
}

// flush makes what event i covers sure.
func (w *window) flush(i int) {
	var left []int
	for _, k := range w.open {
		if w.d.covers(i, k) {
			w.d.apply(w.sum.dev, k, nil)
		} else {
			left = append(left, k)
		}
	}
	w.sum.settle()
	w.open, w.start = left, i+1
}

func (p *plan) pick(event int) func(event, sector int) bool {
	part, ok := p.keep[event]
	if !ok {
		return nil
	}
	return func(_, sector int) bool { return part(sector) }
}

// plans lists the states of the window [start, end) with these open writes.
func (d *Device) plans(open []int, start, end int, closed bool, opt Options) []plan {
	// Each window has numbers of its own: its states do not depend on others'.
	rng := rand.New(rand.NewPCG(opt.Seed, uint64(start)))
	plans := []plan{lose(fmt.Sprintf("cut after %d, nothing of the window", start), start, open)}
	for k, w := range open {
		name := fmt.Sprintf("cut after %d of %d", k+1, len(open))
		for _, t := range d.tears(w, rng) {
			p := lose(fmt.Sprintf("window from %d, %s, write %d %s", start, name, w, t.name), max(w+1, start), open[k+1:])
			p.keep[w], p.torn = t.keep, true
			plans = append(plans, p)
		}
		if k+1 < len(open) || !closed {
			plans = append(plans, lose(fmt.Sprintf("window from %d, %s", start, name), max(w+1, start), open[k+1:]))
		}
	}
	if len(open) < 2 {
		return plans
	}
	limit := opt.Exhaustive
	if limit == 0 {
		limit = 10
	}
	if len(open) <= limit {
		plans = append(plans, subsets(open, start, end)...)
	} else {
		plans = append(plans, samples(open, start, end, rng)...)
	}
	for _, w := range open[:len(open)-1] {
		p := lose(fmt.Sprintf("window from %d, half of write %d lost", start, w), end, nil)
		half := d.sectors(w) / 2
		p.keep[w], p.torn = func(s int) bool { return s < half }, true
		plans = append(plans, p)
	}
	return plans
}

// lose keeps all but the writes in lost.
func lose(name string, n int, lost []int) plan {
	p := plan{name: name, n: n, keep: make(map[int]func(int) bool, len(lost)+1)}
	for _, w := range lost {
		p.keep[w] = nothing
	}
	return p
}

// subsets lists all that are not prefixes.
func subsets(open []int, start, end int) []plan {
	var plans []plan
	for mask := range 1 << len(open) {
		if mask&(mask+1) == 0 { // the lowest ones: a prefix
			continue
		}
		var lost []int
		for k, w := range open {
			if mask>>k&1 == 0 {
				lost = append(lost, w)
			}
		}
		plans = append(plans, lose(fmt.Sprintf("window from %d, lost %v", start, lost), end, lost))
	}
	return plans
}

// samples lists subsets of a large window.
func samples(open []int, start, end int, rng *rand.Rand) []plan {
	const random = 64
	var plans []plan
	for k, w := range open {
		if k+1 < len(open) {
			plans = append(plans, lose(fmt.Sprintf("window from %d, lost only %d", start, w), end, []int{w}))
		}
		if k > 0 {
			lost := append(append([]int{}, open[:k]...), open[k+1:]...)
			plans = append(plans, lose(fmt.Sprintf("window from %d, kept only %d", start, w), end, lost))
		}
	}
	for i := range random {
		var lost []int
		for _, w := range open {
			if rng.IntN(2) == 0 {
				lost = append(lost, w)
			}
		}
		plans = append(plans, lose(fmt.Sprintf("window from %d, random subset %d", start, i), end, lost))
	}
	return plans
}

func (d *Device) sectors(w int) int {
	bs := int64(d.dev.BlockSize())
	ev := &d.events[w]
	return int((ev.off%bs + int64(len(ev.data)) + bs - 1) / bs)
}

// spareSlot is where a volume with one header slot has its second copy.
const spareSlot = ondisk.ReservedSize - ondisk.HeaderSize

// header reports whether write w goes to a place for headers and nowhere else.
// How much of the header it is does not matter.
func (d *Device) header(w int) bool {
	ev := &d.events[w]
	for _, p := range d.parts {
		if ev.off < p.beg || ev.off >= p.end {
			continue
		}
		off := ev.off - p.beg
		at := off % ondisk.HeaderZone
		if off >= spareSlot && off < ondisk.ReservedSize {
			at = off - spareSlot
		}
		return at+int64(len(ev.data)) <= ondisk.HeaderSize
	}
	return false
}

type tear struct {
	name string
	keep func(sector int) bool
}

// tears lists ways in which only a part of write w reaches the media.
func (d *Device) tears(w int, rng *rand.Rand) []tear {
	const headerTears, otherTears = 32, 1
	n := d.sectors(w)
	cuts, random := []int{1, n / 2, n - 1}, otherTears
	if d.header(w) {
		random = headerTears
		cuts = nil
		for c := 1; c < n; c++ {
			cuts = append(cuts, c)
		}
	}
	var ts []tear
	last := 0
	for _, c := range cuts {
		if c <= last || c >= n {
			continue
		}
		last = c
		ts = append(ts, tear{fmt.Sprintf("torn after sector %d", c), func(s int) bool { return s < c }})
	}
	for range random {
		if n < 2 {
			break
		}
		seed := rng.Uint64()
		ts = append(ts, tear{fmt.Sprintf("torn by %#x", seed), func(s int) bool {
			return rand.New(rand.NewPCG(seed, uint64(s))).Uint64()&1 == 0
		}})
	}
	return ts
}
