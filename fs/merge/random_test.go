package merge

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/anvilfs/anvilfs/tests/bar"
)

// TestHistories merges random histories of both sides. Every content is written
// once, so it says where it comes from: what either side wrote is in the result,
// what both left alone, too, and nothing else. Then the merge is cut off after
// some steps, as a crash does, and ends the same.
func TestHistories(t *testing.T) {
	n := bar.Goal{What: "merges of random histories", Quick: 40, Test: 250, Nightly: 10000}.N(t)
	if s := os.Getenv("ANVILFS_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		history(t, seed)
		return
	}
	first := uint64(1) // the same ones for whoever changes something, others each night
	if bar.Of(t) == bar.Nightly {
		first = rand.Uint64N(1 << 40)
	}
	t.Run("seeds", func(t *testing.T) {
		for i := range n {
			seed := first + uint64(i)
			t.Run(fmt.Sprint(seed), func(t *testing.T) { t.Parallel(); history(t, seed) })
		}
	})
}

// A player makes random calls.
type player struct {
	s    *stage
	rng  *rand.Rand
	side string
	n    int
	gone []string // contents that its calls took away
}

var names = []string{"a", "b", "c", "d", "e"}

// path is a name in a directory, which may not be there.
func (p *player) path() string {
	parts := []string{names[p.rng.IntN(len(names))]}
	for p.rng.IntN(5) < 2 {
		parts = append([]string{strings.ToUpper(names[p.rng.IntN(2)])}, parts...)
	}
	return strings.Join(parts, "/")
}

func (p *player) dir() string {
	parts := []string{strings.ToUpper(names[p.rng.IntN(2)])}
	if p.rng.IntN(3) == 0 {
		parts = append(parts, strings.ToUpper(names[p.rng.IntN(2)]))
	}
	return strings.Join(parts, "/")
}

func (p *player) content() string {
	p.n++
	return fmt.Sprintf("%s%d", p.side, p.n)
}

func (p *player) play(calls int) {
	p.s.t.Helper()
	for range calls {
		var w []string
		switch p.rng.IntN(16) {
		case 0, 1, 2, 3:
			w = []string{"write", p.path(), p.content()}
		case 4:
			w = []string{"fill", p.path(), p.content()}
		case 5, 6:
			w = []string{"mkdir", p.dir()}
		case 7:
			w = []string{"rm", p.path()}
		case 8:
			w = []string{"rmdir", p.dir()}
		case 9, 10:
			w = []string{"mv", p.path(), p.path()}
		case 11:
			w = []string{"mv", p.dir(), p.dir()}
		case 12:
			w = []string{"swap", p.path(), p.path()}
		case 13:
			w = []string{"ln", p.path(), p.path()}
		case 14:
			w = []string{"chmod", p.path(), "600"}
		case 15:
			w = []string{"attr", p.path(), "k", p.content()}
		}
		if err := p.s.step(w); err != nil && !refused(err) {
			p.s.t.Fatalf("%v: %v", w, err)
		}
	}
}

// refused reports whether a call failed as it should.
func refused(err error) bool {
	var no syscall.Errno
	if errors.As(err, &no) {
		return slices.Contains([]syscall.Errno{syscall.EEXIST, syscall.ENOENT, syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY,
			syscall.EINVAL, syscall.EPERM}, no)
	}
	return errors.Is(err, errNoPath)
}

// contents are what the files hold, as written.
func contents(show string) map[string]bool {
	all := make(map[string]bool)
	for line := range strings.Lines(show) {
		if _, c, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && !strings.HasPrefix(line, "conflict ") {
			if len(c) > 40 {
				c = c[:40] // of a large one, the beginning will do
			}
			all[c] = true
		}
	}
	return all
}

func history(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	s := newStage(t)
	s.brief = func(b []byte) string { return string(b[:min(len(b), 40)]) }
	var base, ours, theirs string
	s.part(func() {
		(&player{s: s, rng: rng, side: "base"}).play(10 + rng.IntN(40))
		base = s.show()
	}, func() {
		(&player{s: s, rng: rng, side: "ours"}).play(rng.IntN(40))
		ours = s.show()
	}, func() {
		(&player{s: s, rng: rng, side: "theirs"}).play(rng.IntN(40))
		theirs = s.show()
	})
	fresh := s.w.Clone()
	s.merge(Options{Small: 1 << 20})
	merged := s.show()
	s.close()
	s.sound()
	complain := func(format string, args ...any) {
		t.Helper()
		t.Errorf("seed %d: %s\nbase:\n%s\nours:\n%s\ntheirs:\n%s\nmerged:\n%s\nANVILFS_SEED=%d go test ./fs/merge -run TestHistories replays it",
			seed, fmt.Sprintf(format, args...), base, ours, theirs, merged, seed)
	}
	b, o, th, m := contents(base), contents(ours), contents(theirs), contents(merged)
	for c := range m {
		if !o[c] && !th[c] {
			complain("%q is in the result, and neither side had it", c)
		}
	}
	for c := range o {
		if !m[c] && (!b[c] || th[c]) {
			complain("%q of the branch is lost", c)
		}
	}
	for c := range th {
		if !m[c] && !b[c] {
			complain("%q of the cluster is lost", c)
		}
	}
	if strings.Contains(merged, ".anvilfs-merge-") {
		complain("a name that was for the time of the merge is left")
	}
	for _, lost := range unlisted(merged) {
		complain("%s is there and not listed, or listed and not there", lost)
	}
	if t.Failed() {
		return
	}
	if again := cutOff(t, s, fresh, rng); again != merged {
		complain("cut off by crashes the merge ends otherwise:\n%s", again)
	}
}

// unlisted compares the names of conflicts with the list.
func unlisted(show string) []string {
	there, listed := make(map[string]bool), make(map[string]bool)
	for line := range strings.Lines(show) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "conflict "); ok {
			if parts := strings.Split(rest, ": "); len(parts) == 3 {
				listed[parts[2]] = true
			}
			continue
		}
		path, _, _ := strings.Cut(line, " ")
		path = strings.TrimSuffix(path, "/")
		if i := strings.LastIndexByte(path, '/'); strings.Contains(path[i+1:], ".conflict-") {
			there[path] = true
		}
	}
	var odd []string
	for p := range maps.Keys(there) {
		if !listed[p] {
			odd = append(odd, p)
		}
	}
	return odd
}
