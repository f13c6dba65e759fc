package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// StatusVersion is the output_version of Status. It rises when a field
// changes its meaning or goes.
const StatusVersion = 1

// Health is the pool in one word.
type Health string

// Healths, best first.
const (
	PoolHealthy  Health = "healthy"   // every node is in sync
	PoolDegraded Health = "degraded"  // a quorum holds, some node needs attention
	PoolReadOnly Health = "read-only" // opened for reading
	PoolStalled  Health = "stalled"   // no quorum: changes wait
)

// A Status is everything there is to know about a pool at one instant. Status
// output, JSON, control files, metrics and tests all print it.
type Status struct {
	OutputVersion int           `json:"output_version"`
	Label         string        `json:"label"`
	Health        Health        `json:"health"`
	Next          string        `json:"next_action,omitempty"` // what the operator should do
	Quorum        QuorumStatus  `json:"quorum"`
	Committed     string        `json:"committed"` // tid
	Shown         *ShownStatus  `json:"shown,omitempty"`
	Branch        *BranchStatus `json:"branch,omitempty"`
	Conflicts     int           `json:"conflicts,omitempty"` // that merges left to be decided
	Space         SpaceStatus   `json:"space"`
	Dirty         DirtyStatus   `json:"dirty"`
	Txg           TxgStatus     `json:"txg"`
	Nodes         []NodeStatus  `json:"nodes"` // worst first
	Caches        []CacheStatus `json:"caches,omitempty"`
	CommitError   string        `json:"commit_error,omitempty"`
	ShutDown      bool          `json:"shut_down,omitempty"` // nothing is written any more
}

// ShownStatus is what a read-only mount shows, where no majority of masters
// says that it is the newest: one copy, as of a time.
type ShownStatus struct {
	Node string    `json:"node"`
	T    string    `json:"tid"`
	Time time.Time `json:"time,omitzero"` // when that copy came to T; zero = not noted
}

// BranchStatus says where a branch comes from: what is mounted is a copy that
// is away from its cluster.
type BranchStatus struct {
	Cluster string    `json:"cluster"`
	Base    string    `json:"base_tid"`
	Since   time.Time `json:"since"`
}

// QuorumStatus counts masters.
type QuorumStatus struct {
	Held    bool `json:"held"` // a majority works together; for reading only: is there
	Masters int  `json:"masters"`
	InSync  int  `json:"in_sync"`
	Need    int  `json:"need"`

	// Changing: members are being changed. Until that is committed, which a new
	// mount does by itself after a crash, those before it count as well.
	Changing bool `json:"changing,omitempty"`
}

// SpaceStatus is in bytes, of the smallest attached master.
type SpaceStatus struct {
	Total    uint64 `json:"total_bytes"`
	Free     uint64 `json:"free_bytes"`
	Avail    uint64 `json:"avail_bytes"`
	Pending  uint64 `json:"pending_bytes"` // free after a few more commits
	Reserved uint64 `json:"reserved_bytes"`
	Inodes   uint64 `json:"inodes"`
}

// DirtyStatus is what is in memory and not in the trees.
type DirtyStatus struct {
	Bytes   int64 `json:"bytes"`
	Logged  int64 `json:"logged_bytes"` // of these, what is in the intent logs, and durable
	Limit   int64 `json:"limit_bytes"`
	Leaves  int64 `json:"leaves"`
	Syncing bool  `json:"syncing"`
}

