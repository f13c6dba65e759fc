package faultdev

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// An Op is a kind of request.
type Op uint8

// The kinds of requests; Any in a rule stands for all.
const (
	Any Op = iota
	Read
	Write
	Flush
	Discard
)

// A Fault is what a rule does.
type Fault uint8

// The faults. Arg is the rule's.
const (
	Fail      Fault = iota // nothing happens but an error
	Torn                   // the first Arg bytes happen, then an error
	Misdirect              // it happens Arg bytes further on, without an error
	Lose                   // nothing happens, without an error; a read gives zeros
	Flip                   // bit Arg is inverted, without an error
	Hang                   // it waits for Device.Release
	Delay                  // it happens Arg nanoseconds later
	Full                   // no space
)

var (
	opNames    = []string{"request", "read", "write", "flush", "discard"}
	faultNames = []string{"fail", "tear", "misdirect", "lose", "flip", "hang", "delay", "no space for"}
)

// String names the kind in messages.
func (o Op) String() string { return opNames[o] }

// String is the verb of a rule.
func (f Fault) String() string { return faultNames[f] }

// Always in Rule.Times is no limit.
const Always = -1

// A Rule says which requests get which fault. The zero value fails the first
// request of any kind.
type Rule struct {
	Do  Fault
	Arg int64 // bytes, bits or nanoseconds, by Do

	On       Op
	Beg, End int64 // only requests that touch bytes [Beg, End); End 0 = all
	Nth      int   // first matching request to hit, from 1; 0 means 1
	Times    int   // how many from there on; 0 means 1, or Always

	Err error // instead of ErrFault, or of "no space" with Full
}

// String says what the rule does, as in "fail write 3 in [0x0, 0x10000)".
func (r Rule) String() string {
	s := r.Do.String()
	switch r.Do {
	case Torn:
		s += fmt.Sprintf(" after %d bytes", r.Arg)
	case Misdirect:
		s += fmt.Sprintf(" by %+d bytes", r.Arg)
	case Flip:
		s += fmt.Sprintf(" bit %d of", r.Arg)
	case Delay:
		s += fmt.Sprintf(" by %v", time.Duration(r.Arg))
	}
	first, times := max(r.Nth, 1), max(r.Times, 1)
	switch {
	case r.Times == Always && first == 1:
		s += fmt.Sprintf(" every %v", r.On)
	case r.Times == Always:
		s += fmt.Sprintf(" %v %d and all later ones", r.On, first)
	case times == 1:
		s += fmt.Sprintf(" %v %d", r.On, first)
	default:
		s += fmt.Sprintf(" %v %d to %d", r.On, first, first+times-1)
	}
	if r.End > 0 {
		s += fmt.Sprintf(" in [%#x, %#x)", r.Beg, r.End)
	}
	return s
}

// covers reports whether the rule counts this request.
func (r *Rule) covers(op Op, off int64, n int) bool {
	if r.On != Any && r.On != op {
		return false
	}
	return r.End == 0 || op != Flush && off < r.End && off+int64(n) > r.Beg
}

// due reports whether the request just counted is one to hit.
func (s *state) due() bool {
	first, times := max(s.Nth, 1), max(s.Times, 1)
	return s.seen >= first && (s.Times == Always || s.seen < first+times)
}

func (r *Rule) err() error {
	switch {
	case r.Err != nil:
		return r.Err
	case r.Do == Full:
		return fmt.Errorf("injected fault: %w", unix.ENOSPC)
	}
	return fmt.Errorf("%w (%v)", ErrFault, r)
}
