package resync

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A Manager runs a resync for every node that wants one.
type Manager struct {
	peers Peers
	o     Options

	// tick wakes it for retries; replaced in tests.
	after func(time.Duration) <-chan time.Time

	mu    sync.Mutex // guards nodes
	nodes map[string]*node
}

// A node is one that was resynced or is being.
type node struct {
	running  bool
	ended    chan struct{} // closed when it does not run any more
	failures int
	notUntil time.Time
	last     Report
	noRoom   string // why the last run ended, if that was for want of room; see Report.NoRoomBefore
	stamp    string // of the list that its snapshots were last seen equal to

	// Of snapshots that there was no room for:
	tried   string    // stamp of the list
	room    uint64    // bytes that there were for them
	soonest time.Time // when they are tried again if there is more, or another list
}

// NewManager returns a manager; Run starts it.
func NewManager(peers Peers, o Options) *Manager {
	o.setDefaults()
	return &Manager{peers: peers, o: o, after: time.After, nodes: make(map[string]*node)}
}

const (
	firstRetry   = time.Second // most failures pass by themselves
	longestRetry = time.Minute // a disk that has healed is not left out for longer
	sameRoom     = 16          // so many times that, for what had no room and has no more
	look         = time.Second // a change may be missed between two looks
)

// retryAfter is how long to wait after so many failures in a row.
func retryAfter(failures int) time.Duration {
	return min(firstRetry<<min(failures-1, 10), longestRetry)
}

// retryRoom is that of snapshots that there was no room for: each try looks for
// space twice, on a member that is in use.
func retryRoom(failures int) time.Duration {
	return min(firstRetry<<min(failures-1, 10), sameRoom*longestRetry)
}

// RetryNow has what waits after a failure tried again at once.
func (m *Manager) RetryNow() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		n.failures, n.notUntil, n.noRoom = 0, time.Time{}, "" // there may be room now
	}
}

// Run watches the pool and resyncs nodes and snapshots, several at once, until
// ctx ends. It
// returns when no run is left.
func (m *Manager) Run(ctx context.Context) {
	var runs sync.WaitGroup
	defer runs.Wait()
	for ctx.Err() == nil {
		changed := m.peers.Changed()
		wanted := m.peers.ResyncWanted()
		m.forget(wanted)
		for _, name := range wanted {
			if m.take(name) {
				runs.Go(func() { m.drive(ctx, name) })
			}
		}
		for _, t := range m.peers.SnapshotTargets(ctx) {
			if m.takeSnapshots(&t) {
				runs.Go(func() { m.driveSnapshots(ctx, t) })
			}
		}
		select {
		case <-changed:
		case <-m.after(look):
		case <-ctx.Done():
		}
	}
}

// forget takes back why the last run failed of nodes that want none any more: they
// came in sync by other ways, are gone, or were replaced. One whose device failed is
// opened again after a pause of its own, which is shorter where a majority waits for it:
// then it is not to wait once more.
func (m *Manager) forget(wanted []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, n := range m.nodes {
		if !n.running && n.last.State == Failed && n.last.Mode != ModeSnapshots && !slices.Contains(wanted, name) {
			n.last, n.noRoom, n.notUntil = Report{}, "", time.Time{}
			m.peers.SetResyncReport(name, nil)
		}
	}
}

// take reports whether a run for the node is to be started now.
func (m *Manager) take(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.node(name)
	if n.running || m.o.Now().Before(n.notUntil) {
		return false
	}
	n.running, n.ended = true, make(chan struct{})
	return true
}

// node is what is known of a name. The caller holds mu.
func (m *Manager) node(name string) *node {
	n := m.nodes[name]
	if n == nil {
		n = &node{}
		m.nodes[name] = n
	}
	return n
}

// end lets the next one run. The caller holds the manager's mu.
func (n *node) end() {
	n.running = false
	close(n.ended)
}

// drive steps one run to its end.
func (m *Manager) drive(ctx context.Context, name string) {
	r := NewRun(m.peers, name, m.o)
	defer r.Close()
	for r.Step(ctx) && ctx.Err() == nil {
		m.show(name, r.Report())
	}
	rep := r.Report()
	m.mu.Lock()
	n := m.nodes[name]
	n.end()
	n.last, n.noRoom = rep, ""
	if rep.NoRoom {
		n.noRoom = rep.Err
	}
	if rep.State == Done {
		n.failures = 0
		m.o.Logger.Info("node is back in sync", "node", name, "at", rep.Goal, "from", rep.Source,
			"leaves", rep.LeavesDone, "bytes", rep.BytesDone, "rounds", rep.Round, "took", m.o.Now().Sub(rep.Began))
	} else {
		n.failures++
		n.notUntil = m.o.Now().Add(retryAfter(n.failures))
	}
	m.peers.SetResyncReport(name, rep) // before anybody forgets it
	m.mu.Unlock()
}

// show makes the pool show how far a run is, with what the one before it met.
func (m *Manager) show(name string, rep Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rep.NoRoomBefore = m.nodes[name].noRoom
	m.peers.SetResyncReport(name, rep)
}

// Reports returns the last report of every node that was resynced.
func (m *Manager) Reports() map[string]Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]Report, len(m.nodes))
	for name, n := range m.nodes {
		out[name] = n.last
	}
	return out
}
