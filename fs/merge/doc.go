// Package merge brings the changes of a branch back to where it comes from: a
// copy that was taken away and changed there (cluster.Branch), into the
// filesystem of the cluster while that is in use.
//
// There are three trees. What the branch changed is the difference between
// ours and base, found by comparing tables that changed since (chain.Diff);
// what it meets is theirs:
//
//	                base: kept by the branch, what it left with
//	               /    \
//	branch: ours         theirs: the cluster, as it is when each item's turn comes
//	               \    /
//	           items, in order: inodes, then names that come, then names that go
//
// An item is an inode of base whose content or attributes the branch changed, or
// a name in a directory that leads elsewhere than in base. Each is decided by
// comparing three ways (decide.go): what the cluster has not touched gets what
// the branch made of it; what both changed stays as the cluster has it, and what
// the branch has is stored beside it as NAME.conflict-NODE-N, and listed. What
// would be lost otherwise is never removed.
//
// A file that came into being in the branch has a number that the cluster may
// have given to another. So a range of numbers is taken at the start, and file x
// of the branch becomes file first+x-lowest. Directories that both sides made
// under one name become one.
//
// # After a crash
//
// Progress is a record in the cluster's own tree (inode 9): the branch, its last
// txg, the range of numbers, and which item is next. It is stored by the
// transaction that carries out the item, so an item is done once. One of more
// data than fits a transaction is marked by a time that the file has meanwhile:
// if it still has it, the item is done again from its beginning; if not, somebody
// changed the file since, and that is a conflict.
//
// If the branch was changed again before its merge ended, all items are decided
// anew: what was merged is equal on both sides by then, and nothing is to be done.
//
// # Locks
//
// An item locks its inodes as a call does (fs.Graft), and is one transaction, or
// several under the same locks. The kernel is told afterwards, with no lock held.
//
// Not here: how a branch begins and ends on media (cluster), how it is brought up
// to date afterwards (package resync), when a merge is run (cmd).
package merge
