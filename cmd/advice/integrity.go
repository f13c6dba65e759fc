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

// Advice is what to do about it. Damage that the status tells of is not told
// twice.
func (i *Integrity) Advice(st *cluster.Status, dir string) (list []Advice) {
	dir = quote(dir)
	told := slices.ContainsFunc(st.Nodes, func(n cluster.NodeStatus) bool { return n.Bad > n.Repaired })
	if e := i.Errors; e != nil && e.Bad > 0 && !told {
		what := fmt.Sprintf("%d places in files are bad and were not repaired.", e.Bad)
		if e.Bad == 1 {
			what = "1 place in a file is bad and was not repaired."
		}
		list = append(list, Advice{Warning, what, "The files cannot be read there, or read as one of several versions.",
			"It is tried again from time to time.", "anvilfs errors list " + dir})
	}
	if e := i.Errors; e != nil && e.Err != "" {
		list = append(list, Advice{Note, "What is found bad is not remembered: " + e.Err + ".", "", "", ""})
	}
	if s := i.Scrub; s != nil && s.Phase == scrub.Failed {
		list = append(list, Advice{Warning, "The scrub failed: " + s.Err + ".", "Damage that nobody reads is not found.", "", "anvilfs scrub start " + dir})
	}
	return list
}

// Join puts lists together, worst first.
func Join(lists ...[]Advice) []Advice {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(x, y Advice) int { return cmp.Compare(y.Level, x.Level) })
	return all
}
