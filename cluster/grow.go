package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/metered"
)

// TurnGrown is an Event of a node: it has Count bytes more.
const TurnGrown = "grown"

// An Addition is a device that becomes a part of a member.
type Addition struct {
	Name  string // it is written behind the member's, and a colon
	Open  func(context.Context) (ondisk.Device, error)
	Force bool // whatever is on it
}

// NodeGrow makes a member as large as its device has become, while it is in use:
// space is no part of what the members agree on. grown is by how many bytes, size
// what the volume has then.
func (p *Pool) NodeGrow(ctx context.Context, name string) (grown, size uint64, err error) {
	return p.growNode(ctx, name, nil)
}

// NodeExtend makes a device a part of a member, likewise. From then on that is
// called NAME:DEVICE.
func (p *Pool) NodeExtend(ctx context.Context, name string, add Addition) (grown, size uint64, err error) {
	return p.growNode(ctx, name, &add)
}

func (p *Pool) growNode(ctx context.Context, name string, add *Addition) (grown, size uint64, err error) {
	e, ok := p.engine.(*engine)
	switch {
	case !ok:
		return 0, 0, errNotClustered
	case p.opts.ReadOnly:
		return 0, 0, ErrReadOnly
	}
	m, vol, err := e.growable(name, add)
	if err != nil {
		return 0, 0, err
	}
	defer e.ask(func() { m.growing = false })
	w := &growWatch{limit: e.deadline, meters: []*metered.Meter{&m.meter}}
	var o chain.Growth
	if add != nil {
		given := w.addition(*add)
		o.Add, err = patiently(w, func() (ondisk.Device, error) { return given.open(ctx, vol) }, func(d ondisk.Device, err error) {
			if err == nil {
				_ = d.Close() // nothing was written
			}
		})
		if err != nil {
			return 0, 0, nothingChanged(add, err)
		}
		// A device of the mount's is waited for like the others.
		o.Joins = func() { w.joined.Store(true); m.meter.Take(o.Add) }
		e.ask(func() { m.spec = m.metered(e.extended(m, add)) })
	}
	ctx = context.WithoutCancel(ctx) // half of it helps nobody
	r, err := patiently(w, func() (grownBy, error) { return e.growOpen(ctx, m, vol, o, add) }, func(r grownBy, err error) {
		e.log.Warn("a device answered again, and its member was grown", "member", m.called(), "grown", r.by, "err", err)
	})
	switch {
	case !errors.Is(err, errHangs):
	case add != nil && !w.joined.Load():
		err = nothingChanged(add, err)
	default:
		err = fmt.Errorf("%w: the member goes on when it does; check its cable and disk, anvilfs node replace MNT NODE DEVICE puts another one in its place", err)
	}
	return r.by, r.size, err
}

// nothingChanged is err about a device that was to be added and was not.
func nothingChanged(add *Addition, err error) error {
	if !errors.Is(err, errHangs) {
		return err
	}
	return fmt.Errorf("%s: %w; nothing was changed: check its cable and disk", add.Name, err)
}

// A grownBy is by how many bytes a volume grew, and what it has then.
type grownBy struct{ by, size uint64 }

// growOpen grows the volume that a member has open.
func (e *engine) growOpen(ctx context.Context, m *member, vol *chain.Volume, o chain.Growth, add *Addition) (r grownBy, err error) {
	r.by, err = vol.Grow(ctx, o)
	r.size = vol.Header().Size()
	e.ask(func() {
		switch was := m.before.Name; {
		case add == nil || m.given.Name != was: // it was opened again, or has another device
		case r.by > 0:
			m.rename(was + ":" + add.Name)
		case vol.Failed() == nil:
			m.spec = m.metered(m.before)
		}
		if failed := vol.Failed(); failed != nil && m.conn != nil && m.conn.vol == vol && m.hold == nil {
			e.fail(m, failed.Error())
		}
		if r.by == 0 {
			return
		}
		e.tell(Event{Time: time.Now(), Node: m.spec.Name, What: TurnGrown, Count: r.by})
		if m.state == NodeFull && m.conn != nil && m.conn.vol == vol {
			m.backoff = 0
			e.attach(m, m.conn.state())
		}
	})
	return r, err
}

// growable finds a member that is here, and well: what is wrong with its headers
// is known by them, and growing writes new ones.
func (e *engine) growable(name string, add *Addition) (m *member, vol *chain.Volume, err error) {
	err = ErrPoolClosed
	e.ask(func() {
		m = e.named(name)
		switch {
		case m == nil:
			err = e.noMember(name)
		case m.growing:
			err = fmt.Errorf("%s is being grown at this moment", name)
		case m.state == NodeOffline:
			err = errors.New("it is offline: anvilfs node online MNT NODE brings it back, or anvilfs grow grows its device by itself")
		case m.conn == nil, m.flags != 0, m.state == NodeBranch, add != nil && m.hold != nil:
			why := ""
			if m.err != "" {
				why = " (" + m.err + ")"
			}
			err = fmt.Errorf("it is %s%s: it can be grown when it is back in sync", m.state, why)
		default:
			vol, err = m.conn.vol, nil
			m.growing = true
		}
	})
	return m, vol, err
}

// open opens the device, unless it holds something or is too small.
func (a *Addition) open(ctx context.Context, vol *chain.Volume) (ondisk.Device, error) {
	d, err := a.Open(ctx)
	if err != nil {
		return nil, err
	}
	if !a.Force && !chain.LeftOver(vol.Header(), d) {
		err = mustBeEmpty(ctx, []ondisk.Device{d})
	}
	if err == nil {
		err = vol.Fits(d)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", a.Name, err), d.Close())
	}
	return d, nil
}

// extended is how a member is opened from now on that may have one more device:
// with it if its volume says so, and is called so then. The caller is the loop.
func (e *engine) extended(m *member, add *Addition) MemberSpec {
	given := m.given
	m.before = given
	return MemberSpec{Name: given.Name, Open: func(ctx context.Context) ([]ondisk.Device, error) {
		devs, err := given.Open(ctx)
		if err != nil {
			return nil, err
		}
		name := given.Name
		if chain.Lacks(devs) {
			d, err := add.Open(ctx)
			if err != nil {
				for _, d := range devs {
					err = errors.Join(err, d.Close())
				}
				return nil, err
			}
			devs, name = append(devs, d), name+":"+add.Name
		}
		e.post(func() { m.rename(name) })
		return devs, nil
	}}
}

// rename changes what a member is called. The caller is the loop.
func (m *member) rename(name string) {
	m.spec.Name, m.given.Name = name, name
	m.name.Store(&name)
}

// tell adds what happened to a member beside changes of its state. The caller is
// the loop.
func (e *engine) tell(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.turns.add(ev)
	e.notify = true
}
