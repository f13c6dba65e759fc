package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// replace makes a new device a member in place of another. It enters under a
// new fsid as a slave, which gives no vote to a copy that is not complete, and
// takes over the place of the old one, by a change of members, when it is in
// sync. An fsid is never used twice: what the old device says later cannot be
// taken for the new one's word.
func (e *engine) replace(ctx context.Context, name string, with MemberSpec, force bool) error {
	if e.solo || e.o.ReadOnly {
		return errNotClustered
	}
	if err := e.notBranch(); err != nil {
		return err
	}
	old, err := e.replaceable(name, with)
	if err != nil {
		return err
	}
	fresh := Member{Fsid: ondisk.NewUUID(), Role: ondisk.PFSSlave, Incarnation: ondisk.NewUUID()}
	if err := e.prepare(ctx, with, fresh, old.Fsid, force); err != nil {
		return err
	}
	err = e.reconfigure(ctx, func(now []Member) ([]Member, error) {
		if !slices.ContainsFunc(now, func(m Member) bool { return m.Fsid == old.Fsid }) {
			return nil, fmt.Errorf("%s is no member of the cluster any more", name)
		}
		return succeed(now, old.Fsid, fresh), nil
	})
	if err != nil {
		return err
	}
	return e.enroll(ctx, with)
}

// succeed adds a member that is to take the place of old. If old is on its way to
// a place itself - another's, or that of a master - fresh takes over the way, and old
// is an attempt that ends, as are all earlier ones.
func succeed(now []Member, old ondisk.UUID, fresh Member) []Member {
	at := slices.IndexFunc(now, func(m Member) bool { return m.Fsid == old })
	way := now[at].Replaces
	switch way {
	case ondisk.UUID{}:
		fresh.Replaces = old
	case old:
		fresh.Replaces = fresh.Fsid
	default:
		fresh.Replaces = way
	}
	ends := func(m Member) bool { return !m.Replaces.IsZero() && (m.Replaces == old || m.Replaces == way) }
	return append(slices.DeleteFunc(now, ends), fresh)
}

// replaceable finds the member of the configuration that name means.
func (e *engine) replaceable(name string, with MemberSpec) (old Member, err error) {
	err = ErrPoolClosed
	e.ask(func() {
		err = nil
		m := e.byName(name)
		for _, c := range e.primary.Charter().Config.Members {
			if c.Fsid.String() == name || m != nil && c.Fsid == m.fsid {
				old = c
			}
		}
		same := e.byName(with.Name)
		switch {
		case old.Fsid.IsZero() && m != nil && m.fsid.IsZero():
			err = fmt.Errorf("%s could not be opened, so which member it was is not known: name the missing one by its id, as status shows it", name)
		case old.Fsid.IsZero():
			err = e.noMember(name)
		case same != nil && (same.conn != nil || same.closing):
			err = fmt.Errorf("%s is in use: take it offline first", with.Name)
		case same != nil && same.fsid != old.Fsid && e.belongs(same):
			err = fmt.Errorf("%s is another member", with.Name)
		}
	})
	return old, err
}

// prepare makes the device an empty member. It may be that of the member replaced.
func (e *engine) prepare(ctx context.Context, with MemberSpec, fresh Member, replaced ondisk.UUID, force bool) error {
	devs, err := with.Open(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", with.Name, err)
	}
	closeAll := func() error {
		var err error
		for _, d := range devs {
			err = errors.Join(err, d.Close())
		}
		return err
	}
	err = e.canHold(ctx, devs)
	if err == nil {
		err = e.noCopy(ctx, devs, replaced)
	}
	if err == nil && !force {
		err = mustBeEmpty(ctx, devs)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", with.Name, err), closeAll())
	}
	spec := chain.PFSSpec{Label: e.label(), Type: fresh.Role, Clid: e.clusterID(), Fsid: fresh.Fsid}
	if _, err := chain.Format(ctx, devs, chain.FormatOptions{Labels: []chain.PFSSpec{spec}}); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", with.Name, err), closeAll())
	}
	vol, err := chain.Open(ctx, devs, chain.Options{Logger: e.log})
	if err != nil {
		return fmt.Errorf("%s: %w", with.Name, err)
	}
	t, err := vol.Begin(ctx)
	if err == nil {
		if err = t.SetState(ondisk.StateEntry{Fsid: fresh.Fsid, Incarnation: fresh.Incarnation}); err == nil {
			err = t.Commit(ctx)
		} else {
			t.Abort()
		}
	}
	return errors.Join(err, vol.Close())
}

func (e *engine) label() (label string) {
	e.ask(func() { label = e.o.Label })
	return label
}

func (e *engine) clusterID() (id ondisk.UUID) {
	e.ask(func() { id = e.clid })
	return id
}

// promoteAgain is the pause after a promotion that failed.
const promoteAgain = time.Second

// inSync promotes a member that came to take the place of another, or to
// become a master.
func (e *engine) inSync(m *member) {
	law := e.primary.Charter()
	in, ok := law.Config.Member(m.fsid)
	if !ok || in.Replaces.IsZero() || m.promoting {
		return
	}
	m.promoting = true
	e.tasks.Go(func() {
		err := e.promote(e.ctx, in)
		if err != nil && e.ctx.Err() == nil {
			e.log.Warn("a replacement could not take its place", "member", m.called(), "err", err)
			select { // settle tries again then
			case <-time.After(promoteAgain):
			case <-e.ctx.Done():
			}
		}
		e.post(func() { m.promoting = false })
	})
}

func (e *engine) promote(ctx context.Context, in Member) error {
	return e.reconfigure(ctx, func(now []Member) ([]Member, error) {
		at := slices.IndexFunc(now, func(m Member) bool { return m.Fsid == in.Fsid })
		if at < 0 {
			return nil, errors.New("it was removed meanwhile")
		}
		if in.Replaces == in.Fsid {
			now[at].Role = ondisk.PFSMaster
		} else if old := slices.IndexFunc(now, func(m Member) bool { return m.Fsid == in.Replaces }); old >= 0 {
			now[at].Role = now[old].Role
		}
		now[at].Replaces = ondisk.UUID{}
		return slices.DeleteFunc(now, func(m Member) bool { return m.Fsid == in.Replaces && m.Fsid != in.Fsid }), nil
	})
}
