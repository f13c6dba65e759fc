package fs

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A sweeper makes the kernel forget deleted snapshots, so that nothing but
// files in use holds their space, and what it has of the list of them. The kernel
// does not tell when a file is closed, so it looks again until all is forgotten.
type sweeper struct {
	conn   *conn
	wish   chan struct{}
	asked  chan chan bool  // by those who wait for the answer
	ended  <-chan struct{} // closed when nobody answers any more
	cancel context.CancelFunc
	done   sync.WaitGroup
	listed time.Time // of the list of snapshots that the kernel may have
}

const (
	sweepFirst = time.Second
	sweepMax   = time.Minute
	sweepWait  = 2 * time.Second // with nothing closed: the rest is in use,
	sweepLooks = 20              // if it was looked as often as that meanwhile
	sweepMost  = 20 * time.Second
)

func (w *sweeper) start(c *conn) {
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	w.conn, w.wish, w.asked, w.ended = c, make(chan struct{}, 1), make(chan chan bool), ctx.Done()
	w.done.Go(func() { w.run(ctx) })
}

func (w *sweeper) stop() {
	w.cancel()
	w.done.Wait()
}

// SweepSnapshots is to be called after snapshots were deleted. It does not
// wait.
func (s *Server) SweepSnapshots() {
	select {
	case s.sweeper.wish <- struct{}{}:
	default:
	}
}

// ForgetSnapshots makes the kernel forget deleted snapshots, and waits until they
// are closed: a bulkfree finds the space of all that nobody uses then. What
// programs have in use it waits for no longer than a moment. It returns the names of
// these, if that can be known: their space cannot be found.
func (s *Server) ForgetSnapshots(ctx context.Context) (held []string) {
	ctx, cancel := context.WithTimeout(ctx, sweepMost)
	defer cancel()
	done := make(chan bool, 1)
	select {
	case s.sweeper.asked <- done:
	case <-s.sweeper.ended: // the mount is being taken away
		return nil
	case <-ctx.Done():
		return nil
	}
	select {
	case sure := <-done:
		if sure {
			return s.HeldSnapshots(0)
		}
	case <-s.sweeper.ended:
	case <-ctx.Done(): // the kernel waits for somebody
	}
	return nil
}

// HeldSnapshots names the snapshots that were found to be deleted so long ago and
// are still in use, or not forgotten by the kernel yet.
func (s *Server) HeldSnapshots(since time.Duration) []string {
	return s.conn.raw.ctl.snaps.held(since)
}

// KnowsSnapshots reports whether somebody looked into one of them lately.
func (s *Server) KnowsSnapshots(names []string) bool { return s.conn.raw.ctl.snaps.known(names) }

// forget looks until nothing is left to be closed, or what is left stays so: true,
// if there was time to see that.
func (w *sweeper) forget(ctx context.Context) (sure bool) {
	ctx, cancel := context.WithTimeout(ctx, sweepMost)
	defer cancel()
	least, since, looks := math.MaxInt, time.Now(), 0
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		left := w.look(ctx)
		if left < least {
			least, since, looks = left, time.Now(), 0
		}
		looks++
		if left == 0 || looks > sweepLooks && time.Since(since) > sweepWait {
			return ctx.Err() == nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
}

func (w *sweeper) run(ctx context.Context) {
	timer := time.NewTimer(sweepMax)
	pause := sweepFirst
	for {
		select {
		case <-w.wish:
			pause = sweepFirst
		case done := <-w.asked:
			pause = sweepFirst
			done <- w.forget(ctx)
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if w.look(ctx) == 0 {
			pause = sweepMax // others than commands delete snapshots, too
		}
		timer.Reset(pause)
		pause = min(2*pause, sweepMax)
	}
}

// look does it once, and returns how many snapshots are deleted and in use, or
// being closed.
func (w *sweeper) look(ctx context.Context) int {
	snaps := w.conn.raw.ctl.snaps
	if snaps.source == nil {
		return 0
	}
	if now := snaps.turned(ctx); !now.Equal(w.listed) {
		// Who works in the directory walks no path to it, and sees no new time.
		w.conn.invalidateData(snapshotsInum)
		w.listed = now
	}
	gone := snaps.gone(ctx)
	for _, sl := range gone {
		w.conn.invalidateEntry(snapshotsInum, sl.snap.Name)
		w.prune(ctx, sl)
		snaps.unpin(sl)
	}
	return len(gone) + int(snaps.ending.Load())
}

// prune drops the names that the kernel may know in the directories that it
// knows of a snapshot.
func (w *sweeper) prune(ctx context.Context, sl *slot) {
	for _, dir := range sl.raw.fs.table.all() {
		rec, err := sl.raw.fs.Stat(ctx, dir)
		if err != nil || rec.Meta.Type != ondisk.ObjDir {
			continue
		}
		var names []string
		err = sl.store.ReadDir(ctx, dir, 0, func(d ondisk.Dirent) bool {
			names = append(names, d.Name)
			return true
		})
		if err != nil {
			continue // what cannot be read cannot have been looked up
		}
		for _, name := range append(names, sl.raw.missed.of(dir)...) {
			w.conn.invalidateEntry(sl.raw.base|dir, name)
		}
	}
}

// missedMax bounds the names that are remembered of one snapshot, to a megabyte
// or so. Of what is beyond, the kernel forgets only when it is short of memory.
const missedMax = 8192

// A missed is the names that the kernel looked for in vain: it remembers them,
// too, and with them the directories.
type missed struct {
	mu    sync.Mutex
	names map[uint64]map[string]struct{} // by directory
	count int
}

// add remembers a name. Nobody wants to know of the filesystem itself: m is nil.
func (m *missed) add(dir uint64, name string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names == nil {
		m.names = make(map[uint64]map[string]struct{})
	}
	of := m.names[dir]
	if of == nil {
		of = make(map[string]struct{})
		m.names[dir] = of
	}
	if _, known := of[name]; !known && m.count < missedMax {
		of[name] = struct{}{}
		m.count++
	}
}

func (m *missed) of(dir uint64) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.names[dir]))
}
