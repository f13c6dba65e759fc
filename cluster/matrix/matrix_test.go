package matrix

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/tests/bar"
)

func newRun(t *testing.T, c cell, b *base) *run {
	c.row = c.meeting()
	r := &run{
		t: t, cell: c, rng: c.dice(0), base: b, w: b.world.Clone(), limit: quick,
		begun: time.Now(), fired: make(chan struct{}), seen: make(map[cluster.NodeState]cluster.NodeStatus),
		became: make(map[cluster.CacheState]string),
	}
	r.m = r.w.Members[c.member]
	r.ill = r.m
	if c.at == wrap {
		r.nearRingEnd()
	}
	if p := c.row.prepare; p != nil {
		p(r)
	}
	return r
}

// cells lists all that make sense, and says why the others do not.
func cells() (all []cell, left map[string]int) {
	left = make(map[string]int)
	for _, ro := range rows() {
		for m := range nodes {
			for at := range moments {
				for _, bare := range []bool{false, true} {
					c := cell{row: ro, member: m, at: at, bare: bare}
					if why := c.senseless(); why != "" {
						left[why]++
						continue
					}
					all = append(all, c)
				}
			}
		}
	}
	return all, left
}

// senseless says why there is no such cell; "" if there is.
func (c cell) senseless() string {
	switch {
	case c.bare && c.member >= masters:
		return "a slave has no vote that could be missed"
	case c.bare && (c.at == copying || c.at == swap):
		return "a node that is resynced has no vote yet: another master cannot be missed as well"
	case c.at >= record && !slices.Contains(c.row.logs, c.at):
		return "nothing of it has to do with the intent log"
	case c.bare && (c.at == unleveled || c.at == wrap):
		return "the quorum goes as it does at other moments"
	case c.row.skip != nil:
		return c.row.skip(c)
	}
	return ""
}

func TestMatrix(t *testing.T) {
	all, left := cells()
	for why, n := range left {
		t.Logf("%d cells left out: %s", n, why)
	}
	goal := bar.Goal{What: "fault matrix cells", Quick: 40, Test: len(all), Nightly: 50 * len(all)}
	n := goal.N(t)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	var play []cell
	for i := range n {
		c := all[i%len(all)]
		if bar.Of(t) == bar.Quick {
			c = all[rng.IntN(len(all))]
		}
		c.seed = uint64(i)
		play = append(play, c)
	}
	only := os.Getenv("ANVILFS_CELL")
	if only != "" {
		play = nil
		for i := range max(n, len(all)) {
			c := all[i%len(all)]
			c.seed = uint64(i)
			if regexp.MustCompile(only).MatchString(c.String()) {
				play = append(play, c)
			}
		}
		if len(play) == 0 {
			t.Fatalf("ANVILFS_CELL=%s fits no cell", only)
		}
	}
	began := time.Now()
	var done atomic.Int64
	t.Run("cells", func(t *testing.T) {
		for i, c := range play {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				if goal.Over(t, began, i) {
					return
				}
				c.play(t)
				if !t.Failed() {
					done.Add(1)
				}
			})
		}
	})
	if only == "" {
		goal.Check(t, int(done.Load()))
	}
}
