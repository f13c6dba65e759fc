package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/signature"
)

// A cacheVolume is an open volume with a PFS of type CACHE.
type cacheVolume struct {
	vol    *chain.Volume
	info   chain.PFSInfo
	ranges []chain.FreeRange
}

// ErrNotCache: the device carries no cache of this cluster.
var ErrNotCache = errors.New("it is no cache of this cluster")

// FormatCache makes a volume whose only use is to be a cache of a cluster.
func FormatCache(ctx context.Context, devs []ondisk.Device, label string, clid ondisk.UUID, now time.Time) (*chain.FormatResult, error) {
	spec := chain.PFSSpec{Label: label, Type: ondisk.PFSCache, Clid: clid, Fsid: ondisk.NewUUID()}
	return chain.Format(ctx, devs, chain.FormatOptions{Labels: []chain.PFSSpec{spec}, Now: now})
}

// reopenCache opens the cache that was named. A member that was named by mistake is
// told by its name: what makes a cache of other devices would be the end of it.
func (p *Pool) reopenCache(ctx context.Context, devs []ondisk.Device) (*cacheVolume, error) {
	clid := p.engine.clusterID()
	err := holdsCache(ctx, devs, clid)
	if err == nil {
		return openCache(ctx, devs, clid)
	}
	if own := new(NodeError); errors.As(p.engine.noCopy(ctx, devs, ondisk.UUID{}), &own) {
		err = fmt.Errorf("it is the copy of %s, a member of this very filesystem: %w: nothing was changed; mount again with it among the members, and another device as the cache",
			own.Node, ErrNotCache)
	}
	for _, d := range devs {
		err = errors.Join(err, d.Close())
	}
	return nil, err
}

// openCache opens devs, which hold a cache of that cluster. It owns them from then on.
func openCache(ctx context.Context, devs []ondisk.Device, clid ondisk.UUID) (*cacheVolume, error) {
	vol, err := chain.Open(ctx, devs, chain.Options{CacheBytes: 1 << 20})
	if err != nil {
		return nil, err
	}
	v := &cacheVolume{vol: vol}
	infos, err := vol.PFSs(ctx)
	if i := cacheIn(infos, clid); err == nil && i < 0 {
		err = fmt.Errorf("%s: %w", vol.Name(), ErrNotCache)
	} else if err == nil {
		v.info = infos[i]
	}
	if err == nil {
		v.ranges, err = vol.FreeRanges(ctx, 1<<20)
	}
	if err != nil {
		return nil, errors.Join(err, vol.Close())
	}
	return v, nil
}

// kept is a device that stays open.
type kept struct{ ondisk.Device }

func (kept) Close() error { return nil }

// holdsCache returns nil if devs are a cache of that cluster. It writes nothing:
// opened for more, what is something else would be put right after a crash, and
// its intent log be brought in.
func holdsCache(ctx context.Context, devs []ondisk.Device, clid ondisk.UUID) error {
	var look []ondisk.Device
	for _, d := range devs {
		look = append(look, kept{d})
	}
	vol, err := chain.Open(ctx, look, chain.Options{ReadOnly: true, CacheBytes: 1 << 20})
	if errors.Is(err, ondisk.ErrNotHammer2) {
		return notCache(ctx, devs, false)
	}
	if err != nil {
		return err
	}
	infos, err := vol.PFSs(ctx)
	if err == nil && cacheIn(infos, clid) < 0 {
		copied := slices.ContainsFunc(infos, func(i chain.PFSInfo) bool { return i.Clid == clid && Mountable(&i) })
		err = notCache(ctx, devs, copied)
	}
	return errors.Join(err, vol.Close())
}

// notCache says what devices are instead of a cache. copied: they hold a copy of the
// filesystem, whether it counts or not.
func notCache(ctx context.Context, devs []ondisk.Device, copied bool) error {
	const anew = "anvilfs node remove MNT NODE, then anvilfs node add MNT NODE --role cache"
	found, err := signature.Of(devs[0], devs[0].Size())
	switch found = Labelled(ctx, found, devs); {
	case err != nil:
		return err
	case copied:
		return fmt.Errorf("it is a copy of this filesystem: %w: name another device", ErrNotCache)
	case found != "":
		return fmt.Errorf("it carries %s: %w: name another device; or, to overwrite it, %s -f", found, ErrNotCache, anew)
	}
	return fmt.Errorf("%w: %s makes it one", ErrNotCache, anew)
}

// cacheIn is where the cache of that cluster is among the PFSs of a volume; below 0
// if there is none.
func cacheIn(infos []chain.PFSInfo, clid ondisk.UUID) int {
	return slices.IndexFunc(infos, func(i chain.PFSInfo) bool { return i.Type == ondisk.PFSCache && i.Clid == clid })
}

// makeCache opens a cache with what it holds; another device is formatted first,
// if it is empty, or need not be, and no copy that the cluster counts on.
func (p *Pool) makeCache(ctx context.Context, devs []ondisk.Device, clid ondisk.UUID, force bool) (*cacheVolume, error) {
	if holdsCache(ctx, devs, clid) == nil {
		return openCache(ctx, devs, clid)
	}
	err := p.engine.noCopy(ctx, devs, ondisk.UUID{})
	if err == nil && !force {
		err = mustBeEmpty(ctx, devs)
	}
	if err == nil {
		_, err = FormatCache(ctx, devs, p.opts.Label, clid, time.Now())
	}
	if err != nil {
		for _, d := range devs {
			err = errors.Join(err, d.Close())
		}
		return nil, err
	}
	return openCache(ctx, devs, clid)
}

