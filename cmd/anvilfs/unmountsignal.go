package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// An ending is how a mount ends by a signal. If it is in use that is once it no
// longer is: at shutdown the users of a mount get their signals when we do. The
// next signal detaches it from its users.
type ending struct {
	detach func(lazy bool) error
	settle func(context.Context) error // brings all to the media
	log    *slog.Logger
}

// on waits for the end of ctx, which a signal makes. The result stops all this.
func (e ending) on(ctx context.Context) (stop func()) {
	mounted, stop := context.WithCancel(context.Background())
	go func() {
		select {
		case <-ctx.Done():
		case <-mounted.Done():
			return
		}
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(again)
		e.whenFree(mounted, again)
	}()
	return stop
}

// whenFree unmounts as soon as nobody uses the mount any more, or detaches it when
// again says so, and then returns at the end of ctx, which is the server's. Who
// ignores SIGTERM gets SIGKILL, and so do we then, in the same moment: until then
// nothing stays in memory for long.
func (e ending) whenFree(ctx context.Context, again <-chan os.Signal) {
	err := e.detach(false)
	if err == nil {
		return
	}
	e.log.Warn("cannot unmount yet; the next signal detaches it", "err", err)
	ctx, cancel := context.WithCancel(ctx)
	var settling sync.WaitGroup
	settling.Go(func() { e.keepSettled(ctx) })
	defer settling.Wait()
	defer cancel()
	retry := time.NewTicker(unmountPause)
	defer retry.Stop()
	for {
		select {
		case <-retry.C:
			if e.detach(false) == nil {
				return
			}
		case <-again:
			if err := e.detach(true); err != nil {
				e.log.Error("cannot unmount", "err", err)
				continue
			}
			<-ctx.Done() // its users can still write
			return
		case <-ctx.Done():
			return
		}
	}
}

// keepSettled has all that is written brought to the media, again and again. A
// failure is the pool's to log, and it may work the next time.
func (e ending) keepSettled(ctx context.Context) {
	next := time.NewTicker(unmountPause)
	defer next.Stop()
	for {
		_ = e.settle(ctx)
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
	}
}

// unmountPause lies between two tries to unmount what is in use.
const unmountPause = 500 * time.Millisecond
