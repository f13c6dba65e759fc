package fs

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Reading ahead in directories. Entries come in the order of their hashes, and
// few in that order lie together on media, so that each record would cost a
// request of its own. Of many, read in the order of their places, each place is
// read once.
const (
	aheadRun   = 8   // lookups in the order of the entries, before which nothing is read ahead
	aheadFirst = 128 // records read at first
	aheadTime  = 100 * time.Millisecond
)

// An ahead is what was read ahead of those who go through one directory.
type ahead struct {
	mu     sync.Mutex
	last   uint64 // key that was looked up last
	run    int    // lookups without a step back
	until  uint64 // last key whose record was read; MaxUint64 while one reads
	window int    // records read at once the last time
}

// aheadOf returns what is known of a pinned directory.
func aheadOf(d *node) *ahead {
	if a := d.ahead.Load(); a != nil {
		return a
	}
	d.ahead.CompareAndSwap(nil, new(ahead))
	return d.ahead.Load()
}

// lookedUp notes that the entry with that key was asked for by its name. Who
// asks for one after the other, as they were listed, will ask for the next ones.
func (f *FS) lookedUp(ctx context.Context, d *node, key uint64) {
	a := aheadOf(d)
	a.mu.Lock()
	if key <= a.last {
		a.run, a.until, a.window = 0, 0, 0
	} else {
		a.run++
	}
	a.last = key
	if a.run < aheadRun || key <= a.until {
		a.mu.Unlock()
		return
	}
	f.readAhead(ctx, d, a, key, aheadFirst)
}

// listed notes that the records of entries are about to be told.
func (f *FS) listed(ctx context.Context, d *node, entries []ondisk.Dirent) {
	if len(entries) == 0 {
		return
	}
	a := aheadOf(d)
	a.mu.Lock()
	if from := entries[0].Key; from <= a.last {
		a.until, a.window = 0, 0 // from the start
	}
	last := entries[len(entries)-1].Key
	a.last, a.run = entries[0].Key, aheadRun
	if last <= a.until {
		a.mu.Unlock()
		return
	}
	f.readAhead(ctx, d, a, max(entries[0].Key, a.until+1), len(entries))
}

// readAhead reads the records of entries from key on, at first so many, then four times
// as many each time they were used up, as long as that takes little time. It
// lets go of a.mu, which the caller locked.
func (f *FS) readAhead(ctx context.Context, d *node, a *ahead, key uint64, first int) {
	window := first
	if a.window > 0 {
		window = min(4*a.window, max(f.table.maxNodes*shardCount/2, first))
	}
	a.until = ^uint64(0)
	a.mu.Unlock()
	began := time.Now()
	entries, err := f.entries(ctx, d.inum, key, window)
	if err == nil {
		err = f.preload(ctx, entries)
	}
	if err != nil {
		f.log.Debug("reading ahead in a directory", "inode", d.inum, "error", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.window, a.until = window, 0
	if time.Since(began) > aheadTime {
		a.window = max(window/8, first/4)
	}
	if len(entries) > 0 {
		a.until = entries[len(entries)-1].Key
	}
}

// preload reads the records of entries, as far as they are not known. What it
// cannot read, who asks for it will meet again.
func (f *FS) preload(ctx context.Context, entries []ondisk.Dirent) error {
	// Pinned before the read, so that a change in between goes to the same
	// node and is not overwritten by what was read.
	nodes := make([]*node, len(entries))
	for i := range entries {
		nodes[i] = f.table.pin(entries[i].Inum)
	}
	defer func() {
		for _, n := range nodes {
			f.table.unpin(n)
		}
	}()
	missing := make([]*node, 0, len(nodes))
	for _, n := range nodes {
		if n.rec.Load() == nil {
			missing = append(missing, n)
		}
	}
	byNumber := func(a, b *node) int { return cmp.Compare(a.inum, b.inum) }
	slices.SortFunc(missing, byNumber)
	missing = slices.Compact(missing) // names of one inode
	inums := make([]uint64, len(missing))
	for i, n := range missing {
		inums[i] = n.inum
	}
	return f.store.Inodes(ctx, inums, func(r *Record) {
		if i, ok := slices.BinarySearch(inums, r.Meta.Inum); ok {
			missing[i].rec.CompareAndSwap(nil, r)
		}
	})
}
