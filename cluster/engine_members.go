package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// errNotClustered: what changes the members needs a cluster that is written.
var errNotClustered = errors.New("only a cluster that is mounted for writing can change its members: " +
	"a filesystem of one copy has none (anvilfs newfs makes a cluster)")

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
	law, err := e.law(func() error {
		if m := e.byName(with.Name); m != nil && (m.conn != nil || m.closing || !m.fsid.IsZero()) {
			return fmt.Errorf("%s is a member already", with.Name)
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
	if err := e.prepare(ctx, with, fresh, force); err != nil {
		return err
	}
	if err := e.reconfigure(ctx, append(slices.Clone(law.Config.Members), fresh)); err != nil {
		return err
	}
	return e.enroll(ctx, with)
}

// enroll opens a device that the configuration knows now.
func (e *engine) enroll(ctx context.Context, with MemberSpec) error {
	ok := e.ask(func() {
		for _, m := range e.members {
			if m.spec.Name == with.Name { // the place of an old device
				m.spec, m.fsid, m.flags = m.metered(with), ondisk.UUID{}, 0
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

// law returns the charter in force, if check finds nothing against it.
func (e *engine) law(check func() error) (law *Charter, err error) {
	err = ErrPoolClosed
	e.ask(func() {
		if err = check(); err == nil {
			law = e.primary.Charter()
		}
	})
	return law, err
}

// configured finds who of the configuration is meant.
func (e *engine) configured(name string) (in Member, law *Charter, err error) {
	if e.solo || e.o.ReadOnly {
		return in, nil, errNotClustered
	}
	law, err = e.law(func() error { return nil })
	if err != nil {
		return in, nil, err
	}
	var fsid ondisk.UUID
	e.ask(func() {
		if m := e.byName(name); m != nil {
			fsid = m.fsid
		}
	})
	for _, m := range law.Config.Members {
		if m.Fsid == fsid && !fsid.IsZero() || m.Fsid.String() == name {
			return m, law, nil
		}
	}
	return in, nil, fmt.Errorf("%s is no member of the cluster", name)
}

// remove takes a member out of the cluster for good.
func (e *engine) remove(ctx context.Context, name string) error {
	in, law, err := e.configured(name)
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(law.Config.Members), func(m Member) bool {
		return m.Fsid == in.Fsid || m.Replaces == in.Fsid
	})
	if err := e.holds(rest, "without "+name); err != nil {
		return err
	}
	return e.reconfigure(ctx, rest)
}

// setRole makes a slave a master, or a master a slave.
func (e *engine) setRole(ctx context.Context, name string, role ondisk.PFSType) error {
	in, law, err := e.configured(name)
	if err != nil {
		return err
	}
	if in.Role == role {
		return fmt.Errorf("%s is a %v already", name, role)
	}
	members := slices.Clone(law.Config.Members)
	for i := range members {
		if members[i].Fsid == in.Fsid {
			members[i].Role, members[i].Replaces = role, ondisk.UUID{}
		}
	}
	if role == ondisk.PFSMaster && !e.synced(in.Fsid) {
		return fmt.Errorf("%s is not in sync: a copy that is not complete gets no vote (anvilfs wait resync)", name)
	}
	if err := e.holds(members, fmt.Sprintf("with %s as a %v", name, role)); err != nil {
		return err
	}
	return e.reconfigure(ctx, members)
}

// synced reports whether a member has what is committed.
func (e *engine) synced(id ondisk.UUID) (is bool) {
	e.ask(func() {
		m := e.byFsid(id)
		is = m != nil && m.conn != nil && m.hold == nil && m.flags == 0 && m.state == NodeInSync
	})
	return is
}

// holds refuses members of whom no majority of the masters would be in sync:
// the mount could not go on.
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
