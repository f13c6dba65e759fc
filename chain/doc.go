// Package chain is one HAMMER2 volume: the copy-on-write tree of blocks, the
// freemap, PFSs and snapshots, read through views and changed by transactions.
//
//	View ----reads----> committed tree <---publishes--- Commit
//	 |  pins a header                                     ^
//	 v                                                    |
//	quarantine: space that views        Txn: batches and PFS operations
//	and older headers still read         |          |           |
//	                                   trees    allocator   write queue
//	                                  (Apply)   (freemap)   (device writes)
//
// A Batch of leaf changes is merged into a PFS's tree in one sorted pass;
// every table it touches is written once, at a new place. The PFS's new root
// goes into the super-root, the super-root's into the header.
//
// Commit writes blocks and freemap, flushes, writes the next header slot,
// flushes. The freemap goes with every header, so it never lags.
//
// Space: what a transaction drops is free again when no header that a crash
// could select and no view reaches it, if it is certain that nobody else refers
// to it: we wrote it, for this PFS, after its last snapshot. All else is found by
// Bulkfree. Data blocks may have several places: a change can share one, also of a
// snapshot. Nothing
// counts them; an inode is marked with the tid up to which its blocks may have
// others, and what it drops up to there is left to Bulkfree. Small blocks share chunks of 16 KiB; those begun since Open are
// kept account of and freed with their last block.
//
// Locks, outer first: Bulkfree's own; the turn, held by the one running Txn,
// which owns freemap, allocator and header slots; Volume.mu, for what readers
// see, never held during I/O; the write queue's. Views take no lock to read.
//
// Small txgs that someone waits for need not go this way: Log makes them
// durable with one write and one flush in the aux area, and the next
// transaction brings them into the tree; see intentLog.
//
// After a crash: the newest header with good codes is the truth. All it reaches
// was flushed before it was written and is not overwritten while any of the
// four slots, or the spare copy of a single slot, refers to it. Commit
// returning nil means durable. After a failed write or flush this open writes
// nothing more.
//
// Damage: every block is verified against its blockref's check code. A block
// that fails is a *NodeError that names the place; what lies beside it stays
// usable.
//
// Not here: which volume is right (cluster), encoding of blocks (ondisk), names
// and permissions (fs).
package chain
