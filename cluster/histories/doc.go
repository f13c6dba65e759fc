// Package histories records what many callers see of a filesystem while its
// members fail, and asks whether one order of the calls explains it.
//
//	callers ── fs core ── pool ── members in memory (rig) ◀── faults by seed
//	   │
//	   └─▶ history: call, outcome, both instants ──▶ porcupine, by model
//
// The models, each checked apart (a history is partitioned by file, block and
// directory):
//
//	register   a block of 4 KiB: what is read was written last, and whole
//	names      a directory: create, unlink, rename, lookup
//	appends    a file opened for appending by several: nothing lost or doubled
//	lock       a lock of a file, held by one at a time
//
// A crash takes what no sync covered. So a model keeps, beside the state, all
// states since the last sync; after a crash one of them is the state. A call
// that was cut off may have taken effect or not, at any time up to the crash,
// or at the end without one. A checker that runs out of time has shown nothing:
// that fails too.
//
// All is in real time, with short deadlines: callers wait for each other's
// locks, which stops the clock of a testing/synctest bubble. Appends and locks
// are the kernel's to order, so their histories are of a mount.
//
// A failure prints the seed and the partition that no order explains.
// ANVILFS_SEED=n plays one seed. To see a new kind of mistake, write a model in
// models_test.go, let a caller make its calls, and add a history that is wrong
// to TestTheCheckerSees: a model that accepts everything proves nothing.
//
// Not here: whether members are equal afterwards (matrix).
package histories
