package scrub

import (
	"slices"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// left reports whether a member left the cluster for good: it was replaced, or removed.
// Who is not in sync may come back, and who is a member only a majority says.
func left(st *cluster.Status, fsid string) bool {
	return fsid != "" && st.Quorum.Held && !slices.ContainsFunc(st.Nodes, func(n cluster.NodeStatus) bool {
		return n.Fsid == fsid && n.Role != ondisk.PFSNone.String()
	})
}

// drop takes away the lane of a member that left: there is nothing to verify any more,
// and nobody could do anything about that.
func (j *job) drop(name string, place *Place) {
	j.o.Logger.Info("a node left while it was scrubbed", "node", place.Report.Node)
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.lanes, name)
}

// ofMembers is a report without what it says against members that left since.
func ofMembers(r Report, st *cluster.Status) Report {
	r.Lanes = slices.DeleteFunc(slices.Clone(r.Lanes), func(l LaneReport) bool { return l.Err != "" && left(st, l.ID) })
	r.Absent = slices.DeleteFunc(slices.Clone(r.Absent), func(a Absence) bool { return left(st, a.ID) })
	return r
}
