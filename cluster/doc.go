// Package cluster makes one filesystem of several full copies: which of them
// is right (quorum on the transaction id), what is changing (transaction
// groups), and how both read as one.
//
//	fs ── Pool ─────────────────────────────────────────────────────────
//	      Txn: one system call          reads: one state {open, syncing,
//	        │ records, entries, blocks         views}, top to bottom
//	        ▼                                        │
//	      open group ─ close ─▶ syncing group        │ (overlays)
//	                              │ encode, sort     ▼
//	                              ▼               node views, best first;
//	      engine ◀──────── chain.Batch            a slow or bad one is
//	        │ core.Primary: promise, barrier,     answered by the next
//	        │ commit at q masters
//	        ├── member ── chain.Volume ── devices
//	        └── member ── ...
//
// # Transaction groups
//
// At most one group is open and one is syncing. A call enters the open group
// at Begin and leaves at End; a group is committed when all calls in it have
// left, while the next one is already open, so that callers do not wait for
// media. What a group holds is an overlay: per inode the record, entries by
// key, blocks by offset, and which blocks below are gone. Blocks are encoded
// once for all nodes, complete ones while the group is still open.
//
// A write that covers a part of a block which no overlay has does not wait for
// the rest, if the caller allows that (Cost.Later) and nothing is known to be wrong
// (engine.sound): the block is incomplete, and what it lacks is read from the layers below, in the background,
// by who reads it, or at the close. Those layers say the same as long as the group
// is above them. A block that is written over to its end, cut or punched before
// that needs no read. A group is built when its blocks are complete. Without a
// quorum it waits for that, as for its commit. What no member can read while there
// is one would hold up all others: the group goes without that block, which stays
// as it was and reads as an error. The write is lost then, though it was accepted
// and though a part of the call may be there. Who syncs the file is told (Lost)
// until the block is replaced, and at least once. While something is wrong the
// block is read within the call, which fails if it cannot be.
//
// A group closes after Options.Commit, at 32 MiB in memory, and on Sync. All
// who called Sync before it closed share its commit, and of those who do so side
// by side the first is held for a moment until the others are there.
//
// A small group that a Sync waits for goes into the members' intent logs. It is
// durable then, and committed, but in no tree: its content is laid over that of
// the groups logged before it, and this one overlay stays in the state until a
// group is committed by way of the trees, which brings in all before it: after
// Options.Commit, for space or memory, for operations, on Settle, and for all
// as long as a member is copied or copies are compared. Space and memory stay
// reserved until then. A member may log a txg or commit it, as it likes.
//
// # What readers see
//
// A reader takes the state once: open group, syncing group, committed views.
// A new group is in the state before a call can enter it. A group leaves the
// state in the same step in which views that contain it arrive. So nothing is
// missed, and looking twice at a change does no harm, since a change says
// what is, not what to add. States, overlays and views are counted; buffers
// are used again when the last reader has let go.
//
// # Space
//
// Begin admits a call if the worst case of all that was admitted fits on the
// smallest master: blocks as if they did not compress, one table for each
// leaf as long as there are so many. At End the call's share shrinks to what
// it really brought. If it does not fit, what is open is committed, dropped
// blocks are freed, volumes are walked, in this order, and only then the call
// gets ErrNoSpace. Calls that free space may use the reserve of the volumes, and ask
// only the masters in sync: who is behind gets room by them. If it comes to that,
// those are enough that a commit needs, and the others run full.
//
// # Blocks of snapshots
//
// A call may give a file blocks that a snapshot has (ShareSnapshot). They are
// named by the snapshot, and each node takes its own. A node without it cannot
// apply such a group: members at hand are asked before, one that comes later is
// sent it once, and brought in sync by a copy then. Groups that take blocks and
// groups that delete are ordered by snapUse.
//
// # Locks
//
// The caller of Pool orders calls about one inode; it must not wait for one of
// its own locks between Begin and End. Inside:
//
//	Pool.stateMu → engine
//	overlayShard.mu        (map only)
//	onode.mu               (content; held for copies, never across I/O)
//
// # After a crash
//
// The pool is as some group left it: every call entirely or not at all, and
// none that a Sync covered is missing.
//
// # Mounted elsewhere
//
// Members are open and locked while they are mounted, so that only who carries
// the devices off can change them meanwhile. The mount finds that when a request
// fails and the members come back with an epoch that it did not lead; without a
// request there is nothing to find it by. It serves nothing from then on.
//
// Not here: names and permissions (fs), bringing nodes back in sync (package
// resync), one volume's trees (chain). The protocol itself, without
// goroutines and clocks, is package core; sim tries to break it.
package cluster
