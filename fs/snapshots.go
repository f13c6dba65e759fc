package fs

import (
	"context"
	"encoding/binary"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Snapshots are what MNT/.anvilfs/snapshots shows: *cluster.Pool through
// SnapshotsOf, or a double.
type Snapshots interface {
	SnapshotNames(ctx context.Context) ([]cluster.SnapshotName, error)
	OpenSnapshot(ctx context.Context, s cluster.SnapshotName) (SnapshotStore, error)
	Dropped() // a store of one that is deleted was closed
}

// A SnapshotStore is a snapshot to be read.
type SnapshotStore interface {
	Store
	Close(ctx context.Context) error
}

// Node numbers below .anvilfs/snapshots. Inode numbers are unique in one
// snapshot only, so those of a snapshot carry a number of its own:
//
//	bit 63    62        48..61   0..47
//	    0      1          slot   inode number
//
// Bit 62 is that of attribute inodes, which the kernel never sees.
const (
	snapshotsDir  = "snapshots"
	snapshotsInum = 17
	snapshotBit   = 1 << 62
	slotShift     = 48
	slotCount     = 1 << 14
	plainMask     = 1<<slotShift - 1
)

// snapshots are those that the kernel knows something of.
type snapshots struct {
	source Snapshots // nil: none are shown
	nodes  int       // inodes kept for each
	log    *slog.Logger

	mu      sync.Mutex             // guards what follows, and the pins of slots
	listed  []cluster.SnapshotName // when it was asked for last
	changed time.Time              // when that was found to be another list
	slots   map[uint64]*slot
	closing sync.WaitGroup
	ending  atomic.Int32 // of those that are being closed
	closed  bool
}

// A slot is a snapshot in use: from the first look at its root until the
// kernel has forgotten all of it.
type slot struct {
	snap  cluster.SnapshotName
	n     uint64
	raw   *raw
	store SnapshotStore
	pins  int       // those at work on it besides requests below it
	gone  time.Time // when it was found to be deleted
}

func newSnapshots(source Snapshots, log *slog.Logger, nodes int) *snapshots {
	return &snapshots{source: source, nodes: nodes, log: log, changed: time.Now(), slots: make(map[uint64]*slot)}
}

// owns reports whether a node is the directory of snapshots, or in one.
func (s *snapshots) owns(inum uint64) bool {
	return s.source != nil && (inum == snapshotsInum || inum>>62 == 1)
}

// below returns who answers for a node inside a snapshot, and takes the slot
// out of the number in h. nil: the node is not in a snapshot, or in one that
// is gone.
func (s *snapshots) below(h *fuse.InHeader) *raw {
	sl := s.at(h.NodeId)
	if sl == nil {
		return nil
	}
	h.NodeId &= plainMask
	return sl.raw
}

// at returns the slot of a node inside a snapshot, else nil.
func (s *snapshots) at(node uint64) *slot {
	if s.source == nil || node>>62 != 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots[node>>slotShift&(slotCount-1)]
}

// list returns all snapshots. The kernel keeps what it reads of a directory until
// the directory's time is another one, so that is when the list last was one.
func (s *snapshots) list(ctx context.Context) ([]cluster.SnapshotName, error) {
	all, err := s.source.SnapshotNames(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(all, s.listed) {
		s.listed, s.changed = slices.Clone(all), time.Now()
	}
	return all, nil
}

// turned is when the list last was another one.
func (s *snapshots) turned(ctx context.Context) time.Time {
	_, _ = s.list(ctx) // if it cannot be read, nothing is known to be new
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// find returns the snapshot of that name.
func (s *snapshots) find(ctx context.Context, name string) (cluster.SnapshotName, bool, error) {
	all, err := s.list(ctx)
	if err != nil {
		return cluster.SnapshotName{}, false, err
	}
	for _, n := range all {
		if n.Name == name {
			return n, true, nil
		}
	}
	return cluster.SnapshotName{}, false, nil
}

// lookup answers for a name in the directory of snapshots. The kernel is to
// ask each time: the snapshot may be gone, or another.
func (s *snapshots) lookup(ctx context.Context, name string, out *fuse.EntryOut) fuse.Status {
	switch name {
	case ".":
		if _, err := s.list(ctx); err != nil {
			return fuse.Status(Errno(err))
		}
		out.NodeId, out.Generation = snapshotsInum, 1
		s.attr(&out.Attr)
		return fuse.OK
	case "..":
		return fuse.ENOENT
	}
	snap, ok, err := s.find(ctx, name)
	if err != nil || !ok {
		return statusOr(err, fuse.ENOENT)
	}
	sl, err := s.open(ctx, snap)
	if err != nil {
		s.log.Warn("snapshot cannot be shown", "snapshot", name, "error", err)
		return fuse.Status(Errno(err))
	}
	rec, err := sl.raw.fs.Reopen(ctx, ondisk.InumRoot)
	if err == nil {
		sl.raw.fillEntry(ctx, out, rec)
		out.EntryValid = 0
	}
	s.unpin(sl)
	return statusOr(err, fuse.OK)
}

func (s *snapshots) unpin(sl *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.pins--
	s.release(sl)
}

func statusOr(err error, good fuse.Status) fuse.Status {
	if err != nil {
		return fuse.Status(Errno(err))
	}
	return good
}

// open returns the slot of a snapshot, pinned.
func (s *snapshots) open(ctx context.Context, snap cluster.SnapshotName) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errStale
	}
	// The same snapshot has the same number as long as none is in its place.
	n := uint64(binary.LittleEndian.Uint16(snap.Clid[:])) % slotCount
	for ; s.slots[n] != nil; n = (n + 1) % slotCount {
		if sl := s.slots[n]; sl.snap.Clid == snap.Clid {
			sl.pins++
			return sl, nil
		}
		if len(s.slots) == slotCount {
			return nil, syscall.ENFILE
		}
	}
	store, err := s.source.OpenSnapshot(ctx, snap)
	if err != nil {
		return nil, err
	}
	f, err := New(ctx, store, true, Options{Nodes: s.nodes, Logger: s.log})
	if err != nil {
		_ = store.Close(context.WithoutCancel(ctx)) // nothing was changed
		return nil, err
	}
	sl := &slot{snap: snap, n: n, store: store, pins: 1, raw: &raw{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), fs: f, log: s.log, readOnly: true, missed: new(missed),
		base: snapshotBit | n<<slotShift, ctl: newControl(nil),
	}}
	s.slots[n] = sl
	return sl, nil
}

