package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Store is what the filesystem keeps its files in: *cluster.Pool through
// OnPool. All methods may be called at once by many; calls about the same
// inode are ordered by that inode's lock.
type Store interface {
	// Inode returns a record that nobody changes any more.
	Inode(ctx context.Context, inum uint64) (*Record, bool, error)
	// Inodes calls fn for the records of those numbers, which ascend. It may
	// leave out some and pass some twice, but is faster than Inode for many.
	Inodes(ctx context.Context, inums []uint64, fn func(*Record)) error
	Lookup(ctx context.Context, dir uint64, name string) (ondisk.Dirent, bool, error)
	// ReadDir calls fn for the entries of dir with Key >= from in the order
	// of their keys until fn returns false.
	ReadDir(ctx context.Context, dir, from uint64, fn func(ondisk.Dirent) bool) error
	// ReadData fills dst from offset off; what was never written is zero.
	ReadData(ctx context.Context, inum, off uint64, dst []byte) error
	// Lend is ReadData into a buffer of the store, which Return gives back.
	Lend(ctx context.Context, inum, off uint64, n int) ([]byte, error)
	Return(b []byte)
	// SeekData and SeekHole find the next byte with or without data at or
	// after off and below size; false: there is none.
	SeekData(ctx context.Context, inum, off, size uint64) (uint64, bool, error)
	SeekHole(ctx context.Context, inum, off, size uint64) (uint64, bool, error)
	// Blocks is the space the data of inum takes on media, in bytes.
	Blocks(ctx context.Context, inum uint64) (uint64, error)
	// Orphans returns a walk over the inodes that have no link as of now, and
	// the attribute inodes whose owner is gone; fn says whether to go on. It
	// may run while the store is in use, and must be called once.
	Orphans(ctx context.Context) (walk func(ctx context.Context, fn func(inum uint64) bool) error, err error)

	// Begin starts a transaction that adds at most cost; it may wait until
	// there is room. BeginFree is for calls that give space back.
	Begin(ctx context.Context, cost Cost) (Txn, error)
	BeginFree(ctx context.Context) (Txn, error)
	// SettleData brings an inode's bytes [lo, hi) to media if much of them is
	// in memory only, so that ShareData need not copy them.
	SettleData(ctx context.Context, inum, lo, hi uint64) error
	// Sync returns when everything that Ended before is durable.
	Sync(ctx context.Context) error
	// Lost tells once why something that was written to an inode could not be
	// made durable, though Sync returned nil; LostAny, to any inode.
	Lost(inum uint64) error
	LostAny() error
	StatFS() StatFS
}

// A Txn is the change of one system call. End must be called exactly once.
type Txn interface {
	NewInum() uint64
	PutInode(r *Record) // r must not be changed afterwards
	DeleteInode(inum uint64)
	// AddDirent needs to know that name is free, under dir's lock.
	AddDirent(dir uint64, name string, inum uint64, typ ondisk.ObjType) error
	RemoveDirent(dir uint64, name string) error
	ReplaceDirent(dir uint64, name string, inum uint64, typ ondisk.ObjType) error
	WriteData(ctx context.Context, inum, off uint64, p []byte) error
	ZeroData(ctx context.Context, inum, from, to uint64) error
	TruncateData(ctx context.Context, inum, oldSize, newSize uint64) error
	// ShareData gives whole blocks of dst the content of src, by reference
	// where it can; length ends at a block or where both files end. It returns
	// how far it came, which may be less.
	ShareData(ctx context.Context, src, srcOff, dst, dstOff, length uint64) (done uint64, err error)
	// ShareSnapshot is ShareData of a source in a snapshot.
	ShareSnapshot(ctx context.Context, s cluster.SnapshotName, src, srcOff, dst, dstOff, length uint64) (done uint64, err error)
	End()
}
