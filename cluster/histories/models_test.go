package histories

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// What every history has beside its calls.
type (
	synced  struct{} // input: a sync that succeeded
	crashed struct{} // input: the process died
	unknown struct{} // output: the call was cut off
)

// A state is what a crash could make of the present.
type state[V comparable] struct {
	now   V
	since []V // all values since the last sync, now among them
}

// durable makes a model of a sequential one: step returns the values after a
// call that had that outcome; none: it cannot have.
func durable[V comparable](init V, step func(v V, in, out any) []V) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{state[V]{init, []V{init}}} },
		Step: func(s, in, out any) []any {
			st := s.(state[V])
			var next []any
			switch in.(type) {
			case synced:
				next = append(next, state[V]{st.now, []V{st.now}})
			case crashed:
				for _, v := range st.since {
					next = append(next, state[V]{v, []V{v}})
				}
			default:
				for _, v := range step(st.now, in, out) {
					next = append(next, st.to(v))
				}
			}
			return next
		},
		Equal: func(a, b any) bool {
			x, y := a.(state[V]), b.(state[V])
			return x.now == y.now && len(x.since) == len(y.since) && x.covers(y)
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%T%+v -> %v", in, in, out) },
	}
	return m.ToModel()
}

func (s state[V]) to(v V) state[V] {
	if slices.Contains(s.since, v) {
		return state[V]{v, s.since}
	}
	return state[V]{v, append(slices.Clone(s.since), v)}
}

func (s state[V]) covers(o state[V]) bool {
	for _, v := range o.since {
		if !slices.Contains(s.since, v) {
			return false
		}
	}
	return true
}

// A block is a register; values are unique numbers, 0 at first.
type (
	readBlock  struct{}
	writeBlock struct{ value uint64 }
)

const torn = ^uint64(0) // output of a read of parts of several values

var register = durable(uint64(0), func(v uint64, in, out any) []uint64 {
	switch in := in.(type) {
	case writeBlock:
		if out == any(unknown{}) {
			return []uint64{v, in.value}
		}
		return []uint64{in.value}
	case readBlock:
		if out == any(v) || out == any(unknown{}) {
			return []uint64{v}
		}
	}
	return nil
})

// A directory of a few names; a value is the inode behind each, 0 = none.
const dirNames = 3

type dirState [dirNames]uint64

type (
	create struct{ name int }
	unlink struct{ name int }
	lookup struct{ name int }
	rename struct{ from, to int }
)

// Outcomes of calls about names, beside the inode number.
const (
	exists  = "exists"
	absent  = "absent"
	succeed = "ok"
)

var names = durable(dirState{}, func(d dirState, in, out any) []dirState {
	cut := out == any(unknown{})
	set := func(name int, inum uint64) dirState { n := d; n[name] = inum; return n }
	either := func(ok bool, no any, next dirState) []dirState {
		switch {
		case cut && ok:
			return []dirState{d, next}
		case cut || !ok && out == no:
			return []dirState{d}
		case ok && out != no:
			return []dirState{next}
		}
		return nil
	}
	switch in := in.(type) {
	case create:
		inum, _ := out.(uint64)
		if cut { // which number it got nobody knows: see someInode
			inum = someInode
		}
		return either(d[in.name] == 0, exists, set(in.name, inum))
	case unlink:
		return either(d[in.name] != 0, absent, set(in.name, 0))
	case lookup:
		have := d[in.name]
		if cut {
			return []dirState{d}
		}
		if have == someInode && out.(uint64) != 0 {
			return []dirState{set(in.name, out.(uint64))}
		}
		if out == any(have) {
			return []dirState{d}
		}
		return nil
	case rename:
		next := d
		next[in.from], next[in.to] = 0, d[in.from]
		if in.from == in.to {
			next = d
		}
		return either(d[in.from] != 0, absent, next)
	}
	return nil
})

// someInode is the number of a file whose creation was cut off.
const someInode = ^uint64(0)

// A file that is appended to: the records in their order.
type (
	appendRecord struct{ id string }
	readRecords  struct{}
)

var appends = durable("", func(v string, in, out any) []string {
	switch in := in.(type) {
	case appendRecord:
		if out == any(unknown{}) {
			return []string{v, v + in.id}
		}
		return []string{v + in.id}
	case readRecords:
		if out == any(v) || out == any(unknown{}) {
			return []string{v}
		}
	}
	return nil
})

// A lock, by whom it is held; 0 = free.
type (
	tryLock struct{ who int }
	unlock  struct{ who int }
)

var lock = durable(0, func(holder int, in, out any) []int {
	switch in := in.(type) {
	case tryLock:
		if got := out.(bool); got != (holder == 0) {
			return nil
		}
		return []int{max(holder, in.who*b2i(holder == 0))}
	case unlock:
		if holder == in.who {
			return []int{0}
		}
	}
	return nil
})

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// modelOf is the model of a partition, by its name.
func modelOf(part string) porcupine.Model {
	kind, _, _ := strings.Cut(part, " ")
	return map[string]porcupine.Model{"block": register, "dir": names, "log": appends, "lock": lock}[kind]
}