// release closes a slot that nobody uses any more. s.mu is held.
func (s *snapshots) release(sl *slot) {
	if sl.pins > 0 || sl.raw.fs.table.held() || s.slots[sl.n] != sl {
		return
	}
	delete(s.slots, sl.n)
	s.ending.Add(1)
	gone := !sl.gone.IsZero()
	s.closing.Go(func() {
		defer s.ending.Add(-1)
		if s.end(sl); gone {
			s.source.Dropped()
		}
	})
}

// end closes what is below a slot.
func (s *snapshots) end(sl *slot) {
	ctx := context.Background()
	err := sl.raw.fs.Close(ctx)
	if serr := sl.store.Close(ctx); err == nil {
		err = serr
	}
	if err != nil {
		s.log.Warn("closing a snapshot", "snapshot", sl.snap.Name, "error", err)
	}
}

// forget takes back references to a node in a snapshot.
func (s *snapshots) forget(inum, count uint64) {
	if inum == snapshotsInum {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.slots[inum>>slotShift&(slotCount-1)]; sl != nil {
		sl.raw.fs.Forget(inum&plainMask, count)
		s.release(sl)
	}
}

// gone returns the slots of snapshots that are not in the list any more,
// pinned.
func (s *snapshots) gone(ctx context.Context) []*slot {
	s.mu.Lock()
	var out []*slot
	for _, sl := range s.slots {
		sl.pins++
		out = append(out, sl)
	}
	s.mu.Unlock()
	kept := out[:0]
	for _, sl := range out {
		if now, ok, err := s.find(ctx, sl.snap.Name); err == nil && (!ok || now.Clid != sl.snap.Clid) {
			s.mu.Lock()
			if sl.gone.IsZero() {
				sl.gone = time.Now()
			}
			s.mu.Unlock()
			kept = append(kept, sl)
		} else {
			s.unpin(sl)
		}
	}
	return kept
}

// close ends all slots: the kernel is gone.
func (s *snapshots) close() {
	s.mu.Lock()
	s.closed = true
	for n, sl := range s.slots {
		delete(s.slots, n)
		s.closing.Go(func() { s.end(sl) })
	}
	s.mu.Unlock()
	s.closing.Wait()
}

// attr is that of the directory of snapshots.
func (s *snapshots) attr(out *fuse.Attr) {
	out.Ino, out.Nlink, out.Mode = snapshotsInum, 2, syscall.S_IFDIR|0o755
	s.mu.Lock()
	sec, nsec := uint64(s.changed.Unix()), uint32(s.changed.Nanosecond())
	s.mu.Unlock()
	out.Mtime, out.Ctime, out.Atime = sec, sec, sec
	out.Mtimensec, out.Ctimensec, out.Atimensec = nsec, nsec, nsec
}

// readdir lists the directory of snapshots.
func (s *snapshots) readdir(ctx context.Context, pos uint64, add func(uint64, *ondisk.Dirent) bool) fuse.Status {
	all, err := s.list(ctx)
	if err != nil {
		return fuse.Status(Errno(err))
	}
	list := []ondisk.Dirent{
		{Inum: snapshotsInum, Type: ondisk.ObjDir, Name: "."},
		{Inum: controlInum, Type: ondisk.ObjDir, Name: ".."},
	}
	for _, n := range all {
		list = append(list, ondisk.Dirent{Inum: snapshotBit, Type: ondisk.ObjDir, Name: n.Name})
	}
	for i := pos; i < uint64(len(list)); i++ {
		if !add(i+1, &list[i]) {
			break
		}
	}
	return fuse.OK
}

// held names those that were found to be deleted so long ago and are still in use.
func (s *snapshots) held(since time.Duration) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.slots {
		if !sl.gone.IsZero() && time.Since(sl.gone) >= since {
			names = append(names, sl.snap.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// known reports whether the kernel knows something of one of them.
func (s *snapshots) known(names []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.slots {
		if slices.Contains(names, sl.snap.Name) {
			return true
		}
	}
	return false
}
