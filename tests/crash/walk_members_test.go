package crash

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// memberMoves change who is a member. Wherever one is cut, the members are those
// before it or those after it as a whole: what is half way is ended by the next
// mount, or was never begun.
var memberMoves = []string{"add-slave", "add-master", "add-soft", "promote", "demote", "remove", "replace"}

// mountMoves end a mount and begin another.
var mountMoves = []string{"reopen", "reopen-without-one"}

// rolesTo makes do a change of the members to those.
func (w *walker) rolesTo(change func(map[int]string), do func() error) error {
	next := maps.Clone(w.roles)
	change(next)
	w.next = next
	if err := do(); err != nil {
		return err
	}
	w.roles, w.next = next, nil
	return nil
}

func (w *walker) addOne(role ondisk.PFSType, called string) error {
	i := w.spare()
	return w.rolesTo(func(roles map[int]string) { roles[i] = called }, func() error {
		if err := w.pool.NodeAdd(w.ctx, w.shape.specs(w.devs)[i], role, true); err != nil {
			return err
		}
		if err := w.mend(); err != nil {
			return err
		}
		return w.until(name(i), role.String())
	})
}

// turn gives a member another role.
func (w *walker) turn(from string, role ondisk.PFSType, called string) error {
	i := w.one(from)
	return w.rolesTo(func(roles map[int]string) { roles[i] = called }, func() error { return w.role(name(i), role, called) })
}

func (w *walker) removeOne() error {
	i := w.removable()
	return w.rolesTo(func(roles map[int]string) { delete(roles, i) }, func() error { return w.pool.NodeRemove(w.ctx, name(i)) })
}

// removable is a member that can go: not one of three masters.
func (w *walker) removable() int {
	for _, role := range []string{"slave", "soft"} {
		if w.count(role) > 0 {
			return w.one(role)
		}
	}
	return w.one("master")
}

func (w *walker) replaceOne() error {
	old, next := w.one("master"), w.spare()
	return w.rolesTo(func(roles map[int]string) { delete(roles, old); roles[next] = "master" }, func() error {
		if err := w.pool.NodeOffline(w.ctx, name(old)); err != nil {
			return err
		}
		if err := w.pool.NodeReplace(w.ctx, name(old), w.shape.specs(w.devs)[next], true); err != nil {
			return err
		}
		if err := w.mend(); err != nil {
			return err
		}
		return w.until(name(next), "master")
	})
}

// mountLeft mounts what a cut left. Where the members were being changed, all who
// may be one are given: a device that was still being formatted may be refused.
func (w *walker) mountLeft() error {
	err := w.mount(w.given()...)
	if err == nil || w.next == nil || w.pool != nil || w.ctx.Err() != nil {
		return err
	}
	for i := range w.next {
		if w.roles[i] == "" && strings.Contains(err.Error(), name(i)+": ") { // nobody else may be the reason
			next := w.next
			w.next = nil
			defer func() { w.next = next }()
			return w.mount(w.given()...)
		}
	}
	return err
}

// ended waits until the change of members that was cut is ended, and notes who
// is a member now: those before it, or those after it.
func (w *walker) ended() error {
	ctx, cancel := w.bounded()
	defer cancel()
	if err := w.pool.Wait(ctx, cluster.WaitHealthy); err != nil {
		return fmt.Errorf("%w; %s", err, w.describe())
	}
	if w.next == nil {
		return w.are(w.roles)
	}
	before, after := w.are(w.roles), w.are(w.next)
	switch {
	case before != nil && after != nil:
		return fmt.Errorf("neither as before the change of members nor as after it: %w; %w", before, after)
	case after == nil:
		w.roles = w.next
	}
	w.next = nil
	return nil
}

// are demands that those are the members, and nobody else.
func (w *walker) are(roles map[int]string) error {
	left := maps.Clone(roles)
	delete(left, w.branch) // it is away
	for _, n := range w.pool.Status().Nodes {
		i, role := w.named(n.Name), n.Role
		if role == ondisk.PFSSoftMaster.String() {
			role = "soft"
		}
		switch {
		case i < 0 && role == "soft" && w.branch >= 0:
		case role == ondisk.PFSNone.String() && roles[i] == "":
		case i < 0 || role != left[i]:
			return fmt.Errorf("%s (%s) is %s, want %v: %s", n.Name, n.Fsid, n.Role, roles, w.describe())
		}
		delete(left, i)
	}
	if len(left) > 0 {
		return fmt.Errorf("%v are missing of %v: %s", left, roles, w.describe())
	}
	return nil
}

// named is the device of that name; -1 = there is none.
func (w *walker) named(node string) int {
	for i := range w.media {
		if name(i) == node {
			return i
		}
	}
	return -1
}

// powerBack ends the process and mounts what the cut left. Now and then the power
// goes again while it is opened, which brings in what intent logs hold.
func (w *walker) powerBack() error {
	for again := true; again; {
		if err := w.powerOff(); err != nil {
			return err
		}
		again = w.rnd.IntN(3) == 0
		if err := w.opening(again); err != nil {
			return err
		}
	}
	if w.half != nil {
		w.moments = append(w.moments, moment{m: w.half})
	}
	if err := w.same(w.moments[w.synced-1:]); err != nil {
		return err
	}
	if err := w.mend(); err != nil {
		return err
	}
	return w.ended()
}

// powerOff takes the power of a process that is dead, or about to be, and of all
// devices.
func (w *walker) powerOff() error {
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	if w.pool != nil {
		if w.f != nil {
			_ = w.f.Close(ctx) // it is dead: an error is all that can come
		}
		_ = w.pool.Close(ctx)
	}
	w.pool, w.open = nil, nil
	for i, d := range w.power {
		w.gates[i].shut.Store(true)
		w.gates[i].drain()
		if err := d.cut(w.rnd); err != nil {
			return err
		}
	}
	w.cuts++
	w.connect()
	for i := range w.roles {
		if err := crashtest.CheckStructure(w.media[i]); err != nil {
			return fmt.Errorf("member %d as it was left: %w", i, err)
		}
	}
	w.away, w.absent = -1, false
	return nil
}

// opening mounts what there is, and brings all in sync, with the power cut in the
// middle of that, or when it has just ended, if that is wanted.
func (w *walker) opening(cut bool) error {
	if !cut {
		return w.mountLeft()
	}
	f, whole := w.light()
	defer func() { w.ctx = whole }()
	err := w.mountLeft()
	if err == nil {
		err = w.mend()
	}
	if err != nil && !f.burnt.Load() {
		return fmt.Errorf("the opening, not cut: %w", err)
	}
	f.out()
	w.openings++
	w.done[len(w.done)-1] += fmt.Sprintf(" and in the opening (%v)", err)
	return nil
}

// light has the power of all go after some requests, and gives the context that
// ends then to all that is done until it is unlit. whole is the one before.
func (w *walker) light() (f *fuse, whole context.Context) {
	ctx, cancel := context.WithCancel(w.ctx)
	f = newFuse(w.soon(), func() {
		for _, g := range w.gates {
			g.shut.Store(true)
		}
		cancel()
	})
	for _, g := range w.gates {
		g.fuse.Store(f)
	}
	whole, w.ctx = w.ctx, ctx
	return f, whole
}
