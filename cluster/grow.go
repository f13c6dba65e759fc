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

// NodeGrow makes a member as large as its device has become. It is taken away
// and opened anew for that, and gets what it missed like any other that was away:
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
	spec, vol, meter, err := e.growable(name)
	if err != nil {
		return 0, 0, err
	}
	w := &growWatch{limit: e.deadline, meters: []*metered.Meter{meter}}
	o := chain.Options{Grow: true, Logger: e.log}
	if add != nil {
		given := w.addition(*add)
		o.Add, err = patiently(w, func() (ondisk.Device, error) { return given.open(ctx, vol) }, func(d ondisk.Device, err error) {
			if err == nil {
				_ = d.Close() // nothing was written
			}
		})
		if err != nil && errors.Is(err, errHangs) {
			err = fmt.Errorf("%s: %w; nothing was changed: check its cable and disk", add.Name, err)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if err := p.NodeOffline(ctx, name); err != nil {
		err = fmt.Errorf("it has to be closed for a moment: %w (or unmount, and use anvilfs grow)", err)
		if o.Add != nil {
			err = errors.Join(err, o.Add.Close())
		}
		return 0, 0, err
	}
	ctx = context.WithoutCancel(ctx) // it is brought back, whoever asked
	r, err := patiently(w, func() (grownBy, error) { return p.growClosed(ctx, e, name, w.member(spec), o, add) }, func(r grownBy, err error) {
		e.log.Warn("a device answered again, and its member was brought back", "member", name, "grown", r.by, "err", err)
	})
	if errors.Is(err, errHangs) {
		err = fmt.Errorf("%w: it stays offline, and is brought back by itself when the device answers; check its cable and disk, node replace puts another one in its place", err)
	}
	return r.by, r.size, err
}

// A grownBy is by how many bytes a volume grew, and what it has then.
type grownBy struct{ by, size uint64 }

// growClosed grows a member that was closed, and brings it back.
func (p *Pool) growClosed(ctx context.Context, e *engine, name string, spec MemberSpec, o chain.Options, add *Addition) (r grownBy, err error) {
	devs, err := spec.Open(ctx)
	if err != nil {
		if o.Add != nil {
			err = errors.Join(err, o.Add.Close())
		}
	} else if v, oerr := chain.Open(ctx, devs, o); oerr != nil {
		err = oerr
	} else {
		r = grownBy{v.Grown(), v.Header().Size()}
		err = v.Close()
	}
	if add != nil && (r.by > 0 || tookIn(ctx, spec)) {
		name = e.extended(name, add)
	}
	if r.by > 0 {
		e.ask(func() { e.tell(Event{Time: time.Now(), Node: name, What: TurnGrown, Count: r.by}) })
	}
	return r, errors.Join(err, p.NodeOnline(ctx, name))
}

// growable finds a member that is here and well enough to be closed and opened
// again: another one would come back by this, without what it waits for.
func (e *engine) growable(name string) (spec MemberSpec, vol *chain.Volume, meter *metered.Meter, err error) {
	err = ErrPoolClosed
	e.ask(func() {
		m := e.byName(name)
		switch {
		case m == nil:
			err = noMember(name)
		case m.state == NodeOffline:
			err = errors.New("it is offline: anvilfs node online brings it back, or anvilfs grow grows its device by itself")
		case m.conn == nil, m.flags != 0, m.state == NodeBranch:
			err = fmt.Errorf("it is %s (%s): it can be grown when it is back in sync", m.state, m.err)
		default:
			spec, vol, meter, err = m.spec, m.conn.vol, &m.meter, nil
		}
	})
	return spec, vol, meter, err
}

// open opens the device, unless it holds something or is too small.
func (a *Addition) open(ctx context.Context, vol *chain.Volume) (ondisk.Device, error) {
	d, err := a.Open(ctx)
	if err != nil {
		return nil, err
	}
	if !a.Force && !chain.LeftOver(vol.Header(), d) {
		err = mustBeEmpty([]ondisk.Device{d})
	}
	if err == nil {
		err = vol.Fits(d)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", a.Name, err), d.Close())
	}
	return d, nil
}

// tookIn reports whether a member has one more volume than devices, after an
// error that may have come before it had or after.
func tookIn(ctx context.Context, spec MemberSpec) bool {
	devs, err := spec.Open(ctx)
	if err != nil {
		return false
	}
	v, err := chain.Open(ctx, devs, chain.Options{ReadOnly: true})
	if err == nil {
		_ = v.Close() // only read
	}
	var missing *chain.MissingVolume
	return errors.As(err, &missing)
}

// extended gives a member its new name, and opens the new device with the others
// from now on.
func (e *engine) extended(name string, add *Addition) string {
	as := MemberSpec{Name: name + ":" + add.Name}
	e.ask(func() {
		m := e.byName(name)
		if m == nil {
			return // another one was added at the same time, and it has that name
		}
		given := m.given
		as.Name = given.Name + ":" + add.Name
		as.Open = func(ctx context.Context) ([]ondisk.Device, error) {
			devs, err := given.Open(ctx)
			if err != nil {
				return nil, err
			}
			d, err := add.Open(ctx)
			if err != nil {
				for _, d := range devs {
					err = errors.Join(err, d.Close())
				}
				return nil, err
			}
			return append(devs, d), nil
		}
		m.spec = m.metered(as)
	})
	return as.Name
}

// tell adds what happened to a member beside changes of its state. The caller is
// the loop.
func (e *engine) tell(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.turns.add(ev)
	e.notify = true
}