// NodeStatus is one node.
type NodeStatus struct {
	Name      string    `json:"name"`
	Fsid      string    `json:"fsid"`
	Role      string    `json:"role"`
	State     NodeState `json:"state"`
	Error     string    `json:"error,omitempty"`
	Next      string    `json:"next_action,omitempty"`
	Focus     bool      `json:"focus"`
	T         string    `json:"tid"`
	History   string    `json:"history"`
	Applied   uint64    `json:"applied_txgs"`
	Lag       uint64    `json:"lag_txgs"`
	Bad       uint64    `json:"bad_chains"`
	Repaired  uint64    `json:"repaired_chains"`
	LatencyUs int64     `json:"read_latency_us"`
	Since     time.Time `json:"since"`
	At        time.Time `json:"tid_time,omitzero"` // when it came to its tid
	Total     uint64    `json:"total_bytes"`
	Free      uint64    `json:"free_bytes"`
	Replaces  string    `json:"replaces,omitempty"`

	// Unreadable: what is in use on it cannot be read, so that nothing can be freed.
	Unreadable bool `json:"unreadable,omitempty"`

	LastSeen string   `json:"last_seen,omitempty"` // of one that is missing: where this host had it; who keeps that fills it in
	IO       IOStatus `json:"io"`
	Resync   any      `json:"resync,omitempty"` // the run that brings it in sync
}

// badness orders states, worst first in status.
var badness = map[NodeState]int{
	NodeInSync: 0, NodeReadOnly: 0, NodeBehind: 1, NodeBranch: 1, NodeOffline: 2, NodeResync: 3, NodeFull: 4,
	NodeMissing: 5, NodeHung: 6, NodeFailed: 7, NodeForeign: 8, NodeTainted: 9,
}

// Status reports the pool as it is now.
func (p *Pool) Status() Status {
	st := p.StatFS()
	space := p.engine.space()
	s := p.state.Load()
	out := Status{
		OutputVersion: StatusVersion,
		Label:         p.opts.Label,
		Committed:     p.engine.committed().T.String(),
		Space: SpaceStatus{
			Total: st.Total, Free: st.Free, Avail: st.Avail,
			Pending: space.Pending, Reserved: space.Reserved, Inodes: st.Inodes,
		},
		Dirty: DirtyStatus{
			Bytes: p.dirty(), Limit: p.budget.hard,
			Leaves: s.open.load.leaves.Load(), Syncing: s.syncing != nil,
		},
		Txg:   p.txgs.status(),
		Nodes: p.nodeStatus(),
	}
	if s.logged != nil {
		out.Dirty.Logged = s.logged.load.memory.Load()
	}
	out.Caches = p.front.status()
	out.ShutDown = p.abandoned.Load()
	out.Conflicts = int(p.conflicts.Load())
	if b := p.BranchOf(); b != nil {
		out.Branch = &BranchStatus{b.Cluster.String(), b.Base.T.String(), b.Since}
	}
	if err := p.lastErr.Load(); err != nil {
		out.CommitError = (*err).Error()
	}
	if p.engine.stale() {
		out.Next = "unmount, and mount anew: others mounted and changed the members meanwhile"
	}
	out.Quorum.Changing = p.engine.changing()
	out.judge(p.engine.hasQuorum(), p.opts.ReadOnly)
	return out
}

func (p *Pool) nodeStatus() []NodeStatus {
	reports := p.engine.nodes()
	runs := p.events.resyncRuns()
	committed := p.engine.committed().T
	nodes := make([]NodeStatus, len(reports))
	for i, r := range reports {
		nodes[i] = NodeStatus{
			Name: r.Name, Fsid: r.Fsid.String(), Role: r.Role.String(), State: r.State,
			Error: r.Err, Next: r.Remedy, Focus: r.Focus,
			T: r.Position.T.String(), History: fmt.Sprintf("%x", r.Position.H[:]),
			Applied: r.Applied, Bad: r.Bad, Repaired: r.Repaired,
			LatencyUs: r.Latency.Microseconds(), Since: r.Since, At: r.At,
			Total: r.Space.Total, Free: r.Space.Free, Resync: runs[r.Name],
			Lag: lag(committed, r.Position.T), IO: ioStatus(r.IO), Unreadable: r.Unreadable,
		}
		if !r.Replaces.IsZero() {
			nodes[i].Replaces = r.Replaces.String()
		}
	}
	slices.SortStableFunc(nodes, func(a, b NodeStatus) int {
		return cmp.Compare(badness[b.State], badness[a.State])
	})
	return nodes
}

