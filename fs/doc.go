// Package fs gives a pool of nodes its POSIX meaning and serves it through
// FUSE: names, links, permissions' raw material, data, holes, attributes,
// files that outlive their name, and the control directory.
//
//	kernel ── /dev/fuse ── conn (device loop, opcodes go-fuse lacks)
//	                         │ go-fuse decodes, calls
//	                        raw (fuse.RawFileSystem: words of the protocol)
//	                         │ inode numbers, names, errors
//	                        FS  (POSIX meaning, locks, this package's core)
//	                         │ Store, Txn: records, entries, blocks
//	                        cluster.Pool
//
// The number the kernel knows a file by is its inode number, which is never
// used again, so that no table translates and a handle that left the caches
// long ago (NFS, open_by_handle_at) still works.
//
// # What is kept per file
//
// A node holds an inode's lock, its record and its small attributes. Nodes
// that no call uses are dropped at random above a bound; everything in them
// can be read again. What must not be forgotten is small and apart: how many
// references the kernel holds (8 bytes of count per inode), and which inodes
// have lost their last name.
//
// Regular files have no handles: the kernel is told that OPEN, FLUSH and
// RELEASE mean nothing here. A file without a name lives until the kernel
// forgets its inode, which it does at the last close; then, or at unmount, or
// at the next mount after a crash, its record and data go (reap.go).
//
// # Locks
//
// One lock per inode covers record, data, attributes and, of a directory, its
// entries. A call that needs several takes them in increasing order of inode
// number; out of that order it only tries, and starts again when it fails
// (lock.go). Store.Begin comes last: no lock is waited for between Begin and
// End, since a transaction group closes only when all its calls have ended.
// The table's shard locks are leaves.
//
//	node.mu (increasing inode number) → Store.Begin → shard.mu
//
// The kernel is never notified synchronously of anything that takes a page or
// directory lock there.
//
// # Calls are atomic
//
// A system call that changes something is one Txn, so one transaction group.
// Steps that can fail come before steps that cannot. Long calls (copy, writes
// above the request size) are several Txns, as they are several requests.
//
// # Accounts
//
// A directory may have an account: how many bytes and inodes the tree below it
// takes, and limits (quota*.go). Each inode names the account it is charged to,
// as XFS's projects do, rather than being found by its parents: so finding it
// costs nothing on any path, files that are open without a name stay charged,
// and a snapshot, a resync or a rollback takes the charge along with the inode.
// The price is that a tree is walked once when it gets an account, and that what
// cannot be charged elsewhere in one step does not cross the border (border.go).
//
// The sums are the pool's: it alone knows what blocks take after compression,
// at the commit, and stores them in the same group as what they count. Here,
// calls are admitted against the sums, plus the most that calls in open groups may
// add, plus what is admitted and has not ended; so concurrent calls never pass
// a limit together. Where that says no, open groups are committed first, and
// the bound of the call is made exact. quotas.mu is a leaf, held while the sums
// are read.
//
// # After a crash
//
// The pool is as some group boundary left it: every call entirely or not at
// all. Files without a name and attributes without a file may be left; New
// deletes them.
//
// # Control files
//
// MNT/.anvilfs/control takes commands. The file as one opener sees it is a
// transcript: a write appends a command and at once its reply behind it, so
// that the next read of the same open file returns the reply. A command that
// fails makes write(2) fail too, with the reason as the reply. Each path walk
// makes a fresh transcript, since there are no handles to tell openers apart.
//
// # Snapshots
//
// MNT/.anvilfs/snapshots/NAME is a snapshot, read-only. Each is an FS of its
// own over a Store of its own; the numbers of its nodes carry the snapshot's
// slot in front (snapshots.go). One is opened when it is first looked at, and
// closed when the kernel has forgotten the last of its nodes, deleted or not:
// files that are open stay readable.
//
// # What the kernel keeps
//
// It keeps attributes for good, since all changes come through it, but for one: what
// a file takes is another number once a commit compressed it. Files of which it was
// told before are noted, and it forgets what it has of them then (recount.go).
//
// # Other content under a mount
//
// A rollback closes a gate that all requests about files pass (gate.go), puts
// the other content in place, forgets what was known of inodes, opens the gate
// and has the kernel forget, too (rollback.go, renew.go). Who changes files and is
// no request enters by Use. The gate is outside of all locks.
//
// Not here: quorum and repair (cluster, sync), media (chain, ondisk), who may
// do what (the kernel checks permissions: default_permissions).
package fs
