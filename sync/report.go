package resync

import (
	"fmt"
	"slices"
	"time"
)

// State is what a run is doing, as text for operators and scripts.
type State string

// The states of a run.
const (
	Idle     State = "idle"     // not begun
	Planning State = "planning" // taking the node, looking at what is there
	Copying  State = "copying"
	Joining  State = "joining" // equal to a recent state: giving it back
	Done     State = "done"
	Failed   State = "failed" // see Report.Err
)

// moves lists the legal transitions; enter panics on any other.
var moves = map[State][]State{
	Idle:     {Planning},
	Planning: {Copying, Failed},
	Copying:  {Joining, Failed},
	Joining:  {Copying, Done, Failed},
	Failed:   {Planning},
	Done:     {},
}

// Mode is how the node is changed.
type Mode string

// The modes of a run.
const (
	ModeReplay    Mode = "replay"    // the txgs it missed are applied
	ModeDirect    Mode = "direct"    // in one commit, on the PFS itself
	ModeSnapshots Mode = "snapshots" // the node is in sync, and gets snapshots that it missed
	ModeShadow    Mode = "shadow"    // on a second root, put in place at the end
)

// A Report is a run at one instant: plain values, shares nothing with the run.
type Report struct {
	Node       string  `json:"node"`
	State      State   `json:"state"`
	Mode       Mode    `json:"mode,omitempty"`
	Source     string  `json:"source,omitempty"` // node copied from
	Goal       string  `json:"goal,omitempty"`   // tid of this round; from Copying on
	Common     string  `json:"common,omitempty"` // tid both sides had before; "0:0" = everything is compared
	Round      int     `json:"round"`            // from 1
	BytesDone  int64   `json:"bytes_done"`       // of file data written to the node, all rounds
	LeavesDone int64   `json:"leaves_done"`      // entries, inodes and blocks changed
	Compared   int64   `json:"leaves_compared"`
	BytesLeft  int64   `json:"bytes_left"`  // estimate for this round, -1 = not known yet
	LeavesLeft int64   `json:"leaves_left"` // same
	Rate       int64   `json:"bytes_per_second"`
	ETA        Seconds `json:"eta_seconds"`    // for this round, 0 = not known
	Path       string  `json:"path,omitempty"` // where it is
	Kept       string  `json:"kept,omitempty"` // snapshot with what only this node had
	Err        string  `json:"error,omitempty"`
	NoRoom     bool    `json:"no_room,omitempty"` // why it failed: ErrNoRoom
	// NoRoomBefore is why the run before this one failed, if that was ErrNoRoom: until
	// one ends well, that there is one under way does not mean that it will.
	NoRoomBefore string    `json:"no_room_before,omitempty"`
	Since        time.Time `json:"since"` // when State was entered
	Began        time.Time `json:"began"`
}

// Seconds is a duration that JSON shows as a number of seconds.
type Seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.1f", time.Duration(s).Seconds()), nil
}

// String is one line for people.
func (r Report) String() string {
	switch r.State {
	case Failed:
		return fmt.Sprintf("failed: %s", r.Err)
	case Copying, Joining:
		left := ""
		if r.BytesLeft > 0 {
			left = fmt.Sprintf(", about %d bytes left (%v)", r.BytesLeft, time.Duration(r.ETA).Round(time.Second))
		}
		return fmt.Sprintf("%s from %s to %s, round %d: %d leaves, %d bytes%s", r.State, r.Source, r.Goal, r.Round, r.LeavesDone, r.BytesDone, left)
	}
	return string(r.State)
}

// Report returns where the run is.
func (r *Run) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rep
}

// update changes the report.
func (r *Run) update(fn func(rep *Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn(&r.rep)
}

func (r *Run) enter(s State) {
	r.update(func(rep *Report) {
		if !slices.Contains(moves[rep.State], s) {
			panic(fmt.Sprintf("resync: from %s to %s", rep.State, s))
		}
		rep.State, rep.Since = s, r.now()
	})
}

// progress estimates what is left from the place in the order of inodes: at
// of top numbers are behind us.
func (rep *Report) progress(at, top uint64, bytes, leaves int64, took time.Duration) {
	rep.BytesLeft, rep.LeavesLeft, rep.ETA = -1, -1, 0
	if took > 0 {
		rep.Rate = int64(float64(bytes) / took.Seconds())
	}
	if at == 0 || at > top || float64(at)/float64(top) < 0.02 {
		return
	}
	rest := float64(top-at) / float64(at)
	rep.BytesLeft, rep.LeavesLeft = int64(float64(bytes)*rest), int64(float64(leaves)*rest)
	rep.ETA = Seconds(float64(took) * rest)
}
