package cluster

import "github.com/anvilfs/anvilfs/cluster/core"

// An Answer is what a node says about itself in an election.
type Answer = core.Answer

// An Adopted is the state to go on from, and who holds it.
type Adopted = core.Adopted

// Adopt decides which state to go on from when no primary is known: see
// core.Adopt. Errors: *core.NoQuorum, *core.Conflict.
func Adopt(answers []Answer) (*Adopted, error) { return core.Adopt(answers, 0) }
