package resync

import (
	"time"
)

// State is where a Run is.
type State string

// The states of a Run.
const (
	Idle     State = "idle"
	Planning State = "planning"
	Copying  State = "copying"
	Joining  State = "joining"
	Done     State = "done"
	Failed   State = "failed"
)

// moves lists the legal transitions; enter panics on any other.
var moves = map[State][]State{
	Idle:     {Planning, Failed},
	Planning: {Copying, Failed},
	Copying:  {Joining, Copying, Failed},
	Joining:  {Copying, Done, Failed},
	Failed:   {Planning},
	Done:     {Planning},
}

// A Report is a run at one instant: plain values, shares nothing with the run.
type Report struct {
	Node       string    `json:"node"`
	State      State     `json:"state"`
	Source     string    `json:"source,omitempty"` // node copied from
	Goal       string    `json:"goal,omitempty"`   // tid copied towards; from Copying on
	Common     string    `json:"common,omitempty"` // tid shared at the start
	Round      int       `json:"round,omitempty"`  // 1 is the first
	LeavesDone int64     `json:"leaves_done"`      // changes applied
	BytesDone  int64     `json:"bytes_done"`       // of file data applied
	Compared   int64     `json:"leaves_compared"`
	BytesLeft  int64     `json:"bytes_left,omitempty"` // estimate of the round
	Rate       float64   `json:"bytes_per_second,omitempty"`
	ETA        float64   `json:"eta_seconds,omitempty"`
	Path       string    `json:"path,omitempty"` // what is being copied
	Err        string    `json:"error,omitempty"`
	Retry      time.Time `json:"retry,omitzero"` // in Failed: when it starts again
	Since      time.Time `json:"since"`          // when State was entered
}
