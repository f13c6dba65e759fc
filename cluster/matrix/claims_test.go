package matrix

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// second mounts the members a second time, without the first mount's doing.
func (r *run) second(specs []cluster.MemberSpec) (*cluster.Pool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return cluster.OpenPool(ctx, specs, cluster.Options{Label: rig.Label, Deadline: deadline, Logger: r.logger()})
}

// secondMount: while the members are in use nobody else gets them, and the
// attempt does no harm.
func secondMount(r *run) {
	pending := r.reach()
	p, err := r.second(r.w.Specs())
	if err == nil {
		_ = p.Close(context.Background()) // the cell fails in any case
		r.fail("the members were mounted twice")
	}
	if r.mustName(err.Error()); !errors.Is(err, rig.ErrBusy) && !strings.Contains(err.Error(), rig.ErrBusy.Error()) {
		r.fail("the second mount does not say why: %v", err)
	}
	r.goesOn(pending)
	r.finish()
}

// asleep is how long the machine of suspend sleeps.
const asleep = 10 * time.Minute

// suspend stops all devices for a while, as a clock sees it that goes on while
// the machine sleeps: each request that is out has been out for so long when
// it returns.
func suspend(r *run) {
	for _, m := range r.w.Members {
		m.Fault().Add(faultdev.Rule{Do: faultdev.Delay, Arg: int64(asleep)})
	}
}

// awake: what was under way when the machine slept ends without an error.
func awake(r *run) {
	pending := r.reach()
	if r.life == nil {
		r.fail("the mount was given up")
	}
	r.resumed(pending)
	for _, m := range r.w.Members {
		m.Fault().Clear()
	}
	// A request that slept keeps its member from the others until it is back,
	// whether or not anybody has noticed by now.
	<-time.After(asleep)
	r.until("everybody awake", func() bool { return r.life.pool.Status().Health == cluster.PoolHealthy })
	r.limit = time.Minute
	r.work(4)
	r.reads()
	r.finish()
}

// forked lets two histories of one cluster go on from the moment of a crash,
// each with a quorum, and then brings members of both together.
func forked(r *run) {
	r.reach()
	r.bury()
	r.check(r.w.Restart(r.cell.dice(4)), "restarting")
	n := (r.cell.member + 1) % masters // goes with m in the other history
	both := r.w.Clone()
	other := both.Members[r.cell.member]
	r.alone(both, r.cell.member, n)
	r.alone(r.w, n, (r.cell.member+2)%masters)
	r.m.Plug(other.Copy())
	r.note("members of two histories together")
	err := r.open()
	if err == nil {
		r.fail("two histories were mounted as one")
	}
	r.mustName(err.Error())
	if !strings.Contains(err.Error(), "different") && !strings.Contains(err.Error(), "other") {
		r.fail("the refusal does not say that there are two histories: %v", err)
	}
	r.life = nil
	ro, err := cluster.OpenPool(context.Background(), []cluster.MemberSpec{r.w.Members[n].Spec()}, cluster.Options{Label: rig.Label, ReadOnly: true})
	r.check(err, "one of them alone, read-only")
	r.check(ro.Close(context.Background()), "closing it")
	// The operator decides: m's history goes.
	if r.cell.dice(9).IntN(2) == 0 {
		r.anew()
	} else {
		r.givenUp()
	}
	r.finish()
}

// givenUp mounts without m, and drops what only m has when it comes.
func (r *run) givenUp() {
	r.t.Helper()
	r.m.Pull()
	r.check(r.open(), "mounting without the member")
	r.settles()
	r.m.Plug(nil)
	r.check(r.life.pool.NodeOnline(r.life.ctx, r.m.Name), "node online")
	r.until("a word about two histories", func() bool {
		st := r.status()
		return st.State == cluster.NodeForeign && strings.Contains(st.Error, "two histories") && st.Next != ""
	})
	r.work(2)
	if st := r.status(); st.State != cluster.NodeForeign {
		r.fail("it is %s unasked", st.State)
	}
	r.check(r.life.pool.NodeDiscard(r.life.ctx, r.m.Name), "node discard")
}

