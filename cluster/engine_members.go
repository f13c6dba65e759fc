package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// errNotClustered: what changes the members needs a cluster that is written.
var errNotClustered = errors.New("only a cluster that is mounted for writing can change its members: " +
	"a filesystem of one copy has none (anvilfs umount MNT and anvilfs convert DEVICE make it a cluster, in place)")

// add makes a new device a member. It enters as a slave, which gives no vote to
// a copy that is not complete; one that is to be a master becomes it by itself
// once it is in sync: until then it is noted as taking its own place.
func (e *engine) add(ctx context.Context, with MemberSpec, role ondisk.PFSType, force bool) error {
	if e.solo || e.o.ReadOnly {
		return errNotClustered
	}
	switch role {
	case ondisk.PFSMaster, ondisk.PFSSlave, ondisk.PFSSoftSlave, ondisk.PFSSoftMaster:
	default:
		return fmt.Errorf("a member can be added as master, slave, soft slave or soft master, not as %v", role)
	}
	if err := e.notBranch(); err != nil {
		return err
	}
	err := e.check(ctx, func() error {
		switch m := e.byName(with.Name); {
		case m == nil:
			return nil
		case m.conn == nil && e.primary.Changing(): // it may be about to leave
			return errChanging
		case m.conn != nil || e.belongs(m):
			return fmt.Errorf("%s is a member already", with.Name)
		case m.closing:
			return fmt.Errorf("%s: %w", with.Name, errClosing)
		}
		return nil
	})
	if err != nil {
		return err
	}
	fresh := Member{Fsid: ondisk.NewUUID(), Role: ondisk.PFSSlave, Incarnation: ondisk.NewUUID()}
	switch {
	case role == ondisk.PFSMaster:
		fresh.Replaces = fresh.Fsid
	case role.Soft():
		fresh.Role = role
	}
	if err := e.prepare(ctx, with, fresh, ondisk.UUID{}, force); err != nil {
		return err
	}
	err = e.reconfigure(ctx, func(now []Member) ([]Member, error) { return append(now, fresh), nil })
	if err != nil {
		return err
	}
	return e.enroll(ctx, with)
}

// enroll opens a device that the configuration knows now.
func (e *engine) enroll(ctx context.Context, with MemberSpec) error {
	ok := e.ask(func() {
		for _, m := range e.members {
			if m.spec.Name == with.Name { // the place of an old device
				m.spec, m.fsid, m.maybe, m.flags, m.expelled = m.metered(with), ondisk.UUID{}, nil, 0, false
				m.enter(NodeOffline, "", "")
				return
			}
		}
		e.members = append(e.members, newMember(len(e.members), with, NodeOffline))
	})
	if !ok {
		return ErrPoolClosed
	}
	return e.online(ctx, with.Name)
}

// check asks the loop whether something may be done.
func (e *engine) check(ctx context.Context, may func() error) error {
	return e.patiently(ctx, func() error {
		err := ErrPoolClosed
		e.ask(func() { err = may() })
		return err
	})
}

// configured finds who of the configuration is meant. The caller is the loop.
func (e *engine) configured(name string) (in Member, err error) {
	var fsid ondisk.UUID
	if m := e.byName(name); m != nil {
		fsid = m.fsid
	}
	for _, m := range e.primary.Charter().Config.Members {
		if m.Fsid == fsid && !fsid.IsZero() || m.Fsid.String() == name {
			return m, nil
		}
	}
	return in, e.noMember(name)
}

// belongs reports whether m is of the configuration, open or not. One that was
// removed keeps its line in the status, and can be added again. The caller is
// the loop.
func (e *engine) belongs(m *member) bool {
	law := e.charter()
	if law == nil {
		return false
	}
	_, ok := law.Config.Member(m.fsid)
	return ok
}

// charter is what the primary goes by; nil: there is none. The caller is the loop.
func (e *engine) charter() *Charter {
	if e.primary == nil {
		return nil
	}
	return e.primary.Charter()
}

// remove takes a member out of the cluster for good. When it returns, its
// device is closed, unless that does not answer.
func (e *engine) remove(ctx context.Context, name string) error {
	if e.solo || e.o.ReadOnly {
		return errNotClustered
	}
	var in Member
	err := e.reconfigure(ctx, func(now []Member) (rest []Member, err error) {
		if in, err = e.configured(name); err != nil {
			return nil, err
		}
		rest = slices.DeleteFunc(now, func(m Member) bool { return m.Fsid == in.Fsid || m.Replaces == in.Fsid })
		return rest, e.holds(rest, "without "+name)
	})
	if err != nil {
		return err
	}
	var closed <-chan struct{}
	e.ask(func() {
		if m := e.byFsid(in.Fsid); m != nil && m.closing {
			closed = m.closed
		}
	})
	if closed == nil {
		return nil
	}
	hung := time.NewTimer(e.deadline)
	defer hung.Stop()
	select {
	case <-closed:
	case <-hung.C:
		e.log.Warn("the member is removed, but its device does not answer: it is still open", "member", name)
	case <-ctx.Done():
	}
	return nil
}

// setRole makes a slave a master, or a master a slave.
func (e *engine) setRole(ctx context.Context, name string, role ondisk.PFSType) error {
	if e.solo || e.o.ReadOnly {
		return errNotClustered
	}
	return e.reconfigure(ctx, func(now []Member) ([]Member, error) {
		in, err := e.configured(name)
		switch {
		case err != nil:
			return nil, err
		case in.Role == role:
			return nil, fmt.Errorf("%s is a %v already", name, role)
		case role == ondisk.PFSMaster && !e.synced(in.Fsid):
			return nil, fmt.Errorf("%s is not in sync: a copy that is not complete gets no vote: anvilfs wait resync MNT returns when it is", name)
		}
		for i := range now {
			if now[i].Fsid == in.Fsid {
				now[i].Role, now[i].Replaces = role, ondisk.UUID{}
			}
		}
		return now, e.holds(now, fmt.Sprintf("with %s as a %v", name, role))
	})
}

// synced reports whether a member has what is committed. The caller is the loop.
func (e *engine) synced(id ondisk.UUID) bool {
	m := e.byFsid(id)
	return m != nil && m.conn != nil && m.hold == nil && m.flags == 0 && m.state == NodeInSync
}

// holds refuses members of whom no majority of the masters would be in sync:
// the mount could not go on. The caller is the loop.
func (e *engine) holds(members []Member, change string) error {
	masters := 0
	for _, m := range members {
		if m.Role == ondisk.PFSMaster {
			masters++
		}
	}
	if masters == 0 {
		return fmt.Errorf("%s there is no master left", change)
	}
	cfg := Config{Members: members}
	if !cfg.HasQuorum(e.synced) {
		return fmt.Errorf("%s there is no quorum: bring another master in sync first", change)
	}
	return nil
}
