package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/fs"
)

// lookLimit is how long a status waits for what is looked at in the background,
// which can hang with a device; then what is known already is told.
const lookLimit = 200 * time.Millisecond

// inTime waits for a look that is under way, but not long; nil: none is.
func inTime(running <-chan struct{}) {
	if running == nil {
		return
	}
	limit := time.NewTimer(lookLimit)
	defer limit.Stop()
	select {
	case <-running:
	case <-limit.C:
	}
}

// A treeLook knows the accounts of a mount, for those who must not wait.
type treeLook struct {
	pool *cluster.Pool
	log  *slog.Logger

	mu      sync.Mutex
	files   *fs.FS // nil: not mounted yet, or not any more
	cancel  context.CancelFunc
	running chan struct{} // closed when the look under way ends; nil: none is
	last    []advice.Tree
	paths   map[uint64]string // of the last look, owned by the one under way
}

// start says which filesystem to look at.
func (l *treeLook) start(files *fs.FS) {
	l.mu.Lock()
	l.files = files
	l.mu.Unlock()
}

// stop ends what is under way; the filesystem is not looked at afterwards.
func (l *treeLook) stop() {
	l.mu.Lock()
	l.files = nil
	running := l.running
	if running != nil {
		l.cancel()
	}
	l.mu.Unlock()
	if running != nil {
		<-running
	}
}

// trees are the accounts, as of now if that takes no time.
func (l *treeLook) trees() []advice.Tree {
	l.mu.Lock()
	if l.running == nil {
		if l.files == nil || !l.files.HasQuotas() {
			l.last = nil
			l.mu.Unlock()
			return nil
		}
		var ctx context.Context
		ctx, l.cancel = context.WithCancel(context.Background())
		l.running = make(chan struct{})
		go l.look(ctx, l.files)
	}
	running := l.running
	l.mu.Unlock()
	inTime(running)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// known are the accounts as they were last looked at.
func (l *treeLook) known() []advice.Tree {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *treeLook) look(ctx context.Context, files *fs.FS) {
	list, err := treesOf(ctx, l.pool, files, l.paths)
	l.paths = make(map[uint64]string, len(list))
	for i := range list {
		l.paths[list[i].Inum] = list[i].Path
	}
	if err != nil && ctx.Err() == nil {
		l.log.Debug("the use of directory trees is not known", "err", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.last = list
	}
	l.cancel()
	close(l.running)
	l.running = nil
}

// treesOf lists the accounts with their paths, as of the last commit. known are
// paths that are likely: to look them up is cheaper than to find them.
func treesOf(ctx context.Context, p *cluster.Pool, files *fs.FS, known map[uint64]string) ([]advice.Tree, error) {
	all, err := files.Quotas(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]advice.Tree, len(all))
	for i := range all {
		q := &all[i]
		path, ok := known[q.Inum]
		if inum, err := files.FindPath(ctx, strings.Split(path, "/")); !ok || err != nil || inum != q.Inum {
			path = p.PathOf(ctx, q.Inum)
		}
		list[i] = advice.Tree{Path: path, Percent: q.Percent(), Quota: *q}
	}
	return list, nil
}
