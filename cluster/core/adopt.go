package core

import (
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// An Adopted is the state that a new primary builds on, and why.
type Adopted struct {
	Pos     Position
	Charter *Charter // of that state

	Holders []ondisk.UUID // are exactly there
	Ahead   []ondisk.UUID // contain it and more, which is dropped
	Behind  []ondisk.UUID // do not contain it yet
	Silent  []ondisk.UUID // masters that gave no clean answer
}

// A NoQuorum says who is missing. Nothing may be decided without them.
type NoQuorum struct {
	Answered, Needed, Masters int
	Silent                    []ondisk.UUID
}

func (e *NoQuorum) Error() string {
	return fmt.Sprintf("no quorum: %d of %d masters answered, %d needed", e.Answered, e.Masters, e.Needed)
}

// A Conflict names two nodes whose histories cannot both be true.
type Conflict struct {
	A, B       ondisk.UUID
	PosA, PosB Position
}

func (e *Conflict) Error() string {
	return fmt.Sprintf("nodes %v at %v and %v at %v have different histories", e.A, e.PosA, e.B, e.PosB)
}

// Adopt decides which state to go on from when no primary is known. Of the
// newest epoch among the answers it takes the highest state that a quorum
// may have: those that contain it and the masters that did not answer,
// because it may have been acknowledged. If a quorum can have none of them,
// nothing of that epoch was acknowledged, and the lowest will do: it is the
// barrier or contains it. During a change of members it is the highest.
//
// Foreign and tainted nodes are silent, as are those whose position is below
// what others know them to have acknowledged. What somebody proves to be
// committed must be in the state. Errors: *NoQuorum, *Conflict.
func Adopt(answers []Answer, omit Rule) (*Adopted, error) {
	clean := Clean(answers)
	if err := findConflict(clean); err != nil {
		return nil, err
	}
	newest := newestEpoch(clean)
	if len(newest) == 0 {
		return nil, &NoQuorum{Needed: 1}
	}
	sets, joint := inForce(newest)
	if omit&OmitJoint != 0 {
		sets, joint = sets[:1], false
	}
	pick := newest[len(newest)-1]
	for _, set := range sets {
		if err := enough(set, clean, omit); err != nil {
			return nil, err
		}
	}
	if !joint {
		pick = highest(newest, clean, omit)
	}
	if omit&OmitProven == 0 {
		pick = raise(pick, newest)
	}
	for i := range clean {
		if omit&OmitProven == 0 && pick.Charter.Lineage.denies(pick.Pos, &clean[i]) {
			return nil, &Conflict{pick.Node, clean[i].Node, pick.Pos, clean[i].Pos}
		}
	}
	return verdict(pick, clean, sets), nil
}

// Clean returns the answers that count, with fsids given twice, nodes that
// lost acknowledged txgs, and disowned ones left out.
func Clean(answers []Answer) []Answer {
	var clean []Answer
	for i, a := range answers {
		twice := slices.ContainsFunc(answers[:i], func(b Answer) bool { return a.Node == b.Node })
		if a.Flags == 0 && !twice && !LostWrites(a, answers) && !Disowned(a, answers) {
			clean = append(clean, a)
		}
	}
	return clean
}

// Disowned reports whether two others at the same position have one charter,
// and a has another: the position says that they are equal, so that a's copy
// is damaged in a way that its check codes do not show.
func Disowned(a Answer, answers []Answer) bool {
	var others []*Charter
	for _, b := range answers {
		if b.Node == a.Node || b.Flags != 0 || b.Pos != a.Pos || b.Charter == nil || a.Charter == nil {
			continue
		}
		if b.Charter.Equal(a.Charter) {
			return false
		}
		if slices.ContainsFunc(others, b.Charter.Equal) {
			return true
		}
		others = append(others, b.Charter)
	}
	return false
}

// LostWrites reports whether what the others know about a proves that it
// lost txgs that it had acknowledged, or was made anew.
func LostWrites(a Answer, answers []Answer) bool {
	for _, b := range answers {
		if b.Charter == nil || b.Node == a.Node || b.Flags != 0 {
			continue
		}
		m, ok := b.Charter.Config.Member(a.Node)
		if !ok {
			continue
		}
		other := !m.Incarnation.IsZero() && !a.Incarnation.IsZero() && m.Incarnation != a.Incarnation
		T, ok := b.saw(a.Node)
		if other || m.Acked > a.Pos.T {
			return true
		}
		if ok && T > a.Pos.T {
			return true
		}
	}
	return false
}

// newestEpoch returns the answers of the newest epoch that has a charter, by
// position, the highest last.
func newestEpoch(clean []Answer) []Answer {
	var epoch uint32
	for _, a := range clean {
		if a.Charter != nil {
			epoch = max(epoch, a.Pos.T.Epoch())
		}
	}
	var in []Answer
	for _, a := range clean {
		if a.Charter != nil && a.Pos.T.Epoch() == epoch {
			in = append(in, a)
		}
	}
	slices.SortStableFunc(in, func(a, b Answer) int {
		if a.Pos.T < b.Pos.T {
			return -1
		}
		if a.Pos.T > b.Pos.T {
			return 1
		}
		return 0
	})
	return in
}

// inForce returns the sets of masters that must each have a quorum: those of
// every configuration in the newest epoch, the highest's first. More sets
// than needed are slow, never wrong.
func inForce(newest []Answer) (sets [][]ondisk.UUID, joint bool) {
	for i := len(newest) - 1; i >= 0; i-- {
		c := &newest[i].Charter.Config
		joint = joint || c.Joint != nil
		for _, set := range c.Sets() {
			if !slices.ContainsFunc(sets, func(s []ondisk.UUID) bool { return slices.Equal(s, set) }) {
				sets = append(sets, set)
			}
		}
	}
	return sets, joint
}

func enough(set []ondisk.UUID, clean []Answer, omit Rule) error {
	e := &NoQuorum{Masters: len(set), Needed: Quorum(len(set))}
	for _, id := range set {
		if slices.ContainsFunc(clean, func(a Answer) bool { return a.Node == id }) {
			e.Answered++
		} else {
			e.Silent = append(e.Silent, id)
		}
	}
	if omit&OmitQuorum != 0 {
		e.Answered++
	}
	if e.Answered < e.Needed {
		return e
	}
	return nil
}

// highest applies the rule: of each state it asks whether a quorum of the
// masters of that state may have it. Those of other configurations prove
// nothing about it.
func highest(newest, clean []Answer, omit Rule) Answer {
	for i := len(newest) - 1; i >= 0; i-- {
		possible := true
		for _, set := range newest[i].Charter.Config.Sets() {
			n := 0
			for _, id := range set {
				k := slices.IndexFunc(clean, func(a Answer) bool { return a.Node == id })
				holds := k >= 0 && slices.ContainsFunc(newest[i:], func(a Answer) bool { return a.Node == id })
				if holds || k < 0 && omit&OmitSilent == 0 {
					n++
				}
			}
			possible = possible && n >= Quorum(len(set))
		}
		if possible {
			return newest[i]
		}
	}
	return newest[0]
}

func verdict(pick Answer, clean []Answer, sets [][]ondisk.UUID) *Adopted {
	r := &Adopted{Pos: pick.Pos, Charter: pick.Charter}
	for _, a := range clean {
		switch {
		case a.Pos == pick.Pos:
			r.Holders = append(r.Holders, a.Node)
		case a.Charter != nil && a.Charter.Lineage.ContainsPos(a.Pos, pick.Pos):
			r.Ahead = append(r.Ahead, a.Node)
		default:
			r.Behind = append(r.Behind, a.Node)
		}
	}
	for _, set := range sets {
		for _, id := range set {
			answered := slices.ContainsFunc(clean, func(a Answer) bool { return a.Node == id })
			if !answered && !slices.Contains(r.Silent, id) {
				r.Silent = append(r.Silent, id)
			}
		}
	}
	return r
}

func findConflict(clean []Answer) error {
	for i, a := range clean {
		for _, b := range clean[:i] {
			if a.Pos.T.Epoch() != b.Pos.T.Epoch() || a.Charter == nil || b.Charter == nil {
				continue
			}
			if a.Pos.T == b.Pos.T && (a.Pos.H != b.Pos.H || !a.Charter.Equal(b.Charter)) || !samePast(a, b) {
				return &Conflict{b.Node, a.Node, b.Pos, a.Pos}
			}
		}
	}
	return nil
}

// samePast reports whether both know the same about how their epoch began.
func samePast(a, b Answer) bool {
	find := func(l *Lineage) (EpochMark, bool) {
		for _, m := range l.Epochs {
			if m.Epoch == a.Pos.T.Epoch() {
				return m, true
			}
		}
		return EpochMark{}, false
	}
	x, ok1 := find(&a.Charter.Lineage)
	y, ok2 := find(&b.Charter.Lineage)
	return !ok1 || !ok2 || x.sameElection(y)
}
