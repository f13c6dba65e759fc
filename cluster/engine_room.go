package cluster

import (
	"math"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// space is that of the smallest attached master, with the most that any member
// has lost. A master that lacks what others have committed counts as it will be: by
// what it has free now, writers would be let in that it has no room for, and it could
// not follow any more.
func (e *engine) space() chain.Space {
	var least chain.Space
	var lost uint64
	found := false
	members, committed := e.attachedAt()
	now := levelUsage(members, committed)
	for _, votes := range []bool{true, false} {
		for _, v := range members {
			s := v.conn.vol.Space()
			lost = max(lost, s.Lost)
			counts := v.master
			if v.bound && v.conn.position().T < committed && len(now) > 0 {
				will, fits := whenLevel(s, now.needed(v), v.master)
				s, counts = will, counts || fits
			}
			if votes && !counts {
				continue
			}
			whole := s.Whole
			if found {
				whole = min(whole, least.Whole)
			}
			if !found || s.Avail() < least.Avail() {
				least, found = s, true
			}
			least.Whole = whole
		}
		if found {
			break
		}
	}
	least.Lost = lost
	return least
}

// A usage is how many bytes are taken on each of some masters that had the same
// state, by the index of the member.
type usage map[int]uint64

// levelUsage is the usage of the masters that have all that is committed. Each of
// them keeps it: what the others take from then on, it will need too.
func levelUsage(members []memberView, committed ondisk.Tid) usage {
	u := make(usage)
	for _, v := range members {
		if v.master && v.conn.position().T >= committed {
			s := v.conn.vol.Space()
			u[v.m.index] = s.Total - min(s.Total, s.Free)
		}
	}
	for _, v := range members {
		if _, level := u[v.m.index]; level {
			v.m.level.Store(&u)
		}
	}
	return u
}

// needed is how many bytes will be taken on a master that is not among those of u,
// once it has what they have: what it had taken when it was last level, and what
// others of then took since. Of one that was not level yet it is known only by what
// is taken on the others, which may hold more than this filesystem.
func (u usage) needed(v memberView) uint64 {
	least := uint64(math.MaxUint64)
	if then := v.m.level.Load(); then != nil && v.master {
		own := (*then)[v.m.index]
		for i, n := range u {
			if was, known := (*then)[i]; known {
				least = min(least, own+n-min(own+n, was))
			}
		}
	}
	if least < math.MaxUint64 {
		return least
	}
	for _, n := range u {
		least = min(least, n)
	}
	return least
}

// whenLevel is the space of a member once so many bytes of it are taken; false if
// that does not fit: nobody is kept from writing for one that cannot follow anyway.
// What one that follows has free now is taken by what it lacks, and what one that is
// copied anew has free is no measure: its old state makes way.
func whenLevel(s chain.Space, taken uint64, follows bool) (chain.Space, bool) {
	if taken+s.Reserved/2 > s.Total {
		return s, false
	}
	if will := s.Total - taken; !follows {
		s.Free, s.Pending = will, 0
		s.Whole = will
	} else {
		s.Free = min(s.Free, will)
		s.Whole = min(s.Whole, s.Free)
	}
	return s, true
}

// removable is how many bytes are free for calls that give space back: on each
// master in sync, and on the fullest of those that are enough to commit. Who is
// behind has no say: to remove something is how it gets room. false: they are too
// few to commit.
func (e *engine) removable() (all, enough uint64, ok bool) {
	free := make(map[ondisk.UUID]uint64)
	for _, v := range e.attached() {
		if v.master && v.report.State == NodeInSync {
			free[v.m.fsid] = v.conn.vol.Space().Free
		}
	}
	e.mu.Lock()
	charter := e.pub.charter
	e.mu.Unlock()
	if charter == nil {
		return 0, 0, false
	}
	return Removable(&charter.Config, free)
}

// Removable is what can be taken to remove something, where free is what the
// masters in sync have.
func Removable(c *Config, free map[ondisk.UUID]uint64) (all, enough uint64, ok bool) {
	all, enough = math.MaxUint64, math.MaxUint64
	for _, set := range c.Sets() {
		var have []uint64
		for _, id := range set {
			if n, there := free[id]; there {
				have = append(have, n)
			}
		}
		q := core.Quorum(len(set))
		if len(have) < q {
			return 0, 0, false
		}
		slices.Sort(have)
		all, enough = min(all, have[0]), min(enough, have[len(have)-q])
	}
	return all, enough, true
}
