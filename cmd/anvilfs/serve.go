package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/cmd/events"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
)

// closeTimeout bounds the final commit when the mount is gone: a device that
// hangs must not keep the process for ever.
const closeTimeout = 2 * time.Minute

// leastRunning is how many goroutines may run at once, however few processors
// there are. One that waits for a device counts for a while: with two, the
// write to a third member began when that to the first had ended. With four,
// small calls of a single thread lose more than fsync gains.
const leastRunning = 3

// serve is the serving process: open, mount, tell, stay, close.
func serve(ctx context.Context, s source, dir string, o *mountOptions, ready *readiness, foreground bool) error {
	if runtime.GOMAXPROCS(0) < leastRunning && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(leastRunning)
	}
	err := serveMount(ctx, s, dir, o, ready, foreground)
	if err != nil && ready.failed(err) {
		return &exitError{code: exitMount}
	}
	if err != nil {
		return exitWith(exitMount, "%w", err)
	}
	return nil
}

func serveMount(ctx context.Context, s source, dir string, o *mountOptions, ready *readiness, foreground bool) error {
	log, closeLog, err := openLog(o, foreground)
	if err != nil {
		return err
	}
	defer closeLog()
	if err := s.findLabel(ctx); err != nil {
		return err
	}
	look := newCare(log)
	p, err := openPool(ctx, s, o, look.damaged, log)
	if errors.Is(err, cluster.ErrIsSnapshot) {
		ready.note(s.label + " is a snapshot: it is mounted read-only")
		o.readOnly = true
		p, err = openPool(ctx, s, o, look.damaged, log)
	}
	if errors.Is(err, cluster.ErrSoftAlone) {
		ready.note("no master of " + s.label + " was given: it is mounted read-only")
		o.readOnly = true
		p, err = openPool(ctx, s, o, look.damaged, log)
	}
	if err != nil {
		return namePlaces(err, o.state)
	}
	seen := openSightings(p.ID().String(), o.state, log)
	noteNodes(p, seen, dir, ready)
	ctl := newController(p, look, seen, s, dir, log) // before the directory is left
	if err := os.Chdir("/"); err != nil {            // do not keep a directory busy
		return err
	}
	look.start(p, seen, o)
	closing := func() error {
		look.stop()
		cctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		return p.Close(cctx)
	}
	ctl.branches = newBranches(p, log)
	ctl.branches.wait = o.noMerge
	server, err := fs.Mount(ctx, onPool(p), dir, fs.MountOptions{
		FsName: s.display(), ReadOnly: o.readOnly, AllowOther: o.allowOther, Flags: o.flags,
		Debug: o.debug, Logger: log, Control: ctl, Snapshots: fs.SnapshotsOf(p), Meter: ctl.calls, Closing: closing, Stopping: ctl.stop,
	})
	if err != nil {
		return errors.Join(err, closing())
	}
	ctl.serves(server, o.readOnly)
	if err := addUtab(s.display(), dir); err != nil {
		log.Warn("umount(8) will not wait for this mount", "err", err)
	}
	log.Info("mounted", "source", s.display(), "directory", dir, "pid", os.Getpid())
	defer ctl.watchMount(ctx, dir, log)()
	defer serveMetrics(ctl, o, ready, log)()
	watcher := watchEvents(watched{p, look, ctl.trees}, s, dir, o, log)
	ready.ok()
	err = server.Wait()
	watcher.Close(err)
	if uerr := removeUtab(dir); uerr != nil {
		log.Warn("cleaning up after the mount", "err", uerr)
	}
	if err != nil {
		log.Error("closing failed", "err", err)
		if lerr := leaveFailure(err); lerr != nil {
			log.Error("umount will not learn of it", "err", lerr)
		}
		return fmt.Errorf("%s: %w", s.display(), err)
	}
	leaveHeld(p.CacheHeld(), log)
	log.Info("unmounted, media complete", "directory", dir)
	return nil
}

// leaveHeld notes whose device may keep this process from ending; "" is nobody's.
func leaveHeld(cache string, log *slog.Logger) {
	if cache == "" {
		return
	}
	if err := leaveFailure(fmt.Errorf("%sthe device of the cache %s hangs", heldMark, cache)); err != nil {
		log.Error("umount will not learn why the process does not end", "cache", cache, "err", err)
	}
}

// serves tells the controller what it commands.
func (c *controller) serves(s *fs.Server, readOnly bool) {
	c.files.Store(s.FS)
	c.trees.start(s.FS)
	c.mount.Store(s)
	c.pool.OnForget(func(ctx context.Context) { s.ForgetSnapshots(ctx) })
	c.care.mounted <- s
	if !readOnly {
		c.merging.Store(&merging{files: s.FS})
		c.branches.start(s.FS, s)
	}
}

// recount has the kernel know what space files take, now that they are on the media.
func (c *controller) recount() {
	if s := c.mount.Load(); s != nil {
		s.Recount()
	}
}

