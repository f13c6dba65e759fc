// Package core is the replication protocol as two step functions: Primary,
// the one process that makes the txgs of a PFS, and Node, one copy of it.
//
//	Step(now, event) -> effects
//
// There are no goroutines, clocks, random numbers or map iteration in here:
// an adapter runs the steps over real devices, the simulator over imagined
// ones, and both see the same decisions. Batches are opaque.
//
//	Primary   PreVote -> Promise -> (wait for the rest) -> Adopt -> barrier -> serve
//	             |          |                                  |
//	Node      PreVoted   promise durable, then              Apply: txg, position and
//	                     position read, Promised            epoch in one commit, Ack
//
// What holds after a crash: a node is where its last durable job left it;
// a primary is forgotten, and the next one finds by Adopt what may have been
// acknowledged. The rules that this rests on can be left out one by one
// (Rule), which is how the simulator shows that it would notice.
//
// Not here: bytes and devices (cluster, chain), which leaves to copy (sync).
package core
