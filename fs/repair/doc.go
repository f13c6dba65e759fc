// Package repair puts names and inodes of a filesystem right that is not in
// use, as chain/fsck found them wrong.
//
//	fsck.Report of a member in sync ── Fixes ──▶ Apply ──▶ one transaction each
//	                                              │ looks again before it changes
//	                                              ▼
//	                                     Store: all members at once
//
// Only what is certain is done: a name without an inode goes, counts become what
// is there, and what no name leads to gets one in /lost+found. Nothing that a
// name leads to is ever removed. Each fix is judged anew against the store, so
// that a list which is out of date does no harm, and making it twice is the same
// as making it once.
//
// Not here: finding what is wrong (chain/fsck), damaged blocks (cluster,
// sync/scrub), the freemap (chain).
package repair
