package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/cache"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/metered"
)

// A CacheState is what a cache does for the mount.
type CacheState string

// The states of a cache. They are words of events, too.
const (
	CacheOpening CacheState = "cache-opening" // its device has not answered yet
	CacheOn      CacheState = "cache-on"      // it is asked before the members
	CacheOffline CacheState = "cache-offline" // by the operator
	CacheHung    CacheState = "cache-hung"    // a request is out beyond the deadline
	CacheFailed  CacheState = "cache-failed"  // its device failed, or is not of this cluster
	CacheIdle    CacheState = "cache-idle"    // not used: nothing may be written by this mount
)

const (
	cacheWait  = 2 * time.Second // mount and unmount wait for its device, then go on without
	cacheWatch = time.Second
	cachePart  = 8 // of the memory that its index may take
)

// errOneCache: a second one would be in nobody's way and of no use.
var errOneCache = errors.New("there is a cache already: anvilfs node remove MNT NODE first")

// A front is the place for one cache before the members of a pool. It is a
// chain.BlockCache, of nothing while no cache is on: views are made through it
// whether there is one or not, so that one may come and go at any time.
//
// A cache has no vote, no position and no place in the configuration: it is
// a CACHE by the type of its PFS, and belongs here by the cluster id in it.
type front struct {
	log      *slog.Logger
	memory   int64
	deadline time.Duration
	patience time.Duration
	owner    *Pool // that it is of; snapshots use it, too
	send     func(Event)
	reopen   func(context.Context, []ondisk.Device) (*cacheVolume, error) // of the device that is the cache already
	now      atomic.Pointer[cache.Store]                                  // nil: none is on

	mu      sync.Mutex
	spec    MemberSpec // its Name is "" while there is none
	state   CacheState
	err     error
	since   time.Time
	fsid    ondisk.UUID
	last    cache.Report // of the one that was on
	meter   *metered.Meter
	attempt int           // counts openings: what a late one brings is dropped
	gone    chan struct{} // closed when the last one's devices are; nil: there was none
	backoff time.Duration // until a failed one is tried again; 0 = it was not yet
}

var _ chain.BlockCache = (*front)(nil)

func newFront(o *Options) *front {
	return &front{log: o.Logger, memory: o.Memory, deadline: o.Deadline, patience: o.patience}
}

// Open implements chain.BlockCache.
func (f *front) Open() bool {
	s := f.now.Load()
	return s != nil && s.Open()
}

// Get implements chain.BlockCache.
func (f *front) Get(ctx context.Context, id *chain.BlockID, n int, good func([]byte) error) ([]byte, bool) {
	if s := f.now.Load(); s != nil {
		return s.Get(ctx, id, n, good)
	}
	return nil, false
}

// Has implements chain.BlockCache.
func (f *front) Has(id *chain.BlockID) bool {
	s := f.now.Load()
	return s != nil && s.Has(id)
}

// Put implements chain.BlockCache.
func (f *front) Put(id *chain.BlockID, stored []byte) {
	if s := f.now.Load(); s != nil {
		s.Put(id, stored)
	}
}

// before puts the front before nodes.
func (f *front) before(views []nodeView) []nodeView {
	for i := range views {
		views[i].View = views[i].View.Through(f)
	}
	return views
}

// enter changes the state, and tells of it. The caller holds mu.
func (f *front) enter(s CacheState, err error) {
	f.state, f.err, f.since = s, err, time.Now()
	ev := Event{Time: f.since, Node: f.spec.Name, What: string(s)}
	if err != nil {
		ev.Error = err.Error()
		f.log.Warn("the cache is not used", "device", f.spec.Name, "state", string(s), "err", err)
	}
	if s == CacheFailed || s == CacheHung {
		ev.Next = "anvilfs node online MNT NODE"
	}
	if f.send != nil && s != CacheOpening {
		f.send(ev)
	}
}

// take makes spec the cache of this pool, which is not on yet.
func (f *front) take(spec MemberSpec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.spec.Name != "" {
		return &NodeError{f.spec.Name, fmt.Errorf("%s: %w", f.spec.Name, errOneCache)}
	}
	f.spec, f.last, f.fsid = spec, cache.Report{}, ondisk.UUID{}
	return nil
}

// idle notes why the cache that was given is not used.
func (f *front) idle(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.enter(CacheIdle, errors.New(why))
}

// start opens the cache that was taken, and puts it before the members once it
// is there. It does not wait longer than ctx.
func (f *front) start(ctx context.Context, open func(context.Context, []ondisk.Device) (*cacheVolume, error)) error {
	f.mu.Lock()
	f.attempt++
	attempt, spec, gone := f.attempt, f.spec, f.gone
	f.meter = new(metered.Meter)
	meter := f.meter
	f.enter(CacheOpening, nil)
	f.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- f.open(attempt, spec, gone, meter, open) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s does not answer yet", spec.Name)
	}
}

