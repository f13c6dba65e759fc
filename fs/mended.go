package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A refresher is a store that can take up what its members hold now.
type refresher interface{ Refresh() }

// Mended is to be called after a member's copy of an inode, of its content or of
// entries in it was overwritten: it could be read and was wrong, so the wrong
// one may be known here and in the kernel. snapshot is the one that it was in, ""
// what is mounted; names are those of the entries, before and after. It waits
// for pages in use, so no request may wait for it.
func (s *Server) Mended(ctx context.Context, snapshot string, inum uint64, names []string) {
	f, base := s.FS, uint64(0)
	if snapshot != "" {
		snaps := s.conn.raw.ctl.snaps
		sl := snaps.shown(snapshot)
		if sl == nil {
			return // nobody has looked at it
		}
		defer snaps.unpin(sl)
		if r, ok := sl.store.(refresher); ok {
			r.Refresh()
		}
		f, base = sl.raw.fs, sl.raw.base
	}
	f.readAgain(ctx, inum)
	inum = base | inum&^ondisk.AttrBit
	s.conn.invalidateData(inum)
	for _, name := range names {
		s.conn.invalidateEntry(inum, name)
	}
}

// readAgain forgets what is known of an inode. Its record is not left empty:
// one that was read before could still come in.
func (f *FS) readAgain(ctx context.Context, inum uint64) {
	n := f.table.pin(inum &^ ondisk.AttrBit)
	defer f.table.unpin(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.attrs.Store(nil)
	r, ok, err := f.store.Inode(ctx, n.inum)
	if err != nil || !ok {
		r = nil
	}
	n.rec.Store(r)
}

// shown returns the slot of a snapshot that was looked at, pinned.
func (s *snapshots) shown(name string) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.slots {
		if sl.snap.Name == name {
			sl.pins++
			return sl
		}
	}
	return nil
}