// anew mounts with m's device emptied, and makes it a member again.
func (r *run) anew() {
	r.t.Helper()
	r.m.Plug(memdev.New(r.m.Copy().Size()))
	r.check(r.open(), "mounting with the member emptied")
	r.settles()
	id := ""
	for _, s := range r.life.pool.Status().Nodes {
		if s.State == cluster.NodeMissing {
			id = s.Name
		}
	}
	r.check(r.life.pool.NodeReplace(r.life.ctx, id, r.m.Spec(), false), "node replace")
	r.until("the replacement in place", func() bool {
		st := r.life.pool.Status()
		return st.Health == cluster.PoolHealthy && len(st.Nodes) == nodes
	})
}

// alone mounts two members only, changes the root and unmounts.
func (r *run) alone(w *rig.World, members ...int) {
	r.t.Helper()
	var specs []cluster.MemberSpec
	for _, i := range members {
		specs = append(specs, w.Members[i].Spec())
	}
	p, err := r.second(specs)
	r.check(err, "mounting two of three")
	ctx := context.Background()
	in, _, err := p.Inode(ctx, ondisk.InumRoot)
	r.check(err, "reading the root")
	t, err := p.Begin(ctx, cluster.Cost{Leaves: 1})
	r.check(err, "begin")
	again := *in
	again.Meta.Mtime++
	t.PutInode(&again)
	t.End()
	r.check(p.Sync(ctx), "sync")
	r.check(p.Close(ctx), "unmounting")
}

// stolen: m and another master vanish and are mounted elsewhere, where they
// are a quorum; then they come back. The first mount is of the past: it must
// show and change nothing any more.
func stolen(r *run) {
	before := r.reach()
	other := r.w.Members[(r.cell.member+1)%masters]
	other.Pull()
	r.m.Pull()
	select { // it got through before they vanished, or does not any more
	case err := <-before:
		r.check(err, "the sync that was under way")
	case <-time.After(time.Second):
		r.note("the sync that was under way waits")
	}
	pending := r.changeAndSync() // without that nobody would notice: members grant no leases
	<-time.After(2 * time.Minute)
	there := r.w.Clone()
	r.alone(there, r.cell.member, (r.cell.member+1)%masters)
	r.m.Plug(there.Members[r.cell.member].Copy())
	other.Plug(there.Members[(r.cell.member+1)%masters].Copy())
	r.until("calls fail", func() bool {
		ctx, cancel := context.WithTimeout(r.life.ctx, r.limit)
		defer cancel()
		_, err := readAll(ctx, r.life.fs)
		return errors.Is(err, cluster.ErrStale)
	})
	if err := r.life.caller.call(r.life.ctx); !errors.Is(err, cluster.ErrStale) {
		r.fail("a mount of the past takes changes: %v", err)
	}
	select {
	case err := <-pending:
		if r.note("the sync that waited: %v", err); err == nil {
			r.fail("a mount of the past synced")
		}
	case <-time.After(time.Minute):
		r.fail("the sync that waited does not return")
	}
	if st := r.life.pool.Status(); st.Health == cluster.PoolHealthy || st.Next == "" {
		r.fail("the status does not say that the mount is of the past: %+v", st)
	}
	if err := r.abandon(); err == nil {
		r.fail("the unmount does not say that changes are lost")
	}
	r.check(r.open(), "mounting anew")
	r.settles()
	r.finish()
}

// abandon unmounts what cannot store what it has any more.
func (r *run) abandon() error {
	r.t.Helper()
	l := r.life
	l.halt()
	l.wait.Wait()
	ctx, cancel := context.WithTimeout(l.ctx, time.Minute)
	defer cancel()
	err := errors.Join(l.fs.Close(ctx), l.pool.Close(ctx))
	r.note("unmounting: %v", err)
	l.cancel()
	r.life = nil
	r.givenBack()
	return err
}

// givenBack waits until no process has a device open.
func (r *run) givenBack() {
	r.t.Helper()
	r.until("the devices given back", func() bool { return r.w.Held() == "" })
}