// open is start without a bound of time.
func (f *front) open(attempt int, spec MemberSpec, gone chan struct{}, meter *metered.Meter,
	open func(context.Context, []ondisk.Device) (*cacheVolume, error)) error {
	if gone != nil {
		<-gone // its device may be this one
	}
	ctx := context.Background() // ends with the device's answer
	v, err := func() (*cacheVolume, error) {
		devs, err := spec.Open(ctx)
		if err != nil {
			return nil, err
		}
		for i := range devs {
			devs[i] = meter.Wrap(devs[i])
		}
		return open(ctx, devs)
	}()
	var s *cache.Store
	if err == nil {
		s, err = cache.New(v.ranges, cache.Options{
			Salt: v.info.Fsid, Entries: cache.EntriesFor(f.memory / cachePart),
			Patience: f.patience,
			Failed:   func(err error) { f.failed(attempt, err) },
		})
		if err != nil {
			err = errors.Join(err, v.vol.Close())
		}
	}
	f.mu.Lock()
	if err == nil && f.attempt != attempt { // nobody wants it any more
		f.mu.Unlock()
		closeCache(s, v, make(chan struct{}))
		return errors.New("it came too late")
	}
	defer f.mu.Unlock()
	switch {
	case err != nil && f.attempt == attempt:
		if f.err == nil || f.err.Error() != err.Error() { // told once
			f.enter(CacheFailed, err)
		}
		f.later()
		return err
	case err != nil:
		return err
	}
	f.gone = make(chan struct{})
	f.fsid = v.info.Fsid
	f.now.Store(s)
	f.enter(CacheOn, nil)
	go f.watch(s, v, meter, f.gone)
	return nil
}

// watch gives a device up that hangs, and closes it when the store has ended.
func (f *front) watch(s *cache.Store, v *cacheVolume, meter *metered.Meter, gone chan struct{}) {
	tick := time.NewTicker(cacheWatch)
	defer tick.Stop()
	for s.Open() {
		select {
		case <-tick.C:
			if out := meter.Oldest(); out > f.deadline {
				s.Fail(fmt.Errorf("%w: a request has been out for %v", errCacheHung, out.Round(time.Second)))
			}
		case <-s.Ended():
		}
	}
	closeCache(s, v, gone)
}

var errCacheHung = errors.New("the device hangs")

// closeCache waits for what is out, however long that takes.
func closeCache(s *cache.Store, v *cacheVolume, gone chan struct{}) {
	_ = s.Close(context.Background()) // waits only
	_ = v.vol.Close()                 // nothing on it is needed
	close(gone)
}

// failed is told by the store that it has given up.
func (f *front) failed(attempt int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attempt != attempt {
		return
	}
	f.drop()
	state := CacheFailed
	if errors.Is(err, errCacheHung) {
		state = CacheHung
	}
	if time.Since(f.since) > frontRetryMax {
		f.backoff = 0
	}
	f.enter(state, err)
	f.later()
}

// drop takes the cache from before the members. The caller holds mu.
func (f *front) drop() *cache.Store {
	s := f.now.Swap(nil)
	if s != nil {
		f.last = s.Report()
		f.last.Err, f.last.Used, f.last.Entries = nil, 0, 0
	}
	return s
}

// stop closes the cache; a device that hangs is left to itself, and held is its
// name. What for says the state it is in then.
func (f *front) stop(ctx context.Context, as CacheState) (held string) {
	f.mu.Lock()
	f.attempt++
	s, gone, name, opening := f.drop(), f.gone, f.spec.Name, f.state == CacheOpening
	if f.spec.Name != "" && as != "" {
		f.enter(as, nil)
	}
	f.mu.Unlock()
	if gone == nil && opening {
		return name
	}
	if gone == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, cacheWait)
	defer cancel()
	if s != nil && s.Close(ctx) != nil {
		return name
	}
	select {
	case <-gone:
		return ""
	case <-ctx.Done():
		return name
	}
}

// remove stops the cache of that name for good; false if there is none.
func (f *front) remove(ctx context.Context, name string) bool {
	if !f.has(name) {
		return false
	}
	f.stop(ctx, CacheOffline)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spec = MemberSpec{}
	return true
}

// has reports whether name is the cache.
func (f *front) has(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.spec.Name != "" && (f.spec.Name == name || !f.fsid.IsZero() && f.fsid.String() == name)
}

// spares refuses the cache as a member: one device would go by two roles.
func (f *front) spares(name string) error {
	if f.has(name) {
		return &NodeError{name, fmt.Errorf("%s is the cache: anvilfs node remove MNT NODE first", name)}
	}
	return nil
}
