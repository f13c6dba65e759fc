package fs

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Options of a filesystem; zero values are defaults.
type Options struct {
	Nodes   int  // unused inodes kept in memory; 0 = 16384
	NoAtime bool // reads leave no trace
	Logger  *slog.Logger
	// Now is the clock; nil is the system's.
	Now func() time.Time
}

// An FS is the POSIX meaning of a Store. Its methods take inode numbers and
// may be called at once by many.
type FS struct {
	store Store
	table *table
	opts  Options
	log   *slog.Logger
	now   func() time.Time

	readOnly bool
	quotas   *quotas

	reaper *reaper
	atimes *atimes
	down   atomic.Bool // by Shutdown
	gate   *gate       // that requests go through
	rolled atomic.Bool // files may be gone without their last name
	mapped atomic.Bool // what mappings write is of content that was rolled back

	// modeFell tells the kernel of bits that a write took from a file's mode: it
	// believes what it knew of it, and would run the file as its owner. May be nil.
	modeFell func(inum uint64)

	stopCollecting context.CancelFunc // nil if nothing is collected
	collected      chan struct{}
}

// New returns the filesystem in store. What a crash left without a name is
// deleted in the background; with readOnly nothing is.
func New(ctx context.Context, store Store, readOnly bool, opts Options) (*FS, error) {
	f := &FS{readOnly: readOnly, store: store, table: newTable(opts.Nodes), opts: opts, log: opts.Logger, now: opts.Now, gate: newGate()}
	if f.log == nil {
		f.log = slog.Default()
	}
	if f.now == nil {
		f.now = time.Now
	}
	var err error
	if f.quotas, err = newQuotas(ctx, f); err != nil {
		f.log.Warn("directory quotas are not known: none is enforced", "error", err)
	}
	f.reaper = newReaper(f)
	f.atimes = newAtimes(f)
	if readOnly {
		f.opts.NoAtime = true
		return f, nil
	}
	if err := f.collectOrphans(ctx); err != nil {
		return nil, errors.Join(err, f.Close(ctx))
	}
	f.quotas.start()
	return f, nil
}

// Close stores what is pending: times of reads, and the end of files that the
// kernel held without a name. No other call may be running or come after.
func (f *FS) Close(ctx context.Context) error {
	if f.stopCollecting != nil {
		f.stopCollecting()
		<-f.collected
	}
	f.quotas.stop()
	f.atimes.close()
	if !f.down.Load() {
		f.reaper.add(f.table.drain()...)
	}
	return f.reaper.close(ctx)
}

// checkName refuses names that no directory can hold.
func checkName(name string) error {
	switch {
	case len(name) > ondisk.NameMax:
		return errTooLong
	case name == "" || name == "." || name == ".." || strings.IndexByte(name, '/') >= 0:
		return errInvalid
	}
	return nil
}

// Lookup finds name in directory dir and counts a reference to what it
// found. ok is false if there is no such name.
func (f *FS) Lookup(ctx context.Context, dir uint64, name string) (r *Record, ok bool, err error) {
	if len(name) > ondisk.NameMax {
		return nil, false, errTooLong
	}
	d, drec, err := f.rlock(ctx, dir)
	if err != nil {
		return nil, false, err
	}
	defer f.runlock(d)
	if drec.Meta.Type != ondisk.ObjDir {
		return nil, false, errNotDir
	}
	entry, ok, err := f.store.Lookup(ctx, dir, name)
	if err != nil || !ok {
		return nil, false, err
	}
	f.lookedUp(ctx, d, entry.Key)
	// The entry cannot go while dir is locked, so its inode is there.
	r, err = f.peek(ctx, entry.Inum)
	if err != nil {
		return nil, false, err
	}
	f.table.ref(entry.Inum, r.Meta.Type)
	return r, true, nil
}

// peek returns the record of an inode without locking it, with the time of a
// read that is not stored yet.
func (f *FS) peek(ctx context.Context, inum uint64) (*Record, error) {
	n := f.table.pin(inum)
	defer f.table.unpin(n)
	r, err := f.record(ctx, n)
	if err != nil {
		return nil, err
	}
	if ns := n.atime.Load(); ns != 0 {
		c := *r
		r = &c
		setAtimeNs(&r.Meta, ns)
	}
	return r, nil
}

// Reopen counts a reference to an inode by its number alone, for handles
// that outlived the kernel's caches. errStale if it is gone or unnamed.
func (f *FS) Reopen(ctx context.Context, inum uint64) (*Record, error) {
	if inum&ondisk.AttrBit != 0 || inum > ondisk.InumRoot && inum < ondisk.InumFirst {
		return nil, errStale
	}
	n, r, err := f.rlock(ctx, inum)
	if err != nil {
		return nil, err
	}
	defer f.runlock(n)
	if r.Meta.Nlinks == 0 {
		return nil, errStale
	}
	f.table.ref(inum, r.Meta.Type)
	return r, nil
}

// Forget takes back references to inum.
func (f *FS) Forget(inum, count uint64) {
	if f.table.unref(inum, count) {
		f.reaper.add(inum)
	}
}

// Stat returns the record of an inode.
func (f *FS) Stat(ctx context.Context, inum uint64) (*Record, error) {
	return f.peek(ctx, inum)
}

// update changes the record of a locked inode by a function of its copy.
func (f *FS) update(t Txn, n *node, change func(m *ondisk.InodeMeta)) *Record {
	old := n.rec.Load()
	r := &Record{Meta: old.Meta, Inline: old.Inline}
	change(&r.Meta)
	f.put(t, n, r)
	return r
}

// put makes r the record of a locked inode.
func (f *FS) put(t Txn, n *node, r *Record) {
	t.PutInode(r)
	n.rec.Store(r)
}

// clock returns the time of a change.
func (f *FS) clock() (sec int64, nsec uint32) {
	now := f.now()
	return now.Unix(), uint32(now.Nanosecond())
}
