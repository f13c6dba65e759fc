package matrix

import (
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
)

// met changes every file whose table may be damaged. The member is copied anew
// once, instead of being opened again with each txg.
func met(r *run) {
	r.healthy()
	if r.outrun() {
		return
	}
	r.changeKept()
	r.check(r.sync(r.limit), "sync")
	r.healthy()
}

func notWhileCopied(c cell) string {
	if c.at == copying || c.at == swap {
		return "the copy that is under way may replace what is damaged before a txg meets it"
	}
	return onlyMasters(c)
}

// outrun reports whether a copy replaced the damaged block before anybody could
// meet it. While m promises, the others may be elected without it, and it is
// brought in sync when it has answered.
func (r *run) outrun() bool {
	r.t.Helper()
	r.mu.Lock()
	_, copied := r.seen[cluster.NodeResync]
	_, tainted := r.seen[cluster.NodeTainted]
	r.mu.Unlock()
	if r.cell.at != promise || !copied || tainted || r.damaged.DataOff == 0 {
		return false
	}
	all, err := rig.Blocks(r.m.Copy())
	if err != nil { // it is still reached
		return false
	}
	for i := range all {
		if all[i].Ref.DataOff == r.damaged.DataOff {
			return false
		}
	}
	r.note("a copy has replaced the damaged block")
	r.spared = true
	return true
}
