package matrix

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

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
	for i, inum := range r.base.keep {
		path, data := fmt.Sprintf("/keep/k%d", i), content(r.rng, 4096)
		err := r.life.caller.do(func(s map[string]string) { s[path] = data + s[path][len(data):] },
			func() error { _, err := r.life.fs.Write(r.life.ctx, inum, 0, []byte(data), false); return err })
		r.check(err, "writing")
	}
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

// A copy that took the place of the damaged block has spared m; one that left the block
// where it is has not, and neither has one that began when the block had been met.
func TestOutrun(t *testing.T) {
	b, err := baseOne()
	if err != nil {
		t.Fatal(err)
	}
	all := rows()
	ro := all[slices.IndexFunc(all, func(ro *row) bool { return ro.name == "read error in a data block" })]
	for _, replaced := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRun(t, cell{row: ro, member: 1, at: promise}, b)
			defer r.end()
			r.check(r.open(), "mounting")
			r.work(3)
			r.caughtUp()
			r.missSome()
			if replaced {
				r.rewriteKept()
			}
			r.fire()
			r.check(r.life.pool.NodeOnline(r.life.ctx, r.m.Name), "node online")
			r.healthy()
			if got := r.outrun(); got != replaced || r.spared != replaced {
				r.fail("spared: %v, and its block was replaced: %v", got, replaced)
			}
			r.mu.Lock()
			r.seen[cluster.NodeTainted] = cluster.NodeStatus{}
			r.mu.Unlock()
			if r.outrun() {
				r.fail("spared, and tainted")
			}
			r.heal()
			r.finish()
		})
	}
}

// rewriteKept changes all of the files that no call touches.
func (r *run) rewriteKept() {
	r.t.Helper()
	for i, inum := range r.base.keep {
		path := fmt.Sprintf("/keep/k%d", i)
		data := content(r.rng, len(r.model.last()[path]))
		err := r.life.caller.do(func(s map[string]string) { s[path] = data },
			func() error { _, err := r.life.fs.Write(r.life.ctx, inum, 0, []byte(data), false); return err })
		r.check(err, "writing")
	}
	r.check(r.sync(r.limit), "sync")
}
