// Package cache keeps blocks of slow members on a fast device of this host.
//
//	reader -> chain.View ─ Get ─▶ Store: index in memory ─▶ segment on the device
//	                     └ miss ─▶ member ─ Put ─▶ queue ─▶ filler, one goroutine
//
// It is never asked what is true. A block is looked up by all that makes it the
// block that is wanted (chain.BlockID), and what the device returns counts only
// if the check code of the blockref that led there says so. So an entry that is
// old, torn, misplaced or flipped is a miss, and is dropped. Blocks without a
// check code are never kept. What is kept are the bytes as on the members' media:
// compressed as they are there.
//
// # On the device
//
// It is a HAMMER2 volume with a PFS of type CACHE, which names the cluster that
// it belongs to. Blocks lie in the volume's free space, where nothing refers to
// them: for everybody else the volume is empty, and who allocates there takes
// away entries, and nothing else. The space is cut into segments of 1 MiB,
// written from front to back:
//
//	table: generation, queue, one (key, place, length) for each block   8 KiB
//	blocks
//
// Keys are hashes of the BlockID with a salt, the fsid of the PFS: nobody can
// aim at the key of a block that is not his, and after a newfs nothing is found.
// On opening the tables are read, the newest segments first, in the background;
// one that is torn is an empty segment. So there is no order to keep between
// writes, and nothing is ever flushed.
//
// # What stays
//
// S3-FIFO, by segments: a new block goes to the small queue, a tenth of the
// space. What was asked for again there moves to the main queue when its segment
// leaves, the rest leaves only a ghost, its key. A block whose ghost is known
// goes to the main queue at once, and what leaves the main queue goes round
// again if it was asked for since. So a long scan passes through the small
// queue and takes nothing from the main one. No more than half of a segment of
// the main queue goes round, so that room is found always.
//
// # Waiting
//
// Nobody waits for the filler: an offer that does not fit its queue is
// forgotten. A read of the device is waited for as long as Options.Patience;
// while one is out for longer the cache is passed by. A device that fails a
// write, or several reads in a row, or has a request out for Options.Deadline,
// is given up: Report says why, and Options.Failed is called.
//
// Store.mu guards the index and the queues, and is never held during I/O but for
// copies from the segment that is being filled. Only the filler writes.
//
// # After a crash
//
// Some of what was kept is there, or nothing.
//
// Not here: who attaches it (cluster), where blocks come from (chain).
package cache
