package fs

import (
	"context"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A sweeper makes the kernel forget deleted snapshots, so that nothing but
// files in use holds their space. The kernel does not tell when a file is
// closed, so it looks again until all is forgotten.
type sweeper struct {
	conn   *conn
	wish   chan struct{}
	cancel context.CancelFunc
	done   sync.WaitGroup
}

const (
	sweepFirst = time.Second
	sweepMax   = time.Minute
)

func (w *sweeper) start(c *conn) {
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	w.conn, w.wish = c, make(chan struct{}, 1)
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

func (w *sweeper) run(ctx context.Context) {
	timer := time.NewTimer(sweepMax)
	pause := sweepFirst
	for {
		select {
		case <-w.wish:
			pause = sweepFirst
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if w.conn.raw.ctl.snaps.source == nil {
			continue
		}
		if !w.look(ctx) {
			pause = sweepMax // others than commands delete snapshots, too
		}
		timer.Reset(pause)
		pause = min(2*pause, sweepMax)
	}
}

// look does it once; false: no snapshot in use is deleted.
func (w *sweeper) look(ctx context.Context) bool {
	snaps := w.conn.raw.ctl.snaps
	gone := snaps.gone(ctx)
	for _, sl := range gone {
		w.conn.invalidateEntry(snapshotsInum, sl.snap.Name)
		w.prune(ctx, sl)
		snaps.unpin(sl)
	}
	return len(gone) > 0
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
		for _, name := range names {
			w.conn.invalidateEntry(sl.raw.base|dir, name)
		}
	}
}
