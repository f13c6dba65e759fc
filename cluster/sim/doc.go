// Package sim runs the step functions of package core over imagined nodes,
// disks and networks, and checks the invariants of the protocol after every
// step.
//
// Run plays one seed: masters, slaves, competing primaries, messages lost,
// doubled, late and out of order, crashes of processes and power cuts, disks
// that forget what was not flushed, changes of members. At the end the faults
// stop and the cluster must serve. A seed replays exactly.
//
// Explore tries every order of events of a small cluster.
//
// Not here: real devices and bytes (package cluster has those tests).
package sim
