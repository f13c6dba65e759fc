package advice

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/sync/ledger"
	"github.com/anvilfs/anvilfs/sync/scrub"
)

// Integrity is what is known of the copies beside the status: how the scrub is
// doing, and what is bad. A mount that looks after neither has none.
type Integrity struct {
	Scrub  *scrub.Report  `json:"scrub,omitempty"`
	Errors *ledger.Report `json:"errors,omitempty"`
}

// integrity is what to do about it.
func (a *adviser) integrity(known *Integrity) {
	for i := range a.st.Nodes {
		a.damage(&a.st.Nodes[i], known.lists())
	}
	if e := known.Errors; e != nil {
		a.unrepaired(e)
	}
	if e := known.Errors; e != nil && e.Err != "" {
		a.add(Note, "What is found bad is not remembered: "+e.Err+".", "", "", "")
	}
	if known.Scrub != nil {
		a.scrub(known.Scrub)
	}
}

// unrepaired is advice on what was found bad and is so still.
func (a *adviser) unrepaired(e *ledger.Report) {
	const again = "It is tried again from time to time."
	add := func(n int64, one, many, risk, soon string) {
		what := one + " is bad and was not repaired."
		if n > 1 {
			what = fmt.Sprintf("%d %s are bad and were not repaired.", n, many)
		}
		if n > 0 {
			a.add(Warning, what, risk, soon, "anvilfs errors list "+a.dir)
		}
	}
	add(e.Bad-e.Headers-e.Other, "1 place in a file", "places in files", "The files cannot be read there, or read as one of several versions.", again)
	add(e.Headers, "1 copy of a volume header", "copies of volume headers", "After a crash it may be that copy which is needed.", again)
	add(e.Other, "1 place in another filesystem of these devices", "places in other filesystems of these devices",
		"Only a mount of that filesystem can repair it.", "")
}

// scrub is advice on the last scrub. Of a node that it did not verify there is
// something to say once that could be done.
func (a *adviser) scrub(s *scrub.Report) {
	const risk = "Damage that nobody reads is not found."
	start := "anvilfs scrub start " + a.dir
	switch s.Phase {
	case scrub.Failed:
		a.add(Warning, "The scrub failed: "+s.Err+".", risk, "", start)
	case scrub.Done:
		for i := range s.Lanes {
			if l := &s.Lanes[i]; l.Err != "" && a.isInSync(l.Node) {
				a.add(Warning, "The last scrub did not verify "+l.Node+" to the end: "+l.Err+".", risk, "", start)
			}
		}
		for _, n := range s.Absent {
			if a.isInSync(n.Node) {
				a.add(Note, fmt.Sprintf("The last scrub did not verify %s: it was %s.", n.Node, n.State), risk, "", start)
			}
		}
	}
}

func (a *adviser) isInSync(name string) bool {
	return slices.ContainsFunc(a.st.Nodes, func(n cluster.NodeStatus) bool { return n.Name == name && n.State == cluster.NodeInSync })
}

// lists reports whether there is a list of what is bad now.
func (i *Integrity) lists() bool { return i.Errors != nil && i.Errors.Err == "" }

// damage is advice on blocks that were found bad. What reads met since the mount
// are numbers that never fall, and a block counts as often as it was met: what is
// bad now is in the list, if there is one.
func (a *adviser) damage(n *cluster.NodeStatus, listed bool) {
	switch {
	case n.Bad == 0:
	case n.Bad <= n.Repaired:
		a.add(Note, fmt.Sprintf("%s had %s, all rewritten: watch its disk.", n.Name, blocks(n.Bad)), "", "", "")
	case listed:
		a.add(Note, fmt.Sprintf("Reads met damage on %s %s, and it was rewritten %s: watch its disk.", n.Name, times(n.Bad), times(n.Repaired)), "", "", "")
	case a.intact() < 2:
		a.add(Warning, fmt.Sprintf("%s has %s, and no other copy is in sync to repair from.", n.Name, blocks(n.Bad-n.Repaired)),
			"Files in them cannot be read.", "", "")
	default:
		a.add(Warning, fmt.Sprintf("%s has %s, not rewritten yet.", n.Name, blocks(n.Bad-n.Repaired)),
			"", "Reads are answered by the other nodes, where one of them is right.", "")
	}
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func blocks(n uint64) string {
	if n == 1 {
		return "1 damaged block"
	}
	return fmt.Sprintf("%d damaged blocks", n)
}

// intact is how many nodes can be copied from.
func (a *adviser) intact() int {
	n := 0
	for i := range a.st.Nodes {
		if s := a.st.Nodes[i].State; s == cluster.NodeInSync || s == cluster.NodeReadOnly {
			n++
		}
	}
	return n
}

// Join puts lists together, worst first.
func Join(lists ...[]Advice) []Advice {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(x, y Advice) int { return cmp.Compare(y.Level, x.Level) })
	return all
}
