package cluster

import (
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/metered"
)

// NodeState is what a node does for the mount, as text for operators.
type NodeState string

// The states of a node, best first.
const (
	NodeInSync   NodeState = "in-sync"  // contains the last committed txg
	NodeBehind   NodeState = "behind"   // receives txgs, has not caught up yet
	NodeResync   NodeState = "resync"   // reachable, wants to be or is being resynced
	NodeFull     NodeState = "full"     // no space: not written any more
	NodeForeign  NodeState = "foreign"  // changed by another system: not counted
	NodeTainted  NodeState = "tainted"  // lost acknowledged writes: not counted
	NodeHung     NodeState = "hung"     // a request is out beyond the deadline
	NodeFailed   NodeState = "failed"   // write error or gone; reopened by itself
	NodeBranch   NodeState = "branch"   // changed while it was away: to be merged
	NodeOffline  NodeState = "offline"  // by the operator
	NodeMissing  NodeState = "missing"  // in the configuration, not in the mount
	NodeReadOnly NodeState = "readonly" // serves reads of a read-only mount
)

// A NodeReport is one node at one instant: plain values.
type NodeReport struct {
	Name     string         // as the user wrote it; the fsid if it is missing
	Fsid     ondisk.UUID    //
	Role     ondisk.PFSType // by the configuration
	State    NodeState      //
	Opening  bool           // an attempt to open it is under way: State is not the last word
	Err      string         // why, if the state is not a good one
	Remedy   string         // what the operator can do; "" if nothing is needed
	Focus    bool           // reads go here first
	Position Position       // last known
	At       time.Time      // when it came there; zero = not known
	Applied  uint64         // txgs written since the mount
	Bad      uint64         // damaged chains found by reads
	Repaired uint64         // of those, rewritten from a verified copy
	Latency  time.Duration  // smoothed time of a read; 0 = none yet
	Since    time.Time      // when State was entered
	Space    NodeSpace      // zero while it is not open
	// Unreadable: what is in use on it cannot be read, so that nothing can be freed.
	Unreadable bool
	Replaces   ondisk.UUID     // the node whose place it will take when in sync
	IO         *metered.Report // of its devices since the mount; nil while nobody asks
}

// NodeSpace is the room on a node, in bytes.
type NodeSpace struct{ Total, Free, Pending, Reserved uint64 }
