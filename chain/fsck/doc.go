// Package fsck checks a volume without writing to it: whether every rule of
// the media format holds that another implementation, or we ourselves, rely on.
//
//	headers    every slot: codes, fields, which one is in use
//	tree       super-root -> PFSs -> tables, inodes, entries, data:
//	           places, order, ranges, check codes, tids, counts
//	names      of each PFS: inodes against the entries that name them
//	freemap    what is marked against what the tree reaches, both ways
//	old trees  on request: what the other header slots reach
//
// What is found goes into a Report: each Finding has a severity, names the
// object (PFS, path, inode, address) and says what can be done.
//
//	Error    data or structure is damaged, or a writer would do damage
//	Warning  wrong, but nothing is lost and nobody is misled
//	Info     worth knowing: space that waits for bulkfree, a foreign writer
//
// Cost: metadata is read once for each PFS, data blocks once. Tables that
// snapshots share are judged once. Memory: a bit per 16 KiB chunk in use, two
// words for each block seen (bounded), and some twenty bytes for each inode and
// each entry of the PFS at hand. Reads run in parallel.
//
// Two entries of one name in a directory are noticed where they lie in one
// table, which they do unless more than a table's worth of names share a hash.
//
// What is certain to be put right is listed in the report: a freemap is made up
// from the tree (chain.Options.DoubtFreemap), names and inodes are changed by
// package fs/repair on all members at once, as Fixes say.
//
// Not here: writing. Damaged blocks are repaired from another node (cluster).
package fsck
