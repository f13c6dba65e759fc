package merge

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestLive merges while the filesystem is in use: between any two items others
// make calls. What they write is there at the end, and so is what the branch
// wrote.
func TestLive(t *testing.T) {
	for i := range 40 {
		seed := rand.Uint64N(1 << 40)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			s := newStage(t)
			s.brief = func(b []byte) string { return string(b[:min(len(b), 40)]) }
			var base, ours string
			s.part(func() {
				(&player{s: s, rng: rng, side: "base"}).play(40)
				base = s.show()
			}, func() {
				(&player{s: s, rng: rng, side: "ours"}).play(40)
				ours = s.show()
			}, func() {
				(&player{s: s, rng: rng, side: "theirs"}).play(20)
			})
			wrote := make(map[string]bool) // by others, and not overwritten or removed by them
			others := &player{s: s, rng: rng, side: "live"}
			s.merge(Options{Small: 1 << 20, pause: func(locked bool) {
				if locked || rng.IntN(3) > 0 {
					return
				}
				path, content := fmt.Sprintf("%s-live%d", others.path(), others.n), others.content()
				if rng.IntN(2) == 0 {
					path = others.path()
				}
				if strings.Contains(path, "-live") && s.write(path, []byte(content)) == nil {
					wrote[content] = true // of a name of their own
				} else {
					before := s.show()
					if err := s.write(path, []byte(content)); err == nil {
						wrote[content] = true
						after := contents(s.show())
						for c := range contents(before) {
							if !after[c] {
								delete(wrote, c)
								others.gone = append(others.gone, c)
							}
						}
					}
				}
			}})
			merged := s.show()
			m := contents(merged)
			for c := range wrote {
				if !m[c] {
					t.Errorf("%q was written during the merge and is lost\nbase:\n%s\nours:\n%s\nmerged:\n%s", c, base, ours, merged)
				}
			}
			gone := make(map[string]bool)
			for _, c := range others.gone {
				gone[c] = true
			}
			b := contents(base)
			for c := range contents(ours) {
				if !m[c] && !b[c] && !gone[c] {
					t.Errorf("%q of the branch is lost\nbase:\n%s\nours:\n%s\nmerged:\n%s", c, base, ours, merged)
				}
			}
			s.close()
			s.sound()
		})
	}
}
