package cluster

import (
	"math"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// space is that of the smallest attached master, with the most that any member
// has lost. Who lacks something counts as it will be: by what it has free now,
// writers would be let in that it has no room for, and it could not follow any more.
func (e *engine) space() chain.Space {
	var least chain.Space
	var lost uint64
	found := false
	members := e.attached()
	used, known := leastUsed(members)
	for _, votes := range []bool{true, false} {
		for _, v := range members {
			s := v.conn.vol.Space()
			lost = max(lost, s.Lost)
			will, fits := s, false
			if v.lacks && known {
				will, fits = whenLevel(s, used, v.master)
			}
			if votes && !v.master && !fits {
				continue
			}
			s = will
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

// leastUsed is how many bytes the masters in sync need on media, the least of them.
func leastUsed(members []memberView) (bytes uint64, known bool) {
	for _, v := range members {
		if !v.master || v.lacks {
			continue
		}
		if n := inUse(v.conn.vol.Space()); !known || n < bytes {
			bytes, known = n, true
		}
	}
	return bytes, known
}

// whenLevel is the space of a member once it has what those in sync have, used bytes;
// false if that does not fit: nobody is kept from writing for one that cannot follow
// anyway. What one that follows has free now is taken by what it lacks, and what one
// that is copied anew has free is no measure: its old state makes way.
func whenLevel(s chain.Space, used uint64, follows bool) (chain.Space, bool) {
	if used+s.Reserved/2 > s.Total {
		return s, false
	}
	if will := s.Total - used; !follows {
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
