// Package resync brings nodes that lag, failed or diverged back in sync while
// the filesystem stays in use. (The folder is sync/; the clause avoids hiding
// the standard package.)
//
// A Run does it for one node, in steps:
//
//	Idle -> Planning: what do target and source surely have in common?
//	     -> Copying:  a round: pin the source, walk both trees where either
//	        side changed since, apply to a shadow of the target's PFS
//	        ... rounds until the rest is small ...
//	     -> Joining:  hold the txg boundary, last round, swap, join
//	     -> Done | Failed (tried again after a pause)
//
// The target's own tree is not touched before the swap: one header commit
// gives the PFS the shadow's content and the state (T, H) of the source, so
// the node is its old state or the new one, never between. The shadow is a
// PFS of its own in the volume, so bulkfree knows it, and the state entry
// names it, so a Run that was cut off goes on with it or removes it.
//
// A diff is pruned by mirror_tid. That is sound only because every table in
// the walked region is stamped with the round's goal, changed or not (Touch):
// otherwise this node, as a later source, would prune what it skipped.
//
// Not here: which nodes need it and when they count again (cluster), the walk
// of two trees (chain.Diff).
package resync
