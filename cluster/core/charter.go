package core

import (
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// MaxOps is how many applied operation ids a charter remembers.
const MaxOps = 256

// A Charter is what a cluster knows about itself. It is part of the state:
// only txgs change it. Immutable once shared.
type Charter struct {
	Config  Config
	Lineage Lineage
	Ops     []Op // the latest at the end
}

// Equal compares contents.
func (c *Charter) Equal(o *Charter) bool {
	return c == o || c.Config.Version == o.Config.Version && slices.Equal(c.Config.Members, o.Config.Members) &&
		slices.Equal(c.Config.Joint, o.Config.Joint) && slices.Equal(c.Lineage.Epochs, o.Lineage.Epochs) &&
		slices.Equal(c.Lineage.Rollbacks, o.Lineage.Rollbacks) && slices.Equal(c.Ops, o.Ops)
}

// An Op names an operation of another mount that was applied.
type Op struct {
	Mount    ondisk.UUID
	Sequence uint64
}

// A Txg is a batch with its place in history. Immutable: the same to every
// node and on every retry.
type Txg struct {
	Pos, Prev Position
	Batch     any
	Size      int64    // bytes, for the window of retained txgs
	Charter   *Charter // the new one; nil if the txg leaves it alone
	Snapshot  bool     // only who has a certain snapshot can apply it
	Acked     uint64   // masters that had acknowledged Prev, by place in the charter
}

// A Rule is one that safety rests on. The simulator leaves them out, one at a
// time, to prove that it would notice; everybody else leaves them in.
type Rule uint32

// The rules that can be left out.
const (
	OmitCandidate    Rule = 1 << iota // an epoch is promised to one candidate
	OmitDurable                       // a promise is durable before the answer
	OmitLatePosition                  // the position is read after the promise is durable
	OmitFence                         // txgs of an epoch below the promised one are refused
	OmitPrevious                      // a txg applies to its predecessor only
	OmitRaise                         // a txg of a higher epoch raises the promise
	OmitQuorum                        // fewer than q promises never suffice
	OmitSilent                        // a silent master may hold more
	OmitBarrier                       // nothing is served before the barrier is committed
	OmitImmutable                     // a txg does not change once sent
	OmitJoint                         // during a change both sets are counted
	OmitLease                         // a granted lease is waited for
	OmitAcked                         // a node that has less than it acknowledged is silent
	OmitProven                        // a state that lacks what was committed is not adopted
)

// A Ballot is an epoch and the candidate it was promised to.
type Ballot struct {
	Epoch uint32
	Cand  uint64
}
