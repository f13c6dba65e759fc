package histories

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	maxCalls      = 2000 // of one history
	checkPatience = time.Minute
)

// A recorder keeps a history, by partition. Its clock ticks at each call and
// each return, so that the order of instants is that of real time.
type recorder struct {
	clock atomic.Int64

	mu    sync.Mutex // guards what follows
	parts map[string][]porcupine.Operation
	open  []open // outcomes that are not known
	calls int
}

// An open call may take effect until something ends it.
type open struct {
	part string
	at   int // index in its partition
}

func newRecorder(parts ...string) *recorder {
	r := &recorder{parts: make(map[string][]porcupine.Operation)}
	for _, p := range parts {
		r.parts[p] = nil
	}
	return r
}

// do records one call. known is false if its outcome is not.
func (r *recorder) do(part string, client int, in any, call func() (out any, known bool)) {
	began := r.clock.Add(1)
	out, known := call()
	if !known {
		out = unknown{}
	}
	ended := r.clock.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if !known {
		r.open = append(r.open, open{part, len(r.parts[part])})
		ended = math.MaxInt64
	}
	r.parts[part] = append(r.parts[part], porcupine.Operation{ClientId: client, Input: in, Call: began, Output: out, Return: ended})
}

// everywhere records what concerns every partition.
func (r *recorder) everywhere(client int, in any, began int64) {
	ended := r.clock.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	for part := range r.parts {
		r.parts[part] = append(r.parts[part], porcupine.Operation{ClientId: client, Input: in, Call: began, Output: succeed, Return: ended})
	}
}

// synced records a sync that returned without an error.
func (r *recorder) synced(client int, sync func() error) error {
	began := r.clock.Add(1)
	err := sync()
	if err == nil {
		r.everywhere(client, synced{}, began)
	}
	return err
}

// crashed records the end of a process. No call is out; what was cut off
// cannot happen later.
func (r *recorder) crashed() {
	began := r.clock.Add(1)
	r.mu.Lock()
	for _, o := range r.open {
		r.parts[o.part][o.at].Return = began
	}
	r.open = nil
	r.mu.Unlock()
	r.everywhere(0, crashed{}, r.clock.Add(1))
}

// verdict checks the history; nil if some order explains it.
func (r *recorder) verdict() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls > maxCalls {
		return fmt.Errorf("%d calls: too many for one history", r.calls)
	}
	for _, part := range slices.Sorted(maps.Keys(r.parts)) {
		ops := r.parts[part]
		switch res := porcupine.CheckOperationsTimeout(modelOf(part), ops, checkPatience); res {
		case porcupine.Ok:
		case porcupine.Illegal:
			return fmt.Errorf("%s: no order explains\n%s", part, describe(ops))
		default:
			return fmt.Errorf("%s: %d calls were not checked within %v (%s)", part, len(ops), checkPatience, res)
		}
	}
	return nil
}

func describe(ops []porcupine.Operation) string {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var out strings.Builder
	for _, o := range ops {
		ret := fmt.Sprint(o.Return)
		if o.Return == math.MaxInt64 {
			ret = "end"
		}
		fmt.Fprintf(&out, "  %6d..%-6s caller %d: %s%+v -> %v\n", o.Call, ret, o.ClientId, strings.TrimPrefix(fmt.Sprintf("%T", o.Input), "histories."), o.Input, o.Output)
	}
	return out.String()
}

