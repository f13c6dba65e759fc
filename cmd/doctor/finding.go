package doctor

import (
	"cmp"
	"slices"
)

// Version is the output_version of a Report. It rises when a field changes
// its meaning or goes.
const Version = 1

// A Level is how much a finding matters.
type Level string

// The levels, best first.
const (
	OK      Level = "ok"
	Note    Level = "note"    // nothing to do unless it is wanted
	Warning Level = "warning" // mounts work, something is lost
	Fatal   Level = "missing" // mounts do not work
)

var badness = map[Level]int{OK: 0, Note: 1, Warning: 2, Fatal: 3}

// A Finding is one thing that was looked at.
type Finding struct {
	Name   string `json:"name"`
	Level  Level  `json:"level"`
	What   string `json:"what"`             // a sentence
	Remedy string `json:"remedy,omitempty"` // what to type or change; "" if nothing is needed
}

// A Report is all that was found, the worst first.
type Report struct {
	OutputVersion int       `json:"output_version"`
	Worst         Level     `json:"worst"`
	Findings      []Finding `json:"findings"`
}

func newReport(list []Finding) Report {
	slices.SortStableFunc(list, func(a, b Finding) int { return cmp.Compare(badness[b.Level], badness[a.Level]) })
	r := Report{OutputVersion: Version, Worst: OK, Findings: list}
	if len(list) > 0 {
		r.Worst = list[0].Level
	}
	return r
}

func ok(name, what string) Finding { return Finding{Name: name, Level: OK, What: what} }

func found(name string, l Level, what, remedy string) Finding {
	return Finding{Name: name, Level: l, What: what, Remedy: remedy}
}