// judge sums the nodes up.
func (s *Status) judge(quorum, readOnly bool) {
	master := ondisk.PFSMaster.String()
	worst := 0
	for _, n := range s.Nodes {
		if n.Role == ondisk.PFSNone.String() {
			continue // replaced, or never opened: then its id is there as missing
		}
		if n.Role == master {
			s.Quorum.Masters++
			if badness[n.State] == 0 {
				s.Quorum.InSync++
			}
		}
		worst = max(worst, n.badness())
		if s.Next == "" && n.Next != "" {
			s.Next = n.Name + ": " + n.Next
		}
	}
	s.Quorum.Need = s.Quorum.Masters/2 + 1
	s.Quorum.Held = quorum || readOnly && s.Quorum.InSync >= s.Quorum.Need
	switch {
	case readOnly:
		s.Health = PoolReadOnly
		s.Shown = s.shown()
	case !quorum:
		s.Health = PoolStalled
		if s.Next == "" {
			s.Next = fmt.Sprintf("bring back %d more of %d masters", max(s.Quorum.Need-s.Quorum.InSync, 1), s.Quorum.Masters)
		}
	case worst > 0 || s.CommitError != "":
		s.Health = PoolDegraded
	default:
		s.Health = PoolHealthy
	}
}

// badness is how much the state of a node is a trouble of the pool. A soft node
// may be away, or late, whenever it likes.
func (n *NodeStatus) badness() int {
	if n.Soft() && n.State != NodeForeign && n.State != NodeTainted {
		return 0
	}
	return badness[n.State]
}

// Soft reports whether the node may be away for long: see ondisk.PFSType.
func (n *NodeStatus) Soft() bool {
	return n.Role == ondisk.PFSSoftSlave.String() || n.Role == ondisk.PFSSoftMaster.String()
}

// shown is nil if a majority of the masters is at hand: they know what is the
// newest.
func (s *Status) shown() *ShownStatus {
	if s.Quorum.InSync >= s.Quorum.Need {
		return nil
	}
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Focus {
			return &ShownStatus{Node: n.Name, T: n.T, Time: n.At}
		}
	}
	return nil
}

// An Event tells subscribers that a node or the quorum changed.
type Event struct {
	Time time.Time `json:"time"`
	Node string    `json:"node,omitempty"` // empty: the pool as a whole
	What string    `json:"what"`           // the new state, in words
	// Why, and what an operator can do; "" for a good state.
	Error string `json:"error,omitempty"`
	Next  string `json:"next,omitempty"`
	Count uint64 `json:"count,omitempty"` // of bytes
}

// events are the subscribers, and what others report through the pool.
type events struct {
	mu     sync.Mutex
	subs   []chan Event
	closed bool
	runs   map[string]any // resync runs by node
}

const eventQueue = 64

// Subscribe returns a channel of events, closed when the pool is. A reader
// that does not keep up misses some; Status has the truth.
func (p *Pool) Subscribe() <-chan Event {
	e := &p.events
	ch := make(chan Event, eventQueue)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		close(ch)
		return ch
	}
	e.subs = append(e.subs, ch)
	return ch
}

func (e *events) send(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ch := range e.subs {
		select {
		case ch <- ev:
		default:
		}
	}
}

func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for _, ch := range e.subs {
		close(ch)
	}
	e.subs = nil
}

func (e *events) resyncRuns() map[string]any {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.runs)
}

// watch follows the engine: fresh views for readers, events for subscribers.
func (p *Pool) watch() {
	defer p.workers.Done()
	told := 0
	quorum := true
	for {
		changed := p.engine.changed()
		p.refresh()
		p.tidy()
		var turned []Event
		turned, told = p.engine.turnsSince(told)
		for _, ev := range turned {
			p.events.send(ev)
		}
		if held := p.engine.hasQuorum(); held != quorum {
			quorum = held
			what := "quorum lost"
			if held {
				what = "quorum held"
			}
			p.events.send(Event{Time: time.Now(), What: what})
		}
		select {
		case <-changed:
		case <-p.upkeep.wake:
		case <-p.ctx.Done():
			return
		}
	}
}