// A wrong history, for each model and each rule of it.
func TestTheCheckerSees(t *testing.T) {
	seq := func(part string, calls ...[2]any) error {
		r := newRecorder(part)
		for _, c := range calls {
			switch c[0].(type) {
			case synced:
				r.everywhere(0, synced{}, r.clock.Add(1))
			case crashed:
				r.crashed()
			default:
				r.do(part, 0, c[0], func() (any, bool) { return c[1], c[1] != any(unknown{}) })
			}
		}
		return r.verdict()
	}
	type h = [][2]any
	for _, c := range []struct {
		name string
		part string
		good h
		bad  h
	}{
		{"stale read", "block 1", h{{writeBlock{1}, succeed}, {writeBlock{2}, succeed}, {readBlock{}, uint64(2)}}, h{{writeBlock{1}, succeed}, {writeBlock{2}, succeed}, {readBlock{}, uint64(1)}}},
		{"torn read", "block 1", h{{writeBlock{1}, succeed}, {readBlock{}, uint64(1)}}, h{{writeBlock{1}, succeed}, {readBlock{}, torn}}},
		{"a value comes back", "block 1", h{{writeBlock{1}, unknown{}}, {readBlock{}, uint64(0)}, {readBlock{}, uint64(1)}}, h{{writeBlock{1}, unknown{}}, {readBlock{}, uint64(1)}, {readBlock{}, uint64(0)}}},
		{"a synced write is lost", "block 1", h{{writeBlock{1}, succeed}, {crashed{}, nil}, {readBlock{}, uint64(0)}}, h{{writeBlock{1}, succeed}, {synced{}, nil}, {crashed{}, nil}, {readBlock{}, uint64(0)}}},
		{"a write from before a crash arrives late", "block 1", h{{writeBlock{1}, unknown{}}, {crashed{}, nil}, {readBlock{}, uint64(1)}}, h{{writeBlock{1}, unknown{}}, {crashed{}, nil}, {readBlock{}, uint64(0)}, {readBlock{}, uint64(1)}}},
		{"double create", "dir 1", h{{create{0}, uint64(7)}, {create{0}, exists}}, h{{create{0}, uint64(7)}, {create{0}, uint64(8)}}},
		{"another file", "dir 1", h{{create{0}, uint64(7)}, {lookup{0}, uint64(7)}}, h{{create{0}, uint64(7)}, {lookup{0}, uint64(8)}}},
		{"an unlinked name is found", "dir 1", h{{create{0}, uint64(7)}, {unlink{0}, succeed}, {lookup{0}, uint64(0)}}, h{{create{0}, uint64(7)}, {unlink{0}, succeed}, {lookup{0}, uint64(7)}}},
		{"both names of a rename", "dir 1", h{{create{0}, uint64(7)}, {rename{0, 1}, succeed}, {lookup{1}, uint64(7)}, {lookup{0}, uint64(0)}}, h{{create{0}, uint64(7)}, {rename{0, 1}, succeed}, {lookup{1}, uint64(7)}, {lookup{0}, uint64(7)}}},
		{"no name of a rename", "dir 1", h{{create{0}, uint64(7)}, {rename{0, 1}, unknown{}}, {lookup{0}, uint64(7)}}, h{{create{0}, uint64(7)}, {rename{0, 1}, unknown{}}, {lookup{0}, uint64(0)}, {lookup{1}, uint64(0)}}},
		{"a file of a call that was cut off changes", "dir 1", h{{create{0}, unknown{}}, {lookup{0}, uint64(7)}, {lookup{0}, uint64(7)}}, h{{create{0}, unknown{}}, {lookup{0}, uint64(7)}, {lookup{0}, uint64(8)}}},
		{"lost append", "log 1", h{{appendRecord{"a"}, succeed}, {appendRecord{"b"}, succeed}, {readRecords{}, "ab"}}, h{{appendRecord{"a"}, succeed}, {appendRecord{"b"}, succeed}, {readRecords{}, "b"}}},
		{"doubled append", "log 1", h{{appendRecord{"a"}, unknown{}}, {readRecords{}, "a"}}, h{{appendRecord{"a"}, unknown{}}, {readRecords{}, "aa"}}},
		{"two holders", "lock 1", h{{tryLock{1}, true}, {tryLock{2}, false}, {unlock{1}, succeed}, {tryLock{2}, true}}, h{{tryLock{1}, true}, {tryLock{2}, true}}},
		{"refused although free", "lock 1", h{{tryLock{1}, true}, {unlock{1}, succeed}, {tryLock{2}, true}}, h{{tryLock{1}, true}, {unlock{1}, succeed}, {tryLock{2}, false}}},
	} {
		if err := seq(c.part, c.good...); err != nil {
			t.Errorf("%s: a history without it is refused: %v", c.name, err)
		}
		if err := seq(c.part, c.bad...); err == nil {
			t.Errorf("%s is not seen", c.name)
		}
	}
}
