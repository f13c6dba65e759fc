package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
)

// NodeGrow makes a member as large as its device has become. It is taken away
// and opened anew for that, and gets what it missed like any other that was away.
// grown is by how many bytes, size what the volume has then.
func (p *Pool) NodeGrow(ctx context.Context, name string) (grown, size uint64, err error) {
	e, ok := p.engine.(*engine)
	switch {
	case !ok:
		return 0, 0, errNotClustered
	case p.opts.ReadOnly:
		return 0, 0, ErrReadOnly
	}
	spec, err := e.specOf(name)
	if err != nil {
		return 0, 0, err
	}
	if err := p.NodeOffline(ctx, name); err != nil {
		return 0, 0, fmt.Errorf("it has to be closed for a moment: %w (or unmount, and use anvilfs grow)", err)
	}
	ctx = context.WithoutCancel(ctx) // it is brought back, whoever asked
	devs, err := spec.Open(ctx)
	if err == nil {
		var v *chain.Volume
		if v, err = chain.Open(ctx, devs, chain.Options{Grow: true, Logger: e.log}); err == nil {
			grown, size = v.Grown(), v.Header().Size()
			err = v.Close()
		}
	}
	return grown, size, errors.Join(err, p.NodeOnline(ctx, name))
}

// specOf is what a member was given as.
func (e *engine) specOf(name string) (spec MemberSpec, err error) {
	err = ErrPoolClosed
	e.ask(func() {
		m := e.byName(name)
		if m == nil {
			err = fmt.Errorf("%s is no member", name)
			return
		}
		spec, err = m.spec, nil
	})
	return spec, err
}
