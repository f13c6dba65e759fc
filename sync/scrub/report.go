package scrub

import (
	"time"

	"github.com/anvilfs/anvilfs/cluster"
)

// A Phase is what a scrub does.
type Phase string

// The phases.
const (
	Idle      Phase = "idle" // none was run, or known of
	Verifying Phase = "verifying"
	Comparing Phase = "comparing"
	Paused    Phase = "paused"
	Done      Phase = "done"
	Stopped   Phase = "stopped" // by the operator
	Failed    Phase = "failed"
)

// A Report is a scrub at one instant: plain values.
type Report struct {
	Phase       Phase     `json:"phase"`
	Began       time.Time `json:"began,omitzero"`
	Ended       time.Time `json:"ended,omitzero"`
	Tranquility int       `json:"tranquility"`

	Bytes      int64   `json:"bytes_verified"`
	BytesTotal int64   `json:"bytes_total"` // in use on the members when it began, about
	Blocks     int64   `json:"blocks_verified"`
	Compared   int64   `json:"leaves_compared"`
	Snapshots  int64   `json:"snapshots_compared"`
	Rate       int64   `json:"bytes_per_second"` // while it worked
	ETA        float64 `json:"eta_seconds"`      // -1 = not known

	Bad        int64 `json:"bad_blocks"`
	Differing  int64 `json:"differing_leaves"`
	Repaired   int64 `json:"repaired"`
	Unrepaired int64 `json:"unrepaired"`

	Lanes  []LaneReport `json:"nodes,omitempty"`
	Absent []Absence    `json:"absent,omitempty"`          // that should have been there when it began
	Lost   []Loss       `json:"unrepaired_list,omitempty"` // at most maxLost
	Err    string       `json:"error,omitempty"`
	Next   time.Time    `json:"next,omitzero"` // by schedule
}

// An Overwritten is a leaf of which one node had a wrong copy.
type Overwritten struct {
	Snapshot string // it was in; "" = what is mounted
	Inum     uint64
	Names    []string // of an entry of that directory: as it was, and as it is
}

// An Absence is a node that was not verified. Soft ones may be away.
type Absence struct {
	Node  string            `json:"node"`
	State cluster.NodeState `json:"state"`
}

// A LaneReport is the part of a scrub on one node.
type LaneReport struct {
	Node  string `json:"node"`
	PFS   string `json:"pfs,omitempty"` // that is being read
	Bytes int64  `json:"bytes_verified"`
	Total int64  `json:"bytes_total"`
	Bad   int64  `json:"bad_blocks"`
	Done  bool   `json:"done"`
	Err   string `json:"error,omitempty"` // why it ended early
}

// maxLost bounds the list of what could not be repaired; the ledger has all.
const maxLost = 100

// A Loss is something that is beyond repair now.
type Loss struct {
	Node string `json:"node"`
	Path string `json:"path"`
	What string `json:"what"`
}
