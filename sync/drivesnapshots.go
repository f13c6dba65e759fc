package resync

import (
	"context"
	"errors"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
)

// driveSnapshots brings one node's snapshots up to the list.
func (m *Manager) driveSnapshots(ctx context.Context, t cluster.SnapshotTarget) {
	s := newSnapshotCopy(m.peers, t, m.o)
	m.mu.Lock()
	n := m.nodes[snapshotsOf(t.Name)]
	s.rep.NoRoomBefore = n.noRoom
	m.mu.Unlock()
	err := s.run(ctx)
	rep := s.rep
	rep.NoRoomBefore = ""
	m.mu.Lock()
	n.end()
	told := n.failures > 0 // of what is there no more
	switch {
	case err == nil:
		n.failures, n.stamp, n.noRoom = 0, t.Stamp, ""
	case left(err): // it goes on when the node is back
	default:
		n.failures++
		n.notUntil = m.o.Now().Add(retryAfter(n.failures))
		if n.noRoom = ""; errors.Is(err, chain.ErrNoSpace) {
			rep.NoRoom, n.noRoom = true, err.Error()
			n.waitForRoom(&t, m.o.Now())
		}
	}
	m.mu.Unlock()
	if rep.Path == "" && err == nil && !told {
		return
	}
	if left(err) || rep.Path == "" && err == nil {
		m.peers.SetResyncReport(t.Name, nil)
		return
	}
	rep.State, rep.Since = Done, m.o.Now()
	if err != nil {
		rep.State, rep.Err = Failed, err.Error()
	}
	m.peers.SetResyncReport(t.Name, rep)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		m.o.Logger.Warn("snapshots were not copied", "node", t.Name, "err", err)
	default:
		m.o.Logger.Info("snapshots are complete", "node", t.Name, "leaves", rep.LeavesDone, "bytes", rep.BytesDone)
	}
}

// snapshotsOf is the name under which the manager keeps account of a node's
// snapshots.
func snapshotsOf(node string) string { return "snapshots of " + node }

// waitForRoom puts off what there was no room for: for long, unless moreRoom.
func (n *node) waitForRoom(t *cluster.SnapshotTarget, now time.Time) {
	n.soonest, n.notUntil = now.Add(retryAfter(n.failures)), now.Add(retryRoom(n.failures))
	n.tried, n.room = t.Stamp, roomOf(t)
}

// moreRoom reports whether there may be room by now: another list, or more bytes than
// come and go all the time.
func (n *node) moreRoom(t *cluster.SnapshotTarget) bool {
	return n.tried != t.Stamp || roomOf(t) > n.room+t.Volume.Space().Total/64
}

// roomOf is what a copy may find on a node, bytes that nobody has looked for included.
func roomOf(t *cluster.SnapshotTarget) uint64 {
	s := t.Volume.Space()
	return s.Free + s.Pending + s.Lost
}

// takeSnapshots reports whether a node's snapshots are to be looked at now.
func (m *Manager) takeSnapshots(t *cluster.SnapshotTarget) bool {
	m.mu.Lock()
	n := m.nodes[snapshotsOf(t.Name)]
	seen := n != nil && n.stamp == t.Stamp
	if n != nil && n.noRoom != "" && n.soonest.Before(n.notUntil) && n.moreRoom(t) {
		n.notUntil = n.soonest
	}
	m.mu.Unlock()
	return !seen && m.take(snapshotsOf(t.Name))
}
