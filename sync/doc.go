// Package resync brings nodes that missed something back in sync while the
// filesystem is in use. (The folder is sync; a package of that name would hide
// the standard one.)
//
// A Run is one node's way back, driven step by step:
//
//	Idle -> Planning -> Copying -> Joining -> Done
//	           ^           |  ^______|
//	           |           v         v
//	           +-------- Failed <----+
//
// Planning takes the node away from the protocol and looks for what an earlier
// run left. Copying makes it equal to a pinned state of a node in sync; that
// state grows old meanwhile, so there are rounds, each smaller than the last.
// Joining gives the node back once the primary still has the txgs that follow,
// or, after too many rounds, while it makes none.
//
// What is copied is what chain.Diff finds above the last txg that both
// histories share; where the node's own history went another way, that tail
// is dropped, and kept as snapshot "diverged-T" while there is room.
//
// A small difference is applied to the PFS itself, in one commit together with
// the new position. A larger one takes many commits, and goes to a shadow: a
// second root that shares everything with the first, hidden under the label
// ".anvilfs-shadow-" and the node's id. At the end one commit puts its content
// in place of the old:
//
//	PFS    o-----o-----o-----o-----o=====o   old state up to the swap
//	shadow       o~~o~~o~~o~~o~~o~~/         partly old, partly new
//
// So the node is its old state or the new one at every moment, and nothing
// that a quorum may need is destroyed by a copy that stops half way.
//
// A node that is in sync may still lack snapshots, or have some that were
// deleted while it was away: only txgs that are replayed bring them along.
// They are settled afterwards, beside the running protocol. A missing one is
// made of its next newer neighbour, or the PFS, by the difference to another
// node's copy, so that it shares what it can, under the label
// ".anvilfs-snapcopy-" and the node's id until it is complete.
//
// Crash: the node's state entry has goal and key of the shadow, and the shadow
// the position it was made from. If both fit, the next run goes on with it:
// what was copied already compares as equal. Else the shadow is removed. After
// a swap without joining, the next run finds a node that is hardly behind.
//
// Locks: Run.mu guards the report and is never held during a call. A Run is
// stepped by one goroutine; Manager has one for each node, and Manager.Run
// returns when all have ended. It must end before the pool is closed.
//
// Not here: who is behind and who is right (cluster), comparing and applying
// trees (chain), the rewriting of single bad blocks (cluster).
package resync
