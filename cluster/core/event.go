package core

import "github.com/anvilfs/anvilfs/ondisk"

// Attach: a node was reached and said this about itself.
type Attach struct{ Answer Answer }

// Detach: a node is gone, failed or hung.
type Detach struct{ Node ondisk.UUID }

// Campaign: become primary. Also starts over.
type Campaign struct{}

// Tick: time passed.
type Tick struct{}

// Propose: make a txg of this batch, which was built for NextT.
type Propose struct {
	Batch    any
	Manifest [32]byte
	Size     int64
	Charter  *Charter // the new one, if the batch changes it
	Snapshot bool     // only who has a certain snapshot can apply the batch
}

// Reconfigure: make these the members, by a txg JOINT(old, new) and then
// FINAL(new); by one txg if the masters stay the same.
type Reconfigure struct{ Members []Member }

// Joined: a node was brought to a state by a resync.
type Joined struct {
	Node ondisk.UUID
	Pos  Position
}

// Serve: the barrier is committed, the epoch is open.
type Serve struct{ Pos Position }

// Lost: the epoch is over or never began. Stop serving at once; the txg in
// flight may be committed or not. A new campaign was started.
type Lost struct{ Heard uint32 }

// Refuse: no state can be adopted; an operator must decide.
type Refuse struct{ Err error }

// Waiting: too few masters answer; it goes on trying.
type Waiting struct{ Err error }

// Committed: the txg is durable on a quorum.
type Committed struct{ Txg *Txg }

// Rejected: a proposal came at the wrong time; nothing was sent.
type Rejected struct{}

// Behind: a node cannot be fed from the window. It has to be brought to the
// head by a resync that copies what changed since Common. While Urgent, too
// few hold the adopted state for a barrier; only a copy of that state helps.
type Behind struct {
	Node   ondisk.UUID
	Answer Answer
	Common ondisk.Tid
	Urgent bool
}

// Trouble: a node said that it failed or has no space.
type Trouble struct {
	Node ondisk.UUID
	Kind Kind // Failed or NoSpace
}

// QuorumChanged: commits can go on, or not.
type QuorumChanged struct{ Have bool }

// Reconfigured: the membership asked for is in force.
type Reconfigured struct{ Config *Config }

func (Attach) event()      {}
func (Detach) event()      {}
func (Campaign) event()    {}
func (Tick) event()        {}
func (Propose) event()     {}
func (Reconfigure) event() {}
func (Joined) event()      {}

func (Serve) effect()         {}
func (Lost) effect()          {}
func (Refuse) effect()        {}
func (Waiting) effect()       {}
func (Committed) effect()     {}
func (Rejected) effect()      {}
func (Behind) effect()        {}
func (Trouble) effect()       {}
func (QuorumChanged) effect() {}
func (Reconfigured) effect()  {}
