package matrix

import (
	"context"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// The moments of a cache: it is asked, filled and opened where a member writes,
// flushes and promises.
var cacheMoments = [...]string{"idle", "being filled", "being read", "being opened", "a member being resynced", "a member mid-swap"}

// warmed puts a cache before the members that knows some blocks.
func warmed(r *run) {
	r.check(r.w.AddCache(context.Background(), smallest), "making a cache")
	r.check(r.open(), "mounting")
	r.work(3)
	r.cacheIs(cluster.CacheOn)
	for range 2 {
		r.reads()
	}
	r.check(r.close(), "unmounting")
	r.older = r.w.Fast.Copy()
	r.check(r.open(), "mounting")
	r.work(3)
	r.reads()
	r.check(r.close(), "unmounting")
}

func fastRule(rules ...faultdev.Rule) func(r *run) {
	return func(r *run) {
		for _, f := range rules {
			f.Times = faultdev.Always
			r.w.Fast.Fault().Add(f)
		}
	}
}

// cached is the one cache in the status.
func (r *run) cached() cluster.CacheStatus {
	r.t.Helper()
	list := r.life.pool.Status().Caches
	if len(list) != 1 {
		r.fail("%d caches in the status", len(list))
	}
	return list[0]
}

// cacheIs waits for a state, which stays.
func (r *run) cacheIs(s cluster.CacheState) {
	r.t.Helper()
	r.until("the cache "+string(s), func() bool { return r.cached().State == s })
}

// cacheScript is what rows about the cache do: programs do not notice it, the
// members are as healthy as without, and the operator has it used again.
func cacheScript(r *run) {
	r.reachCache()
	ro := r.row()
	if ro.death != lives {
		r.rise()
		r.healthy()
	} else {
		r.healthy()
		r.suffersNot()
		r.w.Fast.Fault().Clear()
		r.w.Fast.Fault().Release()
		if ro.heal != nil {
			ro.heal(r)
		}
		r.until("the cache used again", func() bool {
			err := r.life.pool.NodeOnline(r.life.ctx, r.w.Fast.Name)
			return err == nil && r.cached().State == cluster.CacheOn
		})
	}
	r.cacheIs(cluster.CacheOn)
	r.until("answers of the cache", func() bool {
		r.reads()
		return r.cached().Hits > 0
	})
	r.finish()
	found, err := r.w.Fast.Fsck(r.t.Context())
	r.check(err, "fsck of the cache")
	for _, f := range found {
		r.fail("fsck of the cache: %v", f)
	}
}

// hearOfCache notes what becomes of the cache: it is tried again by itself, so
// that a state may come and go between two looks.
func (r *run) hearOfCache(ctx context.Context, events <-chan cluster.Event) {
	for {
		select {
		case ev := <-events:
			if ev.Node == r.w.Fast.Name && r.hasFired() {
				r.note("%s became %s: %s", ev.Node, ev.What, ev.Error)
				r.mu.Lock()
				r.became[cluster.CacheState(ev.What)] = ev.Error
				r.mu.Unlock()
			}
		case <-ctx.Done():
			return
		}
	}
}

// suffersNot works and reads until the status says what became of the cache.
func (r *run) suffersNot() {
	r.t.Helper()
	want := r.cacheBecomes()
	_, told := r.life.pool.History(0)
	for range 30 {
		r.work(2)
		r.check(r.life.pool.Settle(r.life.ctx), "settling")
		r.reads()
		r.caughtUp() // of what is kept for a slave that is slow there is little
		if st := r.life.pool.Status(); st.Health != cluster.PoolHealthy {
			r.fail("the pool is %s without its cache", st.Health)
		}
		told = r.noneIll(told)
		c := r.cached()
		r.mu.Lock()
		if why, ok := r.became[want]; ok && want != cluster.CacheOn {
			c.State, c.Error = want, why
		}
		r.mu.Unlock()
		switch {
		case c.State != want:
			<-time.After(deadline / 5) // a hung device is given up at the deadline
		case want == cluster.CacheOn && c.Bad == 0 && r.row().lies:
		case want != cluster.CacheOn && want != cluster.CacheOpening && c.Error == "":
			r.fail("the cache is %s without a reason", c.State)
		default:
			return
		}
	}
	r.fail("the cache does not become %s: %+v", want, r.cached())
}

// noneIll demands that members did nothing since but be late and catch up.
func (r *run) noneIll(told int) int {
	r.t.Helper()
	turns, total := r.life.pool.History(told)
	for _, e := range turns {
		switch cluster.NodeState(e.What) {
		case cluster.NodeInSync, cluster.NodeBehind, cluster.NodeResync:
		default:
			r.fail("%s became %s without its cache: %s", e.Node, e.What, e.Error)
		}
	}
	return total
}

// cacheBecomes is the state that must be seen.
func (r *run) cacheBecomes() cluster.CacheState {
	ro := r.row()
	switch {
	case r.cell.at == promise && ro.cache == cluster.CacheHung:
		return cluster.CacheOpening // it never was on
	case r.cell.at == promise && ro.lies:
		return cluster.CacheFailed // its header is not one
	}
	return ro.cache
}

// reachCache brings the cache to the moment.
func (r *run) reachCache() {
	r.t.Helper()
	trap := &rig.Trap{On: faultdev.Read, Match: isBlock, Do: r.fire}
	if r.cell.at == promise {
		trap.Match = nil
		r.w.Fast.Arm(trap)
		if err := r.open(); err != nil && r.row().death == lives {
			r.fail("the mount was refused: %v", err)
		}
		r.awaitMoment()
		return
	}
	r.check(r.open(), "mounting")
	r.work(3)
	r.healthy() // who was slow before the last unmount may be behind
	r.cacheIs(cluster.CacheOn)
	switch r.cell.at {
	case idle:
		r.fire()
		return
	case apply:
		trap.On = faultdev.Write
		r.w.Fast.Arm(trap)
	case flushes:
		r.w.Fast.Arm(trap)
	default:
		r.reachCopy()
		r.awaitMoment()
		return
	}
	for range 40 {
		err := r.try(2)
		if err == nil {
			err = r.life.pool.Settle(r.life.ctx) // what is in memory is not asked of a cache
		}
		if err == nil {
			_, err = r.read(r.life.ctx)
		}
		if r.hasFired() {
			return
		}
		r.check(err, "working")
	}
	r.fail("the moment does not come: %+v", r.cached())
}

// fastRows are the rows about the cache; it is one for all members, so each
// moment has one cell.
func fastRows() (list []*row) {
	fail := func(on faultdev.Op) faultdev.Rule { return faultdev.Rule{Do: faultdev.Fail, On: on} }
	plugged := func(r *run) { r.w.Fast.Plug(nil) }
	for _, ro := range []*row{
		{name: "a cache that cannot be read", inject: fastRule(fail(faultdev.Read)), cache: cluster.CacheFailed},
		{name: "a cache that cannot be written", inject: fastRule(fail(faultdev.Write)), cache: cluster.CacheFailed},
		{name: "a cache that hangs", inject: fastRule(faultdev.Rule{Do: faultdev.Hang}), cache: cluster.CacheHung},
		{name: "a cache that is slow", inject: fastRule(faultdev.Rule{Do: faultdev.Delay, Arg: int64(time.Second)}), cache: cluster.CacheOn},
		{name: "a cache that returns other bytes", inject: fastRule(faultdev.Rule{Do: faultdev.Flip, On: faultdev.Read, Arg: 77}), cache: cluster.CacheOn, lies: true},
		{name: "a cache that keeps nothing", inject: fastRule(faultdev.Rule{Do: faultdev.Lose, On: faultdev.Write}), cache: cluster.CacheOn},
		{name: "a cache that vanishes", inject: func(r *run) { r.w.Fast.Pull() }, heal: plugged, cache: cluster.CacheFailed},
		{name: "a cache restored from an image", inject: func(r *run) { r.w.Fast.Pull() }, heal: func(r *run) { r.w.Fast.Plug(r.older) }, cache: cluster.CacheFailed},
		{name: "a process crash with a cache", inject: func(r *run) { r.die(false) }, death: killed},
		{name: "a power cut with a cache", inject: func(r *run) { r.die(true) }, death: powerCut},
	} {
		ro.prepare, ro.play, ro.copied, ro.fast, ro.skip = warmed, cacheScript, true, true, oneEach
		list = append(list, ro)
	}
	return list
}

func oneEach(c cell) string {
	if c.member != int(c.at)%nodes {
		return "there is one cache before all members"
	}
	return notWhileBare(c)
}
