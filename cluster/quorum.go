package cluster

import (
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// The words of the protocol are defined in package core, which knows nothing
// of media; they are used under these names everywhere else.
type (
	// A History is a hash over everything that led to a state.
	History = core.History
	// A Position is the last txg that is durable on a node.
	Position = core.Position
	// A Lineage tells which txgs are in the history of a position.
	Lineage = core.Lineage
	// An EpochMark says on which state an epoch was built.
	EpochMark = core.EpochMark
	// A Rollback says that a txg put back the content of an older one.
	Rollback = core.Rollback
	// A Config is who belongs to a cluster.
	Config = core.Config
	// A Member is one node of the configuration.
	Member = core.Member
)

// NextH is the history of the state that txg T makes of the state prev.
func NextH(prev History, T ondisk.Tid, configVersion uint32, manifest [32]byte) History {
	return core.NextH(prev, T, configVersion, manifest)
}

// CommonTid is the last txg that two nodes surely share, 0 if none.
func CommonTid(a *Lineage, at Position, b *Lineage, bt Position) ondisk.Tid {
	return core.CommonTid(a, at, b, bt)
}
