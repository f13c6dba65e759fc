// Package rig is a cluster in memory whose devices fail at an exact request.
// Harnesses run the real pool on it.
//
//	pool -> gate -> faultdev -> crashdev -> memdev      one stack per device
//	         |        |           |
//	         |        |           what a power cut leaves
//	         |        rules: errors, hangs, delays, lies
//	         traps: when that request comes, do this; one opener at a time
//
// A Trap waits for the request that is the moment, in a commit, a promise or a
// resync, and does what the test wants just before or just after it passes:
// add a rule, pull the device, kill the process, cut the power. Kill and Cut
// stop all members at one instant: no request passes later, and none that
// passed reports success later. Restart gives the devices as they were left.
//
// A member has one device; AddDevice gives it another, with rules and traps of its
// own, which is a part of the volume once the pool has made it one.
//
// What is on a member is read back without the cluster: Tree walks its own
// volume alone, Fsck checks it.
//
// Locks: World.mu, then Member.mu. Neither is held during I/O or a trap's Do.
//
// Not here: what is to be expected of a fault (matrix, histories).
package rig
