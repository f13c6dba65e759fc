package cluster

import (
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// ResolveFlags say what a cluster can do.
type ResolveFlags uint8

// The flags of the seed. Hard means that a quorum stands behind it.
const (
	WriteHard ResolveFlags = 1 << iota // a quorum of masters counts
	ReadHard                           // what is read is known to be committed
	WriteSoft                          // a soft master is attached
	ReadSoft                           // a soft node is attached
	MastersIn                          // every master that is present is in sync
	SlavesIn                           // every slave that is present is in sync
)

var flagNames = []string{"wrhard", "rdhard", "wrsoft", "rdsoft", "msynced", "ssynced"}

// String lists the names of the flags.
func (f ResolveFlags) String() string {
	var names []string
	for i, n := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, ",")
}

// A ResolveNode is what Resolve has to know of a node.
type ResolveNode struct {
	Fsid     ondisk.UUID
	Present  bool
	Position Position
	Lineage  *Lineage
	Err      bool // failed, hung, full or offline
	Taint    bool // tainted or foreign
	Latency  time.Duration
}

// A Verdict says in a word why a node counts or not.
type Verdict string

// The verdicts of Resolve.
const (
	Counts   Verdict = "counts"  // a master in sync
	Follows  Verdict = "follows" // in sync, without a vote
	Lags     Verdict = "lags"    // does not contain the committed txg
	Diverged Verdict = "diverged"
	Errored  Verdict = "error"
	Tainted  Verdict = "tainted"
	Absent   Verdict = "absent"
	Stranger Verdict = "stranger" // not in the configuration
)

// A Resolution is the answer of Resolve.
type Resolution struct {
	Flags    ResolveFlags
	Focus    int       // index of the node to read from; -1 = none
	Verdicts []Verdict // one per node
}

// Resolve says what a cluster with that configuration and last committed txg
// can do with these nodes, and which to read from. A node that is ahead of
// the committed txg contains it, and counts.
func Resolve(c *Config, committed Position, nodes []ResolveNode) Resolution {
	r := Resolution{Focus: -1, Flags: MastersIn | SlavesIn, Verdicts: make([]Verdict, len(nodes))}
	counted := make(map[ondisk.UUID]bool)
	inSyncSlave := false
	for i := range nodes {
		n := &nodes[i]
		m, ok := c.Member(n.Fsid)
		v := judge(n, m, ok, committed)
		r.Verdicts[i] = v
		if !ok || v == Absent {
			continue
		}
		good := v == Counts || v == Follows
		switch m.Role {
		case ondisk.PFSMaster:
			counted[n.Fsid] = good
			if !good {
				r.Flags &^= MastersIn
			}
		case ondisk.PFSSlave:
			inSyncSlave = inSyncSlave || good
			if !good {
				r.Flags &^= SlavesIn
			}
		case ondisk.PFSSoftMaster:
			if v != Errored && v != Tainted {
				r.Flags |= WriteSoft | ReadSoft
			}
		case ondisk.PFSSoftSlave:
			if v != Errored && v != Tainted {
				r.Flags |= ReadSoft
			}
		}
	}
	if c.HasQuorum(func(id ondisk.UUID) bool { return counted[id] }) {
		r.Flags |= WriteHard | ReadHard
	} else if inSyncSlave && !committed.IsZero() {
		r.Flags |= ReadHard
	}
	r.Focus = focus(c, nodes, r.Verdicts)
	return r
}

func judge(n *ResolveNode, m Member, ok bool, committed Position) Verdict {
	switch {
	case !ok:
		return Stranger
	case !n.Present:
		return Absent
	case n.Err:
		return Errored
	case n.Taint:
		return Tainted
	case n.Position.T < committed.T:
		return Lags
	case !n.Lineage.ContainsPos(n.Position, committed):
		return Diverged
	case m.Role == ondisk.PFSMaster:
		return Counts
	}
	return Follows
}

// focus picks the node to read from: a soft master, else a soft slave, else
// the quickest master in sync, else the quickest slave.
func focus(c *Config, nodes []ResolveNode, verdicts []Verdict) int {
	best, bestRank := -1, 0
	for i := range nodes {
		m, ok := c.Member(nodes[i].Fsid)
		if !ok {
			continue
		}
		good := verdicts[i] == Counts || verdicts[i] == Follows
		soft := good || verdicts[i] == Lags || verdicts[i] == Diverged
		rank := 0
		switch {
		case m.Role == ondisk.PFSSoftMaster && soft:
			rank = 4
		case m.Role == ondisk.PFSSoftSlave && soft:
			rank = 3
		case m.Role == ondisk.PFSMaster && good:
			rank = 2
		case m.Role == ondisk.PFSSlave && good:
			rank = 1
		}
		if rank > bestRank || rank > 0 && rank == bestRank && nodes[i].Latency < nodes[best].Latency {
			best, bestRank = i, rank
		}
	}
	return best
}
