// Package faultdev is a device that fails on demand. It wraps another one and
// applies rules to the requests that pass; each rule prints itself, so that a
// failing test says what was done to it.
//
//	caller -> faultdev: fail write 3, flip bit 5 of reads in [0x0, 0x10000) -> device
//
// A fault test fails operation 1, 2, 3 ... until a run passes untouched; see
// Rule.Nth. Delay and hang do not use the clock by themselves: the test gives
// a function for one and ends the other with Release.
//
// Not here: what a power cut leaves (crashdev).
package faultdev

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"golang.org/x/sys/unix"
)

var _ ondisk.Device = (*Device)(nil)

// ErrFault is what a failing rule without an error of its own returns.
var ErrFault = fmt.Errorf("injected fault: %w", unix.EIO)

// A Device applies rules to the requests of another one.
type Device struct {
	dev ondisk.Device

	// Sleep serves delay rules; nil means that they do nothing but count.
	// Set it before the first request.
	Sleep func(time.Duration)

	mu     sync.Mutex // guards what follows; never held during I/O
	rules  []*state
	counts map[Op]int
	log    []string
	hung   int
	hang   chan struct{} // closed by Release
}

// A state is a rule and what has come of it.
type state struct {
	Rule
	seen, fired int
}

// New returns dev with rules.
func New(dev ondisk.Device, rules ...Rule) *Device {
	d := &Device{dev: dev, counts: make(map[Op]int), hang: make(chan struct{})}
	d.Add(rules...)
	return d
}

// Add adds rules behind those there are. The first that matches a request is
// applied, and no other.
func (d *Device) Add(rules ...Rule) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range rules {
		d.rules = append(d.rules, &state{Rule: r})
	}
}

// Clear removes all rules; what hangs goes on hanging.
func (d *Device) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rules = nil
}

// Release lets all hung requests go on, and so succeed.
func (d *Device) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.hang)
	d.hang = make(chan struct{})
}

// Hung is the number of requests that hang.
func (d *Device) Hung() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hung
}

// Count is the number of requests seen, faulty ones included; of all kinds
// for Any.
func (d *Device) Count(op Op) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if op != Any {
		return d.counts[op]
	}
	n := 0
	for _, c := range d.counts {
		n += c
	}
	return n
}

// Log lists the faults so far, one line each.
func (d *Device) Log() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.log)
}

// match counts a request and returns the rule for it, if any.
func (d *Device) match(op Op, off int64, n int) (Rule, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts[op]++
	var hit *state
	for _, r := range d.rules {
		if !r.covers(op, off, n) {
			continue
		}
		if r.seen++; hit == nil && r.due() {
			hit = r
		}
	}
	if hit == nil {
		return Rule{}, false
	}
	hit.fired++
	d.log = append(d.log, fmt.Sprintf("%v: %v at %#x, %d bytes", hit.Rule, op, off, n))
	return hit.Rule, true
}

// wait serves the faults that only take time, and reports whether r was one.
func (d *Device) wait(r Rule) bool {
	switch r.Do {
	case Delay:
		if d.Sleep != nil {
			d.Sleep(time.Duration(r.Arg))
		}
	case Hang:
		d.mu.Lock()
		d.hung++
		released := d.hang
		d.mu.Unlock()
		<-released
		d.mu.Lock()
		d.hung--
		d.mu.Unlock()
	default:
		return false
	}
	return true
}

// ReadAt implements ondisk.Device.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	r, ok := d.match(Read, off, len(p))
	if !ok || d.wait(r) {
		return d.dev.ReadAt(p, off)
	}
	switch r.Do {
	case Torn:
		n, err := d.dev.ReadAt(p[:clamp(r.Arg, len(p))], off)
		if err == nil {
			err = r.err()
		}
		return n, err
	case Misdirect:
		return d.dev.ReadAt(p, off+r.Arg)
	case Lose:
		clear(p)
		return len(p), nil
	case Flip:
		n, err := d.dev.ReadAt(p, off)
		flip(p[:n], r, off)
		return n, err
	}
	return 0, r.err()
}

// WriteAt implements ondisk.Device.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	r, ok := d.match(Write, off, len(p))
	if !ok || d.wait(r) {
		return d.dev.WriteAt(p, off)
	}
	switch r.Do {
	case Torn:
		n, err := d.dev.WriteAt(p[:clamp(r.Arg, len(p))], off)
		if err == nil {
			err = r.err()
		}
		return n, err
	case Misdirect:
		return d.dev.WriteAt(p, off+r.Arg)
	case Lose:
		return len(p), nil
	case Flip:
		bad := slices.Clone(p)
		flip(bad, r, off)
		return d.dev.WriteAt(bad, off)
	}
	return 0, r.err()
}

// Flush implements ondisk.Device.
func (d *Device) Flush() error {
	r, ok := d.match(Flush, 0, 0)
	switch {
	case !ok || d.wait(r):
		return d.dev.Flush()
	case r.Do == Lose:
		return nil
	}
	return r.err()
}

// Discard implements ondisk.Device.
func (d *Device) Discard(off, n int64) error {
	r, ok := d.match(Discard, off, int(n))
	switch {
	case !ok || d.wait(r):
		return d.dev.Discard(off, n)
	case r.Do == Lose:
		return nil
	case r.Do == Misdirect:
		return d.dev.Discard(off+r.Arg, n)
	}
	return r.err()
}

// Measure implements ondisk.Device.
func (d *Device) Measure() (int64, error) { return d.dev.Measure() }

// Size implements ondisk.Device.
func (d *Device) Size() int64 { return d.dev.Size() }

// BlockSize implements ondisk.Device.
func (d *Device) BlockSize() int { return d.dev.BlockSize() }

// Name implements ondisk.Device.
func (d *Device) Name() string { return d.dev.Name() }

// Close implements ondisk.Device. It has no faults of its own.
func (d *Device) Close() error { return d.dev.Close() }

func clamp(n int64, limit int) int { return int(min(max(n, 0), int64(limit))) }

// flip inverts one bit of p, which lies at off. Arg counts bits from the
// beginning of the rule's range, or of the request if it has none.
func flip(p []byte, r Rule, off int64) {
	at := r.Arg / 8
	if r.End > 0 {
		at += r.Beg - off
	}
	if at >= 0 && at < int64(len(p)) {
		p[at] ^= 1 << (r.Arg % 8)
	}
}