// errNoCacheHere: what is mounted cannot have one.
var errNoCacheHere = errors.New("a mount that writes nothing, or one of a copy away from its cluster, uses no cache")

// CacheHeld is the cache whose device did not answer when the pool was closed, so
// that it may keep the process from ending; "" if there is none.
func (p *Pool) CacheHeld() string {
	if held := p.held.Load(); held != nil {
		return *held
	}
	return ""
}

// caching reports whether this pool may use a cache.
func (p *Pool) caching() bool { return !p.opts.ReadOnly && p.BranchOf() == nil }

// startCaches opens the cache that was named with the members, and waits a
// moment for it. Whatever is wrong with it, the pool is served.
func (p *Pool) startCaches(ctx context.Context, specs []MemberSpec) {
	p.front.owner, p.front.send = p, p.events.send
	p.front.reopen = p.reopenCache
	for _, s := range specs {
		if err := p.front.take(s); err != nil {
			p.log.Warn("a cache is left out", "device", s.Name, "err", err)
			continue
		}
		if !p.caching() {
			p.front.idle(errNoCacheHere.Error())
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, cacheWait)
		_ = p.openFront(ctx) // the status says it
		cancel()
	}
}

// openFront opens the cache that the front has taken.
func (p *Pool) openFront(ctx context.Context) error {
	return p.front.start(ctx, p.front.reopen)
}

// addCache makes a device the cache. One of this cluster is used with what it
// holds; else it must be empty, or force given.
func (p *Pool) addCache(ctx context.Context, with MemberSpec, force bool) error {
	if !p.caching() {
		return errNoCacheHere
	}
	if err := p.front.take(with); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.opts.Deadline)
	defer cancel()
	clid := p.engine.clusterID()
	err := p.front.start(ctx, func(ctx context.Context, devs []ondisk.Device) (*cacheVolume, error) {
		return p.makeCache(ctx, devs, clid, force)
	})
	if err != nil {
		p.front.remove(ctx, with.Name)
	}
	return err
}

// cacheVerb does to the cache what can be done to a node; ok is false if name
// is not the cache.
func (p *Pool) cacheVerb(ctx context.Context, verb, name string) (ok bool, err error) {
	if !p.front.has(name) {
		return false, nil
	}
	switch verb {
	case "offline":
		p.front.stop(ctx, CacheOffline)
	case "online":
		switch {
		case p.front.Open():
		case !p.caching():
			err = errNoCacheHere
		default:
			ctx, cancel := context.WithTimeout(ctx, p.opts.Deadline)
			defer cancel()
			err = p.openFront(ctx)
		}
	case "remove":
		p.front.remove(ctx, name)
	default:
		err = fmt.Errorf("%s is a cache: it can be taken offline, online, and removed", name)
	}
	return true, err
}

// A CacheStatus is the cache before the members.
type CacheStatus struct {
	Name        string     `json:"name"`
	Fsid        string     `json:"fsid"`
	State       CacheState `json:"state"`
	Error       string     `json:"error,omitempty"`
	Since       time.Time  `json:"since"`
	Warm        bool       `json:"warm"` // what an earlier mount left in it is known
	Size        int64      `json:"size_bytes"`
	Used        int64      `json:"used_bytes"`
	Blocks      int        `json:"blocks"`
	Hits        uint64     `json:"hits"` // blocks that it answered
	HitBytes    uint64     `json:"hit_bytes"`
	Misses      uint64     `json:"misses"`
	Late        uint64     `json:"late"`   // misses because it was slow
	Bad         uint64     `json:"bad"`    // misses because what it held was not the block
	Filled      uint64     `json:"filled"` // blocks written to it
	FilledBytes uint64     `json:"filled_bytes"`
	Evicted     uint64     `json:"evicted"`
	Refused     uint64     `json:"refused"` // blocks that came faster than it could write
	IO          IOStatus   `json:"io"`
}

// status returns the cache, or none.
func (f *front) status() []CacheStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.spec.Name == "" {
		return nil
	}
	r := f.last
	if s := f.now.Load(); s != nil {
		r = s.Report()
	}
	c := CacheStatus{
		Name: f.spec.Name, Fsid: f.fsid.String(), State: f.state, Since: f.since, Warm: r.Warm, Size: r.Size, Used: r.Used,
		Blocks: r.Entries, Hits: r.Hits, HitBytes: r.HitBytes, Misses: r.Misses, Late: r.Late, Bad: r.Bad,
		Filled: r.Filled, FilledBytes: r.FillBytes, Evicted: r.Evicted, Refused: r.Refused,
	}
	if f.err != nil {
		c.Error = f.err.Error()
	}
	if f.meter != nil {
		io := f.meter.Report()
		c.IO = ioStatus(&io)
	}
	return []CacheStatus{c}
}
