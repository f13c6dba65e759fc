package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
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
	spec, vol, err := e.growable(name)
	if err != nil {
		return 0, 0, err
	}
	o := chain.Options{Grow: true, Logger: e.log}
	if add != nil {
		if o.Add, err = add.open(ctx, vol); err != nil {
			return 0, 0, err
		}
	}
	drop := func() error {
		if o.Add == nil {
			return nil
		}
		return o.Add.Close()
	}
	if err := p.NodeOffline(ctx, name); err != nil {
		err = fmt.Errorf("it has to be closed for a moment: %w (or unmount, and use anvilfs grow)", err)
		return 0, 0, errors.Join(err, drop())
	}
	ctx = context.WithoutCancel(ctx) // it is brought back, whoever asked
	devs, err := spec.Open(ctx)
	if err != nil {
		err = errors.Join(err, drop())
	} else if v, oerr := chain.Open(ctx, devs, o); oerr != nil {
		err = oerr
	} else {
		grown, size = v.Grown(), v.Header().Size()
		err = v.Close()
	}
	if add != nil && (grown > 0 || tookIn(ctx, spec)) {
		name = e.extended(name, add)
	}
	if grown > 0 {
		e.ask(func() { e.tell(Event{Time: time.Now(), Node: name, What: TurnGrown, Count: grown}) })
	}
	return grown, size, errors.Join(err, p.NodeOnline(ctx, name))
}

// growable finds a member that is here and well enough to be closed and opened
// again: another one would come back by this, without what it waits for.
func (e *engine) growable(name string) (spec MemberSpec, vol *chain.Volume, err error) {
	err = ErrPoolClosed
	e.ask(func() {
		m := e.byName(name)
		switch {
		case m == nil:
			err = fmt.Errorf("%s is no member", name)
		case m.state == NodeOffline:
			err = errors.New("it is offline: anvilfs node online brings it back, or anvilfs grow grows its device by itself")
		case m.conn == nil, m.flags != 0, m.state == NodeBranch:
			err = fmt.Errorf("it is %s (%s): it can be grown when it is back in sync", m.state, m.err)
		default:
			spec, vol, err = m.spec, m.conn.vol, nil
		}
	})
	return spec, vol, err
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
