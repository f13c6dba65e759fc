package cluster

import "time"

// keptTurns is how many changes of state are remembered.
const keptTurns = 256

// turns are the changes of the members' states, as the loop published them. A
// state that came and went between two looks at the status is among them: an
// operator must hear of a taint also if the copy took a millisecond.
type turns struct {
	last  []Event // the newest are at the end
	total int     // ever
}

// since returns those after the first n ever, oldest first, and how many there
// were ever. Those that are too old are left out.
func (t *turns) since(n int) ([]Event, int) {
	from := max(0, len(t.last)-(t.total-min(n, t.total)))
	return append([]Event(nil), t.last[from:]...), t.total
}

func (t *turns) add(ev Event) {
	if len(t.last) == keptTurns {
		t.last = append(t.last[:0], t.last[1:]...)
	}
	t.last, t.total = append(t.last, ev), t.total+1
}

// turn notes which members are in another state than the last time. An attempt
// to open one is not the last word. The caller is the loop and holds e.mu.
func (e *engine) turn() bool {
	any := false
	for _, m := range e.members {
		if m.opening || m.merged || m.told == m.state {
			continue
		}
		if m.told != "" {
			e.turns.add(Event{Time: time.Now(), Node: m.spec.Name, What: string(m.state), Error: m.err, Next: m.remedy})
			any = true
		}
		m.told = m.state
	}
	return any
}

// turnsSince is turns.since, for those outside of the loop.
func (e *engine) turnsSince(n int) ([]Event, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.turns.since(n)
}

// History returns the changes of the nodes' states since the open, oldest
// first, without the first n; and how many there were. The last 256 are kept.
func (p *Pool) History(n int) ([]Event, int) { return p.engine.turnsSince(n) }
