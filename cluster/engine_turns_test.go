package cluster

import (
	"fmt"
	"strings"
	"testing"
)

func TestTurns(t *testing.T) {
	var ts turns
	for i := range keptTurns + 3 {
		ts.add(Event{Node: fmt.Sprint(i)})
	}
	for _, c := range []struct{ from, n int }{
		{0, keptTurns}, {2, keptTurns}, {3, keptTurns}, {4, keptTurns - 1},
		{keptTurns + 2, 1}, {keptTurns + 3, 0}, {keptTurns + 9, 0},
	} {
		got, total := ts.since(c.from)
		if total != keptTurns+3 || len(got) != c.n {
			t.Errorf("after %d: %d of %d, want %d", c.from, len(got), total, c.n)
		}
		if c.n > 0 && got[c.n-1].Node != fmt.Sprint(keptTurns+2) {
			t.Errorf("after %d: the last is %s", c.from, got[c.n-1].Node)
		}
	}
}

// A state that is over before anybody looks is told all the same.
func TestEngineTellsStatesThatPass(t *testing.T) {
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	untilEqual(t, e)
	_, before := e.turnsSince(0)
	b := e.members[1]
	e.ask(func() { e.fail(b, "pulled") })
	untilEqual(t, e)
	turns, _ := e.turnsSince(before)
	var got []string
	for _, ev := range turns {
		if ev.Node != b.spec.Name {
			t.Errorf("%s turned to %s", ev.Node, ev.What)
		}
		got = append(got, ev.What)
	}
	if s := strings.Join(got, " "); !strings.HasPrefix(s, "failed ") || !strings.HasSuffix(s, " in-sync") || turns[0].Error != "pulled" {
		t.Errorf("%s: %+v", s, turns)
	}
}
