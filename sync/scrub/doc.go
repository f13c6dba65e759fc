// Package scrub reads every copy of every block of a pool's members, while it
// is in use, and has what is bad repaired.
//
//	members    a: ======>......     each at its own pace: copies of the header,
//	           b: ====>........     codes of all blocks, of the PFS and of its
//	           c: =======>.....     snapshots
//	then       a = b = c ?          leaf by leaf at one tid: equality
//	then       the same for each snapshot
//
// A Lane verifies one member, step by step; bad blocks go to Pool.Repair at
// once. When all lanes have ended, a Comparison holds the copies against each
// other: blocks can be intact and still not be what they should, as after a
// write that never arrived. Where a majority of the masters agrees, the others
// are overwritten; where none does, nothing is touched and the path is listed.
// Then each snapshot is compared in the same way, by what blockrefs say: blocks
// were verified by the lanes. Pairs of tables that were found equal are remembered,
// so that this costs what is unique to each.
//
// A Job is one scrub: lanes, comparison, Report. It remembers where each lane
// is (State), so that a scrub goes on after a restart. A Manager runs at most
// one job, starts the next by schedule, and answers the commands.
//
// Pace: after each step a lane rests for tranquility times as long as the step
// took, twice that while the pool answers more slowly than it did at the start
// of the scrub. Tranquility 0 does not rest.
//
// Nothing is pinned between steps: a scrub that takes a day keeps no dropped
// space. What is written behind a lane's place is not verified by this scrub;
// it was just written, and the next one comes.
//
// Locks: Manager.mu guards the job and its report; it is never held during I/O.
//
// Not here: reading and verifying (chain), choosing and writing copies
// (cluster), retries of what could not be repaired (package ledger).
package scrub
