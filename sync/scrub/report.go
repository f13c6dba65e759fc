package scrub

import (
	"cmp"
	"maps"
	"slices"
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
	ID    string            `json:"id,omitempty"`
	State cluster.NodeState `json:"state"`
}

// A LaneReport is the part of a scrub on one node.
type LaneReport struct {
	Node  string `json:"node"`
	ID    string `json:"id,omitempty"`  // which member that is, whatever it is called
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

// report sums the lanes up.
func (j *job) report() Report {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.reportLocked()
}

func (j *job) reportLocked() Report {
	r := j.rep
	r.Lost = slices.Clone(r.Lost)
	slices.SortStableFunc(r.Lost, func(a, b Loss) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Path, b.Path))
	})
	r.Bytes, r.BytesTotal, r.Bad, r.Lanes, r.Rate, r.ETA = 0, 0, 0, nil, 0, -1
	for _, name := range slices.Sorted(maps.Keys(j.lanes)) {
		l := j.lanes[name].Report
		r.Lanes = append(r.Lanes, l)
		r.Bytes += l.Bytes
		r.BytesTotal += max(l.Total, l.Bytes)
		r.Bad += l.Bad
		rate, left := j.lanes[name].pace(r.Tranquility)
		r.Rate += int64(rate)
		if r.Phase == Verifying {
			r.ETA = max(r.ETA, left)
		}
	}
	return r
}

// pace is how quick a lane is while it works, in bytes a second, and how long it
// has still to go, with its rests, in seconds; -1 = not known. Lanes run side by
// side: a scrub takes as long as the one that takes longest.
func (p *Place) pace(tranquility int) (rate, left float64) {
	l := &p.Report
	if p.Worked <= 0 || l.Bytes <= 0 {
		return 0, -1
	}
	rate = float64(l.Bytes) / p.Worked.Seconds()
	if p.Done || l.Err != "" || l.Bytes >= l.Total { // more than was thought is still to come
		return rate, -1
	}
	slower := 1 + p.Rested.Seconds()/p.Worked.Seconds()
	if p.Rested == 0 {
		slower = float64(1 + tranquility)
	}
	return rate, float64(l.Total-l.Bytes) / rate * slower
}
