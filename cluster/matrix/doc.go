// Package matrix plays every fault of the table of failures on every member
// at every moment, over the real pool, filesystem core and resync manager, on
// devices in memory (package rig).
//
//	row      what goes wrong, what must be seen, what brings it back
//	member   each of three masters, the slave and the soft slave
//	moment   idle, writing blocks, between the two flushes, promising, being
//	         resynced, at the header that ends a resync; of the intent log: a
//	         record is not flushed, what was synced is there only, its ring
//	         begins anew, it is replayed
//	bare     again with another master away, where the fault takes the quorum
//
// A cell mounts a small filesystem, brings the member to the moment, and lets
// the fault come at that very request. Then it demands:
//
//   - of the node: one of the states that the row names, with a reason, and a
//     remedy where only the operator can go on;
//   - of the mount: calls and syncs go on in time and read the right content;
//     bare, they wait, the status says so, and go on by themselves; after a
//     crash the content is one of the states since the last sync;
//   - of the way back: nothing, or the command that the row names; then every
//     node is in sync;
//   - at the end: each member's volume, read alone, has exactly the content of
//     the model and the leaves of the others, and fsck finds nothing, in the
//     trees of older headers neither.
//
// What is done to the cluster has rows of its own (errand): a branch that comes
// back, a rollback under the mount, a member that grows, one that gets one more
// device (which may be what fails), a change that is given up. The member fails,
// or the process ends, at each moment of that; the errand ends, or is refused and
// done again. A cache before the members fails in rows where nothing else does:
// nobody may notice.
//
// Each cell runs in a bubble of testing/synctest: deadlines are those of
// production and cost no time. What a row leaves open (a fault that stays or
// passes, how a copy is made, what a cut leaves of a cache, one header slot or
// several) goes by the cell's seed.
//
// A failure prints the cell, what was wrong, and all that happened, with the
// time in the bubble. ANVILFS_CELL=regexp plays the cells whose names it
// matches, as in ANVILFS_CELL='^power cut, slave d.img, mid-swap'. The scheduler
// is not replayed: a rare failure may need -count.
//
// A new row is an entry in rows: inject does not wait, since it is called from
// within a request of the member.
//
// Cells that make no sense are counted with their reasons in the log of the
// test; see senseless and skip.
//
// Not here, since members are local: partitions, also one-way ones, and leases
// with what a clock does to them. A mount of the past is found out at its next
// request to a member: its lock keeps others of the same machine out, and who
// carries the devices off tells it nothing. Not here, since no reader can tell: a leaf that is missing under
// sound codes, and a table whose child has a newer number than itself; they
// are fsck's to find.
package matrix
