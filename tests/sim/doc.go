// Package sim runs a whole cluster in one goroutine and in its own time, and
// checks the invariants of the protocol after every step.
//
//	prim    core.Primary       \                  / imagined disks: a state, a cache
//	node    core.Node           > one queue of    |
//	resync  resync.Run, the    /  events, one     \ volumes: cluster.Media on
//	        pool's CatchUp        source of         chain.Volume, on a platter
//	                              chance            that loses power, fails, lies
//
// What decides and what writes is the product's own code: the step functions
// of package core, the jobs of cluster.Media, the Run of package resync, the
// rewriting of single leaves. The simulator is clock, network, disk and
// operator. It does what the engine does with goroutines: who is attached when,
// and who is copied.
//
// A job or resync is a task: a goroutine that stops at each flush of its disk
// and goes on when the world says so, never beside it. So a crash, a hang or
// another primary comes between any two flushes, and a seed replays exactly.
//
// Run plays one seed: masters, slaves, competing primaries; messages lost,
// doubled, late, out of order, cut off in one direction or both; processes that
// crash or sleep, clocks that jump and drift; disks that fail, tear, lose power
// or hang; disks that run full (space.go, tight.go); snapshots, held, deleted, cloned and
// rolled back to (snap.go); on one node of some seeds reads that
// fail, or a disk that loses, misplaces or changes what it holds without a word,
// headers and freemap among it (damage.go); changes of members. One seed in ten is calm:
// nothing may fail there. At the end the faults stop, and the cluster must
// serve and be equal, read leaf by leaf and by fsck from every header.
//
// Explore visits every order of events of a small cluster with imagined disks,
// as far as orders and names make a difference: symmetry.go says which do not.
//
// Not here: threads of the engine and the pool (packages cluster, matrix),
// every single state of one disk (crashtest), real mounts (tests).
package sim
