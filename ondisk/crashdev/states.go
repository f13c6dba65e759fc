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
	Image *memdev.Device
}

// Options of Each. The zero value is a thorough run.
type Options struct {
	Seed       uint64
	Exhaustive int // windows of up to this many writes get every subset; 0 means 10
	Max        int // states of one window, chosen by the seed; 0 means all
}

// A plan says which sectors of which writes of a window are kept; nil keeps a
// whole write.
type plan struct {
	name string
	n    int
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
// Headers are torn at every sector and in 32 random ways, other writes in a
// few. States that are the same as a later one with more acknowledged are
// left out. It returns how many there were.
func (d *Device) Each(opt Options, fn func(State) bool) int {
	d.mu.Lock()
	rec := &Device{dev: d.dev, base: d.base, events: slices.Clone(d.events)}
	d.mu.Unlock()
	return rec.each(opt, fn) // without the lock: fn may ask d for more
}

func (d *Device) each(opt Options, fn func(State) bool) int {
	rng := rand.New(rand.NewPCG(opt.Seed, 1))
	cur := d.base.Clone() // what is sure at the start of the window
	var open []int        // writes that are not
	start, count := 0, 0
	run := func(end int, closed bool) bool {
		plans := d.plans(open, start, end, closed, opt, rng)
		if opt.Max > 0 && len(plans) > opt.Max {
			rng.Shuffle(len(plans), func(i, j int) { plans[i], plans[j] = plans[j], plans[i] })
			plans = plans[:opt.Max]
		}
		for _, p := range plans {
			img := cur.Clone()
			for _, i := range open {
				d.apply(img, i, p.pick(i))
			}
			count++
			if !fn(State{Name: p.name, N: p.n, Image: img}) {
				return false
			}
		}
		return true
	}
	for i, ev := range d.events {
		if ev.data != nil {
			open = append(open, i)
			continue
		}
		if !run(i, true) {
			return count
		}
		var left []int
		for _, w := range open {
			if w < ev.upto && !ev.flying[w] {
				d.apply(cur, w, nil)
			} else {
				left = append(left, w)
			}
		}
		open, start = left, i+1
	}
	run(len(d.events), false)
	return count
}

func (p *plan) pick(event int) func(event, sector int) bool {
	part, ok := p.keep[event]
	if !ok {
		return nil
	}
	return func(_, sector int) bool { return part(sector) }
}

// plans lists the states of the window [start, end) with these open writes.
func (d *Device) plans(open []int, start, end int, closed bool, opt Options, rng *rand.Rand) []plan {
	plans := []plan{lose(fmt.Sprintf("cut after %d, nothing of the window", start), start, open)}
	for k, w := range open {
		name := fmt.Sprintf("cut after %d of %d", k+1, len(open))
		for _, t := range d.tears(w, rng) {
			p := lose(fmt.Sprintf("window from %d, %s, write %d %s", start, name, w, t.name), w+1, open[k+1:])
			p.keep[w] = t.keep
			plans = append(plans, p)
		}
		if k+1 < len(open) || !closed {
			plans = append(plans, lose(fmt.Sprintf("window from %d, %s", start, name), w+1, open[k+1:]))
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
		p := plan{fmt.Sprintf("window from %d, half of write %d lost", start, w), end, map[int]func(int) bool{}}
		half := d.sectors(w) / 2
		p.keep[w] = func(s int) bool { return s < half }
		plans = append(plans, p)
	}
	return plans
}

// lose keeps all but the writes in lost.
func lose(name string, n int, lost []int) plan {
	p := plan{name, n, make(map[int]func(int) bool, len(lost)+1)}
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

type tear struct {
	name string
	keep func(sector int) bool
}

// tears lists ways in which only a part of write w reaches the media.
func (d *Device) tears(w int, rng *rand.Rand) []tear {
	const headerTears, otherTears = 32, 1
	n := d.sectors(w)
	cuts, random := []int{1, n / 2, n - 1}, otherTears
	if ev := &d.events[w]; len(ev.data) == ondisk.HeaderSize && ev.off%ondisk.HeaderZone == 0 {
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
		if n < 3 {
			break
		}
		seed := rng.Uint64()
		ts = append(ts, tear{fmt.Sprintf("torn by %#x", seed), func(s int) bool {
			return rand.New(rand.NewPCG(seed, uint64(s))).Uint64()&1 == 0
		}})
	}
	return ts
}
