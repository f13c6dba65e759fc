package cluster

import (
	"math"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// space is that of the smallest attached master, with the most that any member
// has lost.
func (e *engine) space() chain.Space {
	var least chain.Space
	var lost uint64
	found := false
	for _, votes := range []bool{true, false} {
		for _, v := range e.attached() {
			s := v.conn.vol.Space()
			lost = max(lost, s.Lost)
			if votes && !v.master {
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
