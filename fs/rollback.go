package fs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Other content under a mounted filesystem.
//
// Requests are kept out until those inside are answered, then the content is
// changed, everything known of it is forgotten here, and requests go on: they
// see what is there now. An inode number stands for the same file for ever, so
// what the kernel has open goes on with the file's other content, or is stale
// if there is no such file now. Only then is the kernel told what it has to
// forget, since it waits for requests that are under way while it does.
//
// Between the two, programs may see names and content that the kernel had, and
// pages that were written through mappings before come back as writes: those
// are of what is gone, and are dropped.

// settleTime is how long requests that are under way are waited for. Longer
// takes only what waits for members that do not answer.
const settleTime = 20 * time.Second

// errUnsettled: requests under way do not come to an end.
var errUnsettled = errors.New("calls that wait for the members do not come to an end: try again when a majority is in sync")

// A Before is a store as it was at an instant.
type Before interface {
	ReadDir(ctx context.Context, dir, from uint64, fn func(ondisk.Dirent) bool) error
	Release()
}

// changing is an optional part of a Store, one whose content can be exchanged.
type changing interface{ Before() Before }

// Rollback lets change put other content in place of what is in the store, and
// returns when nobody sees anything else any more. change says with done whether
// the content is another one now, and may have those who wait refused.
func (s *Server) Rollback(ctx context.Context, change func(refuse func()) (done bool, err error)) error {
	s.rolling.Lock()
	defer s.rolling.Unlock()
	s.writeBack()
	return s.FS.Exchange(ctx, change, func(before Before) {
		s.forgetAll(ctx, before)
		s.FS.mapped.Store(false)
	})
}

// Exchange is Rollback but for the kernel. other is called when requests go on
// and the content is another one.
func (f *FS) Exchange(ctx context.Context, change func(refuse func()) (done bool, err error), other func(before Before)) error {
	before, done, err := f.exchange(ctx, change)
	if before == nil {
		return err
	}
	defer before.Release()
	if done {
		other(before)
	}
	limited, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if cerr := f.collectOrphans(limited); cerr != nil {
		// The next mount finds them.
		f.log.Warn("looking for unnamed files", "error", cerr)
	}
	return err
}

// writeBack has the kernel write the pages that were changed through mappings,
// so that the snapshot of before has them. syncfs(2) would not wait for that;
// dropping pages does, and they go anyway.
func (s *Server) writeBack() {
	for _, inum := range s.FS.table.all() {
		s.conn.invalidateData(inum)
	}
}

// exchange changes the content while no request is inside.
func (f *FS) exchange(ctx context.Context, change func(refuse func()) (bool, error)) (before Before, done bool, err error) {
	store, ok := f.store.(changing)
	if !ok || f.down.Load() {
		return nil, false, errNotHere
	}
	limited, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := f.gate.close(limited); err != nil {
		if ctx.Err() == nil {
			err = errUnsettled
		}
		return nil, false, err
	}
	defer f.gate.open()
	again := f.stopBackground(ctx)
	defer func() { again(ctx, done) }()
	before = store.Before()
	done, err = change(f.gate.refuse)
	if done {
		f.mapped.Store(true)
		f.rolled.Store(true)
		f.table.renew()
		f.reaper.clear()
	}
	return before, done, err
}

// stopBackground ends or stores what is done beside requests, and keeps it from
// going on until the result is called; other says whether the content is
// another one by then.
func (f *FS) stopBackground(ctx context.Context) (again func(ctx context.Context, other bool)) {
	f.quotas.stop()
	if f.stopCollecting != nil {
		f.stopCollecting()
		<-f.collected
	}
	f.atimes.store()
	f.atimes.busy.Lock()
	f.reaper.turn.Lock()
	for batch, _ := f.reaper.take(); len(batch) > 0; batch, _ = f.reaper.take() {
		if err := f.reap(ctx, batch); err != nil {
			f.log.Warn("unnamed files stay in the snapshot", "files", len(batch), "error", err)
		}
	}
	return func(ctx context.Context, other bool) {
		f.reaper.turn.Unlock()
		f.atimes.busy.Unlock()
		f.quotas.again(ctx, other)
	}
}

// forgetAll makes the kernel forget what is not so any more: attributes and
// content of all inodes that it knows, and of the directories the names that
// stand for something else.
func (s *Server) forgetAll(ctx context.Context, before Before) {
	s.conn.invalidateData(ondisk.InumRoot)
	for _, inum := range s.FS.table.all() {
		s.conn.invalidateData(inum)
	}
	for _, dir := range s.FS.table.directories() {
		changed, err := s.FS.changedNames(ctx, before, dir)
		if err != nil {
			// Without the list, a name that the kernel has wrong leads to an
			// inode that is there or is stale.
			s.FS.log.Warn("names in a directory may be out of date until looked up anew", "inode", dir, "error", err)
		}
		for _, name := range changed {
			s.conn.invalidateEntry(dir, name)
		}
	}
}

// changedNames lists the names in a directory that another inode, or none, has
// now, those that only now are there included: the kernel may know that they
// were not.
func (f *FS) changedNames(ctx context.Context, before Before, dir uint64) (names []string, err error) {
	was := make(map[string]uint64)
	err = before.ReadDir(ctx, dir, 0, func(d ondisk.Dirent) bool {
		was[d.Name] = d.Inum
		return true
	})
	if err == nil {
		err = f.store.ReadDir(ctx, dir, 0, func(d ondisk.Dirent) bool {
			if was[d.Name] != d.Inum {
				names = append(names, d.Name)
			}
			delete(was, d.Name)
			return true
		})
	}
	for name := range was {
		names = append(names, name)
	}
	if err != nil {
		return names, fmt.Errorf("directory %d: %w", dir, err)
	}
	return names, nil
}

// gated reports whether a request is about content that a rollback exchanges.
// What leads to the control files is not.
func (r *raw) gated(op uint32, in []byte) bool {
	inum := binary.NativeEndian.Uint64(in[16:])
	switch op {
	case opInterrupt, opDestroy, opInit, opStatFS:
		return false
	case opLookup:
		if inum == ondisk.InumRoot && string(in[lenInHeader:]) == controlDir+"\x00" {
			return false
		}
	}
	return !r.ctl.owns(inum)
}

// orphan is told of an inode that had no link when the walk began. What the
// kernel still holds lives on until it is forgotten.
func (f *FS) orphan(ctx context.Context, inum uint64) {
	if inum&ondisk.AttrBit != 0 {
		f.reaper.add(inum)
		return
	}
	n, rec, err := f.rlock(ctx, inum)
	if err != nil {
		return // it is gone, or cannot be read
	}
	defer f.runlock(n)
	if rec.Meta.Nlinks == 0 && f.table.lost(inum) {
		f.reaper.add(inum)
	}
}
