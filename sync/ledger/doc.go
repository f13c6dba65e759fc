// Package ledger remembers, on the host, what was found bad on the members of
// one filesystem, and tries again what could not be repaired.
//
//	read, scrub --Found--> entry --due--> Repair --ok--> repaired
//	                         ^              |
//	                         +-- wait x2 ---+   60 s, 2 min, ... 24 h
//
// It is one bbolt file for each filesystem. Losing it costs counts and time,
// never data or safety: what is still bad is found again by the next read or
// scrub. It also keeps how far a scrub is.
//
// A file that bbolt would stumble over is found before bbolt sees it, renamed
// to FILE.damaged, and begun anew. What turns up later ends the ledger until the
// next mount, and the mount goes on.
//
// The file goes away when it is closed with nothing in it, neither an entry nor a
// job, and when the filesystem ends that it is of: a branch that was merged or given
// up. A scrub's place and times, and when its schedule began, are a job.
//
// Locks: bbolt's own. Ledger's methods may be called by several goroutines,
// and none waits for a member.
package ledger