// watchMount looks at what others do to the mount, and takes it away when ctx
// ends, until the result is called.
func (c *controller) watchMount(ctx context.Context, dir string, log *slog.Logger) (stop func()) {
	blind, settle := func() {}, func(context.Context) error { return nil }
	if c.pool.Status().Health != cluster.PoolReadOnly {
		blind, settle = c.remounts.watch(dir, log), c.pool.Settle
	}
	detach := func(lazy bool) error { return detach(dir, lazy) }
	stay := ending{detach, settle, log.With("directory", dir)}.on(ctx)
	return func() {
		stay()
		blind()
	}
}

// stop ends what the controller does with the filesystem.
func (c *controller) stop() {
	c.branches.stop()
	c.trees.stop()
}

// noteNodes says what is not as it should be when a mount begins. A soft node
// that is away is as it should be; and so are masters, if it is the soft node
// that was mounted.
func noteNodes(p *cluster.Pool, seen *sightings, dir string, ready *readiness) {
	st := p.Status()
	st.Nodes = seen.annotate(st.Nodes)
	if st.Branch != nil {
		ready.note(branchWords(st.Branch))
	}
	if st.Shown != nil {
		ready.note(shownWords(st.Shown))
	}
	for _, n := range st.Nodes {
		away := n.State == cluster.NodeMissing && (n.Soft() || st.Shown != nil)
		if troubled(n.State) && !away {
			ready.note(describeNode(&n, dir))
		}
	}
	for _, c := range st.Caches {
		if c.State != cluster.CacheOn && c.State != cluster.CacheOpening {
			ready.note(describeCache(&c, dir))
		}
	}
}

func newController(p *cluster.Pool, look *care, seen *sightings, s source, dir string, log *slog.Logger) *controller {
	return &controller{pool: p, care: look, seen: seen, log: log, label: s.label, calls: new(fs.Meter), trees: &treeLook{pool: p, log: log}, layout: newLayoutLook(dir), server: serverStatus{
		PID: os.Getpid(), Source: s.display(), Cluster: p.ID().String(), Home: seen.home, Dir: dir, Since: time.Now(), Version: version(),
	}}
}

// watched is what events come from.
type watched struct {
	*cluster.Pool
	look *care
	uses *treeLook
}

// Integrity is how the copies are looked after.
func (w watched) Integrity() advice.Integrity { return w.look.report() }

// Trees are the accounts of directories.
func (w watched) Trees() []advice.Tree { return w.uses.trees() }

// watchEvents logs what happens to the mount, and runs the hook.
func watchEvents(w watched, s source, dir string, o *mountOptions, log *slog.Logger) *events.Watcher {
	m := events.Mount{Label: s.label, Dir: dir, Source: s.display()}
	if o.hook == "" {
		return events.Watch(w, m, nil, log)
	}
	return events.Watch(w, m, events.NewHook(o.hook, m, log), log)
}

// troubled reports whether a node's state is worth a word when mounting: one
// that is catching up needs nobody.
func troubled(s cluster.NodeState) bool {
	return s != cluster.NodeInSync && s != cluster.NodeReadOnly && s != cluster.NodeBehind && s != cluster.NodeResync
}

// defaultMemory bounds caches and dirty data without memory=.
const defaultMemory = 256 << 20

// openPool opens the members. A device that an earlier mount is just letting
// go of is waited for, as unmounting and mounting in a row is usual.
func openPool(ctx context.Context, s source, o *mountOptions, damaged func(cluster.Damage, error), log *slog.Logger) (*cluster.Pool, error) {
	opts := cluster.Options{
		Label: s.label, ReadOnly: o.readOnly, Commit: o.commit, Deadline: o.deadline,
		Memory: o.memory, OnNoQuorum: o.quorum, Dedup: o.dedup, NoLog: o.noLog, Damaged: damaged, Logger: log,
	}
	if opts.Memory == 0 {
		opts.Memory = defaultMemory
	}
	// The collector works harder near the limit instead of passing it.
	debug.SetMemoryLimit(opts.Memory - opts.Memory/16)
	if err := s.waitFree(ctx, o.readOnly); err != nil {
		return nil, err
	}
	p, err := cluster.OpenPool(ctx, s.specs(o.readOnly), opts)
	return p, explain(err)
}

// waitFree waits a moment for devices that are in use. Members that cannot be
// opened for other reasons are the pool's to judge.
func (s source) waitFree(ctx context.Context, readOnly bool) error {
	const tries, pause = 15, 200 * time.Millisecond
	for _, m := range s.nodes() { // a cache is not waited for
		for try := 0; ; try++ {
			devs, err := m.open(readOnly)
			for _, d := range devs {
				err = errors.Join(err, d.Close())
			}
			if !errors.Is(err, filedev.ErrInUse) {
				break
			}
			if try == tries {
				return m.inUse(ctx, err)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}
